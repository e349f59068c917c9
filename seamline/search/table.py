"""The table of a catalogue in SQLite: photos, their garments, and what users know of them."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seamline.base.errors import SeamlineError
from seamline.search.entries import Entry, Garment, garment_id
from seamline.search.filters import Filters, filters_to_sql
from seamline.search.vectors import Rows, Stored

# User's columns are called c0, c1 and so on: whatever their names are, they are neither names nor text of SQL. What
# statements are put together from here is this module's own words and question marks, which bandit cannot see (B608).
SCHEMA = """
CREATE TABLE photos (photo INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, stamp TEXT,
  sha256 TEXT, width INTEGER, height INTEGER, split TEXT, vector BLOB{columns});
CREATE TABLE garments (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, photo INTEGER NOT NULL, number INTEGER,
  class TEXT, x1 REAL, y1 REAL, x2 REAL, y2 REAL, score REAL, mask TEXT, person INTEGER);
CREATE TABLE attributes (row INTEGER, name TEXT, value TEXT, PRIMARY KEY (row, name)) WITHOUT ROWID;
CREATE TABLE crops (row INTEGER PRIMARY KEY, jpeg BLOB);
CREATE TABLE unusable (key TEXT PRIMARY KEY, name TEXT, reason TEXT);
CREATE INDEX garments_of_photo ON garments (photo);
"""
PHOTO = "photo, key, name, stamp, sha256, width, height, split, vector"
ROW = "row, garments.id, photos.name, number, class, x1, y1, x2, y2, score, mask, person, width, height, split"
MOST_COLUMNS = 500
AT_ONCE = 500  # rows asked for by their numbers
FILTERS_HELD = 8  # whose rows stay in memory


class Counts(NamedTuple):
    photos: int
    garments: int
    unusable: int
    photos_twice: int


@contextlib.contextmanager
def full_disk_errors() -> Iterator[None]:
    """Raises the system's error for a full disk in the place of SQLite's."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None


class TableWriter:
    """Writes a new table in one transaction; the same entries in the same order give the same bytes."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        names = [f"c{index}" for index in range(len(columns))]
        self._connection = sqlite3.connect(path, isolation_level=None)
        # A new file that gets its name when it is whole needs no journal.
        self._connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")
        for statement in SCHEMA.format(columns="".join(f", {name} TEXT" for name in names)).split(";"):
            self._connection.execute(statement)
        self._photos = self._rows = self._unusable = self._twice = 0
        self._names: set[str] = set()
        self._sha256s: set[str] = set()
        self._columns = len(columns)

    def add(self, entry: Entry) -> None:
        """Rows of its garments follow those before.

        Raises:
            OSError: when the disk is full.
        """
        with full_disk_errors():
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        execute = self._connection.execute
        if entry.reason:
            self._unusable += 1
            execute("INSERT OR REPLACE INTO unusable VALUES (?, ?, ?)", (entry.photo, entry.name, entry.reason))
            return
        name = self.free_name(entry)
        photo = (self._photos, entry.photo, name, entry.stamp, entry.sha256, entry.width, entry.height, entry.split)
        execute(
            f"INSERT INTO photos VALUES ({', '.join('?' * (9 + self._columns))})",  # nosec B608
            (*photo, entry.vector or None, *entry.values),
        )
        self._twice += entry.sha256 in self._sha256s
        self._sha256s.add(entry.sha256)
        for garment in entry.garments:
            self._add_garment(name, garment)
        self._photos += 1

    def free_name(self, entry: Entry) -> str:
        """Two photos of one name, named in two folders, differ by the beginning of their keys."""
        name = entry.name if entry.name not in self._names else f"{entry.name} ({entry.photo[:8]})"
        self._names.add(name)
        return name

    def _add_garment(self, name: str, garment: Garment) -> None:
        execute = self._connection.execute
        own = (garment.number, garment.class_name, *garment.box, garment.score, garment.mask, garment.person)
        execute(
            f"INSERT INTO garments VALUES ({', '.join('?' * 12)})",  # nosec B608
            (self._rows, garment_id(name, garment.number), self._photos, *own),
        )
        for attribute in sorted(garment.attributes.items()):
            execute("INSERT INTO attributes VALUES (?, ?, ?)", (self._rows, *attribute))
        if garment.crop:
            execute("INSERT INTO crops VALUES (?, ?)", (self._rows, garment.crop))
        self._rows += 1

    def finish(self) -> Counts:
        with full_disk_errors():
            self._connection.execute("COMMIT")
        self.close()
        return Counts(self._photos, self._rows, self._unusable, self._twice)

    def close(self) -> None:
        self._connection.close()


class Row(NamedTuple):
    """A garment as it is answered with."""

    row: int
    id: str
    photo: str
    number: int
    class_name: str
    box: tuple[float, float, float, float]
    score: float
    mask: str | None
    person: int | None
    width: int
    height: int
    split: str | None
    values: tuple[str | None, ...]  # in the user's columns
    attributes: dict[str, str]


class Table:
    """A table that is only read: nothing beside it is written, so it may be a link to a file that nobody may change.

    Safe from any number of threads, which take turns.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        self._turn = threading.Lock()
        # Looking through 100,000 rows takes as long as all their vectors, and most questions have the same few filters.
        self._rows_where = functools.lru_cache(FILTERS_HELD)(self._find_rows)
        # immutable: neither locks nor files beside it. What takes the file's place is another file, so this one stays.
        address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        try:
            self._connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            self._connection.execute("PRAGMA trusted_schema = OFF")  # a catalogue may come from anybody
            self._connection.text_factory = lambda data: data.decode("utf-8", "replace")
            self.all("SELECT count(*) FROM garments")
        except sqlite3.Error as error:
            raise SeamlineError(f"{path}: cannot be read as the table of a catalogue ({error}).") from None

    def check_count(self, count: int) -> None:
        """
        Raises:
            SeamlineError: when it does not have rows 0 to count - 1: it is of another catalogue than the vectors.
        """
        found = self.all("SELECT count(*), ifnull(min(row), 0), ifnull(max(row), -1) FROM garments")[0]
        if found != (count, 0, count - 1):
            raise SeamlineError(
                f"{self.path}: has {found[0]:,} garments, and the catalogue says {count:,}; it is damaged, make it "
                "again."
            )

    def close(self) -> None:
        with self._turn:
            self._connection.close()

    def all(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._turn:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise SeamlineError(f"{self.path}: cannot be read as the table of a catalogue ({error}).") from None
        except UnicodeEncodeError as error:
            raise SeamlineError(f"{error.object!r} is not Unicode, so nothing in a catalogue is called that.") from None

    def rows_of(self, filters: Filters, classes: Sequence[str]) -> Rows:
        """The rows that meet the conditions, in order."""
        condition, values = filters_to_sql(filters, self.columns, classes, self.attribute_names)
        return self._rows_where(condition, tuple(values))

    def _find_rows(self, condition: str, values: tuple[str, ...]) -> Rows:
        found = self.all(
            f"SELECT row FROM garments JOIN photos USING (photo) WHERE {condition} ORDER BY row",  # nosec B608
            values,
        )
        rows = np.fromiter((row for (row,) in found), np.int64, len(found))
        rows.flags.writeable = False  # others get it, too
        return rows

    def rows_of_photos(self, names: Collection[str]) -> Rows:
        """The rows of all garments of photos of these names, in order."""
        condition, values = filters_to_sql(Filters(columns={"photo": names}), (), (), ())
        return self._find_rows(condition, tuple(values))

    def rows_at(self, rows: Sequence[int]) -> list[Row]:
        """What is known of rows, in the order in which they are named."""
        found: dict[int, Row] = {}
        for start in range(0, len(rows), AT_ONCE):
            part = [int(row) for row in rows[start : start + AT_ONCE]]
            found |= {row.row: row for row in self._read(f"WHERE row IN ({', '.join('?' * len(part))})", part)}
        missing = [row for row in rows if row not in found]
        if missing:
            raise SeamlineError(f"{self.path}: has no row {missing[0]}; the catalogue is damaged, make it again.")
        return [found[int(row)] for row in rows]

    def rows_with_id(self, identity: str) -> list[Row]:
        """The garment of an id, or all of a photo's."""
        return self._read("WHERE garments.id = ? OR photos.name = ? ORDER BY row", (identity, identity))

    def _read(self, condition: str, values: Sequence[Any]) -> list[Row]:
        columns = "".join(f", c{index}" for index in range(len(self.columns)))
        found = self.all(
            f"SELECT {ROW}{columns} FROM garments JOIN photos USING (photo) {condition}",  # nosec B608
            values,
        )
        attributes: dict[int, dict[str, str]] = {cells[0]: {} for cells in found}
        for start in range(0, len(found), AT_ONCE):
            part = [cells[0] for cells in found[start : start + AT_ONCE]]
            marks = ", ".join("?" * len(part))
            for row, name, value in self.all(f"SELECT * FROM attributes WHERE row IN ({marks})", part):  # nosec B608
                attributes[row][name] = value
        return [Row._make((*cells[:5], cells[5:9], *cells[9:15], cells[15:], attributes[cells[0]])) for cells in found]

    def crop(self, row: int) -> bytes:
        """A small JPEG of a garment; b"" where the catalogue has none."""
        found = self.all("SELECT jpeg FROM crops WHERE row = ?", (int(row),))
        return bytes(found[0][0]) if found else b""

    @functools.cached_property
    def attribute_names(self) -> list[str]:
        return [name for (name,) in self.all("SELECT DISTINCT name FROM attributes ORDER BY name")]

    def unusable(self) -> list[tuple[str, str]]:
        """Names of photos that cannot be used, and why."""
        return [(name, reason) for name, reason in self.all("SELECT name, reason FROM unusable ORDER BY rowid")]

    def photos(self) -> list[tuple[int, str, str | None, bytes | None, tuple[str | None, ...]]]:
        """Of each photo its number, name, split, vector and values."""
        columns = "".join(f", c{index}" for index in range(len(self.columns)))
        found = self.all(f"SELECT photo, name, split, vector{columns} FROM photos ORDER BY photo")  # nosec B608
        return [(*cells[:4], tuple(cells[4:])) for cells in found]

    def entries(self, stored: Stored, key: str | None = None) -> Iterator[Entry]:
        """All of the table as it was written; of one photo alone where a key is named."""
        columns = "".join(f", c{index}" for index in range(len(self.columns)))
        chosen, values = ("", ()) if key is None else ("WHERE key = ?", (key,))
        photos = self.all(f"SELECT {PHOTO}{columns} FROM photos {chosen} ORDER BY photo", values)  # nosec B608
        for number, own, name, stamp, sha256, width, height, split, vector, *cells in photos:
            entry = Entry(own, stamp, name, sha256, width, height, split=split, values=cells, vector=vector or b"")
            rows = [row for (row,) in self.all("SELECT row FROM garments WHERE photo = ? ORDER BY row", (number,))]
            entry.garments = [
                Garment(
                    one.number, one.class_name, one.box, one.score, stored[one.row].tobytes(), one.mask, one.person,
                    one.attributes, self.crop(one.row),
                )
                for one in self.rows_at(rows)
            ]  # fmt: skip
            yield entry
        if key is None:
            for own, name, reason in self.all("SELECT key, name, reason FROM unusable ORDER BY rowid"):
                yield Entry(own, "", name, reason=reason)


def check_columns(columns: Iterable[str], what: str) -> list[str]:
    """
    Raises:
        SeamlineError: when a name is empty or there twice, or there are too many.
    """
    names = list(columns)
    if len(names) > MOST_COLUMNS:
        raise SeamlineError(f"{what}: has {len(names):,} columns; at most {MOST_COLUMNS} can be taken over.")
    for index, name in enumerate(names):
        if not name.strip():
            raise SeamlineError(f"{what}: its column {index + 1} has no name.")
        if name in names[:index]:
            raise SeamlineError(f"{what}: has two columns called {name!r}.")
    return names
