"""What was repaired or left out on the way from a source to garments: counted by its reason, listed one by one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from seamline.base.escaping import to_spreadsheet
from seamline.base.files import write_csv

COLUMNS = ("what", "row", "name", "attribute", "detail")

REPEATED = "row: says the same of its photo as another row"
COMPLETED = "row: adds to what another row says of its photo"
CONTRADICTING = "row: contradicts another row of its photo"
CONTRADICTED = "value: contradicted, and therefore missing"
NAMELESS = "row: names no photo"
WITHOUT_PHOTO = "row: its photo is not in the source"
WITHOUT_ROW = "photo: no row names it"
COPY = "photo: the same file as another, taken once"
WITHOUT_VALUE = "garment: none of its attributes has a value"
OTHER_CLASS = "garment: of a class that attributes.classes does not list"
SEVERAL = "value: a list names several of one attribute, and it is therefore missing"


class Oddity(NamedTuple):
    what: str
    row: int | None = None  # of the CSV, as a spreadsheet counts them
    name: str = ""  # of the photo, or the annotation's id
    attribute: str = ""
    detail: str = ""


class Oddities:
    def __init__(self) -> None:
        self.found: list[Oddity] = []

    def add(self, what: str, row: int | None = None, name: str = "", attribute: str = "", detail: str = "") -> None:
        self.found.append(Oddity(what, row, name, attribute, detail))

    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(one.what for one in self.found).items()))

    def write(self, path: Path) -> None:
        """As CSV; people open it with a spreadsheet, which must not find a formula in a name or value."""
        rows = sorted(self.found, key=lambda one: (one.what, one.row or 0, one.name, one.attribute))
        write_csv(path, COLUMNS, ([to_spreadsheet("" if cell is None else cell) for cell in one] for one in rows))
