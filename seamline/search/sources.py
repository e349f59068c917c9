"""Which photos a catalogue is made of, and what is known of each: a folder, a bucket, a CSV, or a pulled dataset."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from seamline.base.coco import raw_to_record, read_coco
from seamline.base.errors import SeamlineError, some
from seamline.base.splits import SPLITS
from seamline.base.urls import is_remote
from seamline.ingest.csv_tables import Row, read_table
from seamline.photos.finding import Word, find_photos, path_to_photo, shown_path
from seamline.photos.listing import Photo, key_of
from seamline.photos.remote import Remote
from seamline.search.table import check_columns

# Names of a CSV's column with the photos, where none is named.
FILE_COLUMNS = ("file_name", "filename", "file", "photo", "image", "path", "url")
TABLES = (".csv", ".tsv")
NOT_OF_USERS = frozenset(("id", "file_name", "width", "height", "license", "flickr_url", "coco_url", "date_captured"))


class Listed(NamedTuple):
    photo: Photo
    values: list[str | None]  # in the listing's columns
    split: str | None = None
    reason: str = ""  # why it cannot be used, where that is known already


class Listing(NamedTuple):
    photos: list[Listed]
    columns: list[str]
    oddities: list[tuple[str, str]]  # what was found twice, and which line counts
    passed_over: Counter[tuple[str, str]]


def find_listing(source: str, file_column: str | None, splits: Mapping[str, str], remote: Remote) -> Listing:
    """The photos of a source: a CSV, the folder of a pulled dataset, or what `seamline predict` finds there.

    A photo is known by its name below the source, so that what is made of it is the same wherever the source lies.

    Args:
        file_column: of a CSV, with the photos' names; None: the first that is called as in FILE_COLUMNS.
        splits: of a pulled dataset, by file name.

    Raises:
        SeamlineError: when there is no photo, or a list cannot be read.
    """
    path = Path(source)
    if is_remote(source):
        found = words_to_listing([source], remote)
    elif path.suffix.lower() in TABLES and path.is_file():
        found = csv_to_listing(path, file_column, remote)
    elif (path / "annotations.json").is_file() and (path / "images").is_dir():
        found = dataset_to_listing(path, splits)
    else:
        found = words_to_listing([source], remote)
        folder = path.parent if path.is_file() else path
        found = found._replace(photos=[relative(one, folder) for one in found.photos])
    photos = [one._replace(photo=one.photo._replace(key=key_of(one.photo.name))) for one in found.photos]
    return found._replace(photos=photos)


def with_csv(source: str, name: str | None) -> str:
    """A source, or the table in it: the folder is what DVC watches, photos and table.

    Raises:
        SeamlineError: when there is no such table.
    """
    if name is None:
        return source
    path = Path(source) / name
    if is_remote(source) or path.suffix.lower() not in TABLES or not path.is_file():
        raise SeamlineError(f"catalogue.csv: {name!r} is not a .csv or .tsv file in the folder {source!r}.")
    return str(path)


def words_to_listing(words: Sequence[str], remote: Remote) -> Listing:
    """What the words name, as `seamline predict` takes them."""
    found = find_photos(map(Word, words), Path(os.devnull), remote)
    return Listing([Listed(photo, []) for photo in found], [], [], found.passed_over)


def relative(one: Listed, folder: Path) -> Listed:
    name = shown_path(Path(os.path.relpath(one.photo.place, folder)))
    return one._replace(photo=one.photo._replace(name=name))


def dataset_to_listing(folder: Path, splits: Mapping[str, str]) -> Listing:
    """A dataset as pull writes it: every plain field of its photos' records is a column."""
    coco = read_coco(folder / "annotations.json")
    refs = coco.image_refs()
    records = [raw_to_record(raw) for raw in coco.images]
    columns = sorted({key for record in records for key in record if key not in NOT_OF_USERS})
    columns = [name for name in columns if name.strip() and any(is_plain(record.get(name)) for record in records)]
    photos = [
        Listed(
            local_photo(ref.file_name, folder / "images" / ref.file_name),
            [to_cell(record.get(name)) for name in columns],
            splits.get(ref.file_name),
        )
        for ref, record in sorted(zip(refs, records, strict=True), key=lambda pair: pair[0].id)
    ]
    return Listing(photos, check_columns(columns, str(folder / "annotations.json")), [], Counter())


def is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)


def to_cell(value: object) -> str | None:
    """A field's value as text, 1.0 as 1; None for what is not plain."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return str(value) if is_plain(value) else None


def local_photo(name: str, path: Path) -> Photo:
    try:
        found = path_to_photo(path)
    except (OSError, ValueError):  # a zero byte
        return Photo(name, str(path), "", None, key_of(f"{os.path.realpath(path.parent)}/{path.name}"))
    return found._replace(name=name)


def csv_to_listing(path: Path, file_column: str | None, remote: Remote) -> Listing:
    """A table with a photo in each row, and columns of the user's own; names are relative to the table's folder.

    Raises:
        SeamlineError: when it is not a table, or has no column with photos.
    """
    try:
        table = read_table(path, str(path))
    except OSError as error:
        raise SeamlineError(f"{path}: cannot be read ({error.strerror}).") from None
    index = index_of_files(table.header, file_column, path)
    columns = check_columns([name for place, name in enumerate(table.header) if place != index], str(path))
    found = rows_to_listing(table.rows, index, columns, path, remote)
    return found._replace(oddities=[*((str(path), f"{note}.") for note in table.notes), *found.oddities])


def index_of_files(header: Sequence[str], file_column: str | None, path: Path) -> int:
    if file_column is not None:
        if file_column not in header:
            raise SeamlineError(f"{path}: has no column {file_column!r}; it has {some(header)}.")
        return header.index(file_column)
    names = [name.lower() for name in header]
    found = [names.index(name) for name in FILE_COLUMNS if name in names]
    if not found:
        raise SeamlineError(
            f"{path}: none of its columns is called {', '.join(FILE_COLUMNS[:-1])} or {FILE_COLUMNS[-1]}; "
            "name the one with the photos (catalogue.file_column, --file-column)."
        )
    return found[0]


def joined(listings: Sequence[Listing]) -> Listing:
    """Several listings as one; a photo that is in two of them has the values of both, of a column in both the later."""
    columns = list(dict.fromkeys(name for listing in listings for name in listing.columns))
    found: dict[str, Listed] = {}
    for listing in listings:
        positions = [columns.index(name) for name in listing.columns]
        for one in listing.photos:
            before = found.get(one.photo.key)
            values: list[str | None] = list(before.values) if before else [None] * len(columns)
            for position, value in zip(positions, one.values, strict=True):
                values[position] = value
            found[one.photo.key] = (before or one)._replace(values=values)
    passed_over = sum((listing.passed_over for listing in listings), Counter[tuple[str, str]]())
    oddities = [oddity for listing in listings for oddity in listing.oddities]
    return Listing(list(found.values()), check_columns(columns, "the tables"), oddities, passed_over)


def rows_to_listing(rows: Sequence[Row], index: int, columns: list[str], path: Path, remote: Remote) -> Listing:
    photos: list[Listed] = []
    first: dict[str, tuple[int, list[str | None]]] = {}
    oddities: list[tuple[str, str]] = []
    for number, cells in rows:
        name = cells[index]
        values = [cell or None for place, cell in enumerate(cells) if place != index]
        if not name:
            oddities.append((f"{path}, row {number}", "names no photo."))
            continue
        photo, reason = cell_to_photo(name, path, remote)
        earlier, before = first.setdefault(photo.key, (number, values))
        if earlier != number:
            other = "the same" if before == values else "other"
            oddities.append(
                (name, f"stands in row {earlier} and, with {other} values, in row {number}; the first counts.")
            )
            continue
        photos.append(Listed(photo, values, None, reason))
    if not photos:
        raise SeamlineError(f"{path}: names no photo.")
    return Listing(photos, columns, oddities, Counter())


def cell_to_photo(name: str, path: Path, remote: Remote) -> tuple[Photo, str]:
    """The photo that a cell names, and why it cannot be used, if that is known."""
    if is_remote(name):
        try:
            found = list(remote.photos(name, Counter()))
        except SeamlineError as error:
            return Photo(name, name, "", None, key_of(name)), str(error)
        if len(found) != 1:
            return Photo(name, name, "", None, key_of(name)), "is not the address of one photo."
        return found[0], ""
    photo = local_photo(name, path.parent / name)
    return photo, "" if photo.stamp else "there is no such file."


def splits_by_name(folder: Path) -> dict[str, str]:
    """Of each photo of the splits, by its file name, the one that it is in; none where there is no such folder."""
    found: dict[str, str] = {}
    for split in SPLITS:
        if (path := folder / f"{split}.json").is_file():
            found |= {ref.file_name: split for ref in read_coco(path).image_refs()}
    return found
