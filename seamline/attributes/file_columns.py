"""Which column of a CSV names photos: a wrong one would give every photo another one's attributes."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from seamline.attributes.values import plain_code
from seamline.base.errors import SeamlineError, some
from seamline.base.files import folded
from seamline.ingest.csv_tables import Table, shown
from seamline.ingest.layouts.name_forms import stem_of, suffix_of

USUAL = ("filename", "file_name", "file", "image", "image_name", "image_path", "path", "photo", "img", "id")


class Column(NamedTuple):
    at: int
    hits: int  # photos that it names
    has_endings: bool  # most of its cells end as photos' names do
    is_usual: bool


def file_column_of(table: Table, name: str | None, photos: Sequence[str]) -> int:
    """The position of the column that names photos: the one said, else that which names most of them, each once.

    Numbers of rows and codes may be photos' names without their endings, 0 and 1: a column with endings comes first.

    Raises:
        SeamlineError: when there is none, or two of them may be it.
    """
    if name is not None:
        found = table.column(name)
        if found is None:
            raise SeamlineError(
                f"{table.name}: has no column {shown(name)} (attributes.file_column); there are {some(table.header)}."
            )
        return found
    known = {folded(stem_of(base_of(photo))) for photo in photos}
    columns = [column_to_look(table, at, known) for at in range(len(table.header))]
    named = [one for one in columns if one.hits]
    named = [one for one in named if one.has_endings] or named
    if not named:
        for usual in USUAL:
            found = table.column(usual)
            if found is not None:
                return found
        raise SeamlineError(
            f"{table.name}: no column names photos of the source; name it in attributes.file_column "
            f"({some(table.header)})."
        )
    most = max(one.hits for one in named)
    rivals = [one for one in named if one.hits > most / 2]
    rivals = [one for one in rivals if one.is_usual] or rivals
    best = max(rivals, key=lambda one: one.hits)
    if base_of(table.header[best.at]) in {base_of(photo) for photo in photos}:
        raise SeamlineError(
            f"{table.name}: its first row names the photo {shown(table.header[best.at])}; it has to name the columns."
        )
    if other := next((one for one in rivals if one != best and cells_of(table, one) != cells_of(table, best)), None):
        one, two = (shown(table.header[at]) for at in sorted((best.at, other.at)))
        raise SeamlineError(
            f"{table.name}: the columns {one} and {two} both name photos of the source; say which one is meant in "
            "attributes.file_column."
        )
    return best.at


def column_to_look(table: Table, at: int, known: Collection[str]) -> Column:
    cells = [base_of(row.cells[at]) for row in table.rows if row.cells[at]]
    endings = sum(bool(suffix_of(cell)) for cell in cells)
    hits = {folded(stem_of(cell)) for cell in cells} & set(known)
    is_usual = table.header[at].casefold() in USUAL
    return Column(at, len(hits), 2 * endings >= max(len(cells), 1), is_usual)


def cells_of(table: Table, column: Column) -> list[str]:
    return [folded(stem_of(base_of(row.cells[column.at]))) for row in table.rows]


def file_name(cell: str) -> str:
    """As the folder has it: with / between folders, and 15970 where a spreadsheet has made 15970.0 of it."""
    return plain_code(cell.replace("\\", "/"))


def base_of(cell: str) -> str:
    """The last part of a name, path or address."""
    plain = file_name(cell)
    return (re.split("[?#]", plain)[0] if "://" in plain else plain).rpartition("/")[2]
