"""A folder of photos that a garment fills, with a CSV that names its attributes: rows joined to photos.

A row is of a photo. What several rows of one photo say is put together; where they contradict each other, the attribute
is missing, since nothing says which is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from seamline.attributes.file_columns import file_column_of, file_name
from seamline.attributes.garments import Collected, Garment, first_codes
from seamline.attributes.oddities import (
    COMPLETED,
    CONTRADICTED,
    CONTRADICTING,
    COPY,
    NAMELESS,
    REPEATED,
    WITHOUT_PHOTO,
    WITHOUT_ROW,
    WITHOUT_VALUE,
    Oddities,
)
from seamline.attributes.values import (
    FEW_VALUES,
    MOST_VALUES,
    Vocabulary,
    cell_to_value,
    check_names,
    label_to_vocabulary,
    ordered_values,
)
from seamline.base.errors import SeamlineError, counted, some
from seamline.base.escaping import to_terminal
from seamline.base.files import folded
from seamline.images.files import SUFFIXES, UNREAD_SUFFIXES, Picture
from seamline.ingest.archives import files_below
from seamline.ingest.canonical.photo_files import read_pictures
from seamline.ingest.csv_tables import Table, read_table, shown
from seamline.ingest.layouts.matching import names_to_paths
from seamline.ingest.layouts.split_names import SPLIT_WORDS
from seamline.params.attributes import Attributes, Label

TABLES = (".csv", ".tsv")
PHOTOS = tuple(SUFFIXES | set(UNREAD_SUFFIXES))


class LabelledRow(NamedTuple):
    """What one row says."""

    row: int
    name: str
    values: dict[str, str | None]
    split: str | None
    group: str | None


def collect(folder: Path, params: Attributes) -> Collected:
    """Photos with the attributes that the source's CSV gives them.

    Raises:
        SeamlineError: when there is no such CSV or column, or a cell cannot be read; it names file, row and value.
    """
    path = csv_of(folder, params.csv)
    table = read_table(path)
    for note in table.notes:
        print(f"{table.name}: {note}")
    photos = [one.relative_to(folder).as_posix() for one in files_below(folder, PHOTOS)]
    if not photos:
        raise SeamlineError(
            f"attributes.source: has no photos beside {table.name}; names of photos end in .jpg, .png ..."
        )
    oddities = Oddities()
    file_column = file_column_of(table, params.file_column, photos)
    vocabularies = vocabularies_of(table, params, file_column)
    rows = labelled_rows(table, params, file_column, vocabularies, oddities)
    of_photo = rows_of_photos(rows, photos, path.relative_to(folder).parent.as_posix(), table.name, oddities)
    for name in sorted(set(photos) - of_photo.keys()):
        oddities.add(WITHOUT_ROW, name=name)
    said = {name: together(name, of_photo[name], table.name, oddities) for name in sorted(of_photo)}
    garments: list[Garment] = []
    for name, one in without_copies(usable_photos(folder, said, oddities), said, table.name, oddities).items():
        if any(value is not None for value in one.values.values()):
            number = len(garments) + 1
            garments.append(Garment(number, folder / name, name, one.values, official=one.split, belongs_to=one.group))
        else:
            oddities.add(WITHOUT_VALUE, one.row, name)
    seen = {one.name: {garment.values[one.name] for garment in garments} - {None} for one in vocabularies}
    values = {one.name: ordered_values({str(value) for value in seen[one.name]}, one) for one in vocabularies}
    names = {
        "file": table.header[file_column],
        "columns": {one.name: table.header[column_of(table, one.field)] for one in vocabularies},
        "codes": {one.name: first_codes(one.values, values[one.name]) for one in vocabularies},
    }
    return Collected("csv", table.name, garments, values, oddities, names, len(table.rows), len(photos))


def csv_of(folder: Path, name: str | None) -> Path:
    found = files_below(folder, TABLES)
    if name is not None:
        path = folder / name
        if path.resolve().is_relative_to(folder.resolve()) and path.is_file():
            return path
        others = some([one.relative_to(folder).as_posix() for one in found]) or "none"
        raise SeamlineError(f"attributes.csv: {name!r} is not in the source; CSV files in it: {others}.")
    if not found:
        raise SeamlineError(
            "attributes.source: has no CSV file (.csv, .tsv) with attributes of its photos, and no annotations.json "
            "that pull has made."
        )
    if len(found) > 1:
        listed = some([one.relative_to(folder).as_posix() for one in found])
        raise SeamlineError(f"attributes.source: has several CSV files ({listed}); name one in attributes.csv.")
    return found[0]


def column_of(table: Table, name: str, parameter: str = "") -> int:
    """The position of a column.

    Raises:
        SeamlineError: when there is none of that name, or several.
    """
    found = table.column(name)
    if found is None:
        raise SeamlineError(f"{table.name}: has no column {shown(name)} ({parameter}); there are {some(table.header)}.")
    return found


def vocabularies_of(table: Table, params: Attributes, file_column: int) -> list[Vocabulary]:
    """The attributes that params name, else all columns that no parameter names otherwise."""
    labels = params.labels
    if labels is None:
        others = {file_column}
        for name in (params.split_column, params.group_by):
            if name is not None:
                others.add(column_of(table, name, "attributes.split_column, attributes.group_by"))
        labels = {name: Label() for at, name in enumerate(table.header) if name and at not in others}
    found = [label_to_vocabulary(name, label, params.missing) for name, label in labels.items()]
    for one in found:
        if column_of(table, one.field, f"attributes.labels.{one.name}") == file_column:
            raise SeamlineError(f"attributes.labels.{one.name}: {one.field!r} is the column that names the photos.")
    if params.labels is None:
        found = [one for one in found if not is_free_text(table, one)]
        check_names({one.name: Label() for one in found})
    if not found:
        raise SeamlineError(f"{table.name}: has no column with attributes; there are {some(table.header)}.")
    return found


def is_free_text(table: Table, one: Vocabulary) -> bool:
    """Whether a column that nobody has named has too many values for an attribute, as numbers of rows; says so."""
    at = column_of(table, one.field)
    cells = [row.cells[at] for row in table.rows if row.cells[at]]
    count = len(set(cells))
    is_one = count > MOST_VALUES or (count > FEW_VALUES and 2 * count > len(cells))
    if is_one:
        print(f"{table.name}: the column {shown(one.field)} has {count} values, and is left out (attributes.labels)")
    return is_one


def labelled_rows(
    table: Table, params: Attributes, file_column: int, vocabularies: Sequence[Vocabulary], oddities: Oddities
) -> list[LabelledRow]:
    """Every row that names a photo, with its values."""
    columns = [(one, column_of(table, one.field)) for one in vocabularies]
    split_at = None if params.split_column is None else column_of(table, params.split_column, "attributes.split_column")
    group_at = None if params.group_by is None else column_of(table, params.group_by, "attributes.group_by")
    found = []
    for row in table.rows:
        name = file_name(row.cells[file_column])
        if not name:
            oddities.add(NAMELESS, row.number)
            continue
        where = f"{table.name}: row {row.number} ({to_terminal(name)})"
        values = {one.name: cell_to_value(row.cells[at], one, where) for one, at in columns}
        split = None if split_at is None else split_of(row.cells[split_at], where)
        group = None if group_at is None else row.cells[group_at] or None
        found.append(LabelledRow(row.number, name, values, split, group))
    return found


def split_of(cell: str, where: str) -> str | None:
    """One of ours; None for a blank cell."""
    if not cell:
        return None
    split = {**SPLIT_WORDS, "dev": "val", "testing": "test"}.get(cell.casefold())
    if split is None:
        raise SeamlineError(
            f"{where}: {shown(cell)} is not a split (attributes.split_column); allowed are train, val, test and blank."
        )
    return split


def rows_of_photos(
    rows: Sequence[LabelledRow], photos: Sequence[str], beside: str, table: str, oddities: Oddities
) -> dict[str, list[LabelledRow]]:
    """The rows of each photo that has some, in their order; its name may be written in several ways."""
    exact = {*photos, *(photo.rpartition("/")[2] for photo in photos)}
    by_key: dict[str, list[LabelledRow]] = {}
    for row in rows:
        by_key.setdefault(row.name if row.name in exact else folded(row.name), []).append(row)
    written = {key: next((row.name for row in own if row.name in exact), own[0].name) for key, own in by_key.items()}
    try:
        matches = names_to_paths(list(dict.fromkeys(written.values())), photos, "" if beside == "." else beside)
    except SeamlineError as error:
        raise SeamlineError(f"{table}: {str(error).partition(', or pull.images')[0].rstrip('.')}.") from None
    found: dict[str, list[LabelledRow]] = {}
    for key, own in by_key.items():
        path = matches.paths.get(written[key])
        if path is not None:
            found.setdefault(path, []).extend(own)
            continue
        for row in own:
            oddities.add(WITHOUT_PHOTO, row.row, row.name)
    if not found:
        raise SeamlineError(
            f"{table}: none of its {counted(len(rows), 'row')} names a photo of the source, such as {shown(photos[0])};"
            f" the first one names {shown(rows[0].name) if rows else 'none'} (attributes.file_column)."
        )
    return {path: sorted(own, key=lambda row: row.row) for path, own in found.items()}


def usable_photos(folder: Path, said: Mapping[str, LabelledRow], oddities: Oddities) -> dict[str, Picture]:
    """Those that the pipeline can read, with what they are."""
    found = {}
    for name, (picture, _) in zip(said, read_pictures([folder / name for name in said]), strict=True):
        if isinstance(picture, str):
            oddities.add(picture, said[name].row, name)
        else:
            found[name] = picture
    return found


def without_copies(
    pictures: Mapping[str, Picture], said: Mapping[str, LabelledRow], table: str, oddities: Oddities
) -> dict[str, LabelledRow]:
    """What is said of each photo and of its copies together: files of the same bytes are one photo."""
    names: dict[str, list[str]] = {}
    for name, picture in pictures.items():
        names.setdefault(picture.sha256, []).append(name)
    for first, *others in names.values():
        for name in others:
            oddities.add(COPY, said[name].row, name, detail=f"of {first}")
    return {
        first: together(first, [said[name] for name in (first, *others)], table, oddities, are_rows=False)
        for first, *others in names.values()
    }


def together(
    name: str, rows: Sequence[LabelledRow], table: str, oddities: Oddities, are_rows: bool = True
) -> LabelledRow:
    """What the rows of a photo say together; of an attribute on which two disagree, nothing.

    Args:
        name: of the photo.
        rows: at least one, or what is said of its copies.
        table: the CSV's name.
        oddities: to which is added what is odd.
        are_rows: rows beyond the first are counted; not so of copies, which are counted as photos.
    """
    values = dict(rows[0].values)
    contradicted: dict[str, set[str]] = {}
    for row in rows[1:]:
        own = {key: value for key, value in row.values.items() if value is not None}
        against = {key: value for key, value in own.items() if values[key] not in (None, value)}
        added = {key: value for key, value in own.items() if values[key] is None}
        if are_rows:
            oddities.add(CONTRADICTING if against else COMPLETED if added else REPEATED, row.row, name)
        for key, value in against.items():
            contradicted.setdefault(key, {str(values[key])}).add(value)
        values |= added
    for key, found in contradicted.items():
        values[key] = None
        oddities.add(CONTRADICTED, rows[0].row, name, key, " or ".join(sorted(found)))
    group = next((row.group for row in rows if row.group is not None), None)
    return LabelledRow(rows[0].row, name, values, split_together(table, rows), group)


def split_together(table: str, rows: Sequence[LabelledRow]) -> str | None:
    """The split that the rows of a photo name.

    Raises:
        SeamlineError: when they name two: nothing says which is right, and one of them leaks.
    """
    said = {row.split: row for row in rows if row.split is not None}
    if len(said) > 1:
        one, other = list(said.values())[:2]
        raise SeamlineError(
            f"{table}: rows {one.row} and {other.row} put one photo, {shown(one.name)}, into the splits {one.split} "
            f"and {other.split}."
        )
    return next(iter(said), None)
