"""What was repaired and dropped on the way to the canonical dataset: counted by reason, and listed record by record."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

from seamline.base.escaping import to_spreadsheet
from seamline.base.files import write_csv

Verb = Literal["repaired", "dropped"]


class Place(NamedTuple):
    """Where in the source something was changed, in its own words, so that it can be found and mended there."""

    annotation_file: str
    image: str = ""  # its file_name
    image_id: object = ""
    annotation_id: object = ""


class Change(NamedTuple):
    verb: Verb
    reason: str  # "image: ...", "annotation: ..." or "category: ..."
    place: Place


class Changes:
    """Every change in the order in which it was made."""

    def __init__(self) -> None:
        self.rows: list[Change] = []

    def drop(self, reason: str, place: Place) -> None:
        self.rows.append(Change("dropped", reason, place))

    def repair(self, reason: str, place: Place) -> None:
        self.rows.append(Change("repaired", reason, place))

    def counts(self, verb: Verb) -> dict[str, int]:
        """How many there are of each reason, by reason."""
        return dict(sorted(Counter(change.reason for change in self.rows if change.verb == verb).items()))

    def write(self, path: Path) -> None:
        """As CSV, photo by photo; people open it with a spreadsheet, which must not find a formula in a name."""
        ordered = sorted(self.rows, key=lambda change: (change.place.annotation_file, change.place.image))
        columns = ("change", "reason", *Place._fields)
        rows = ([change.verb, change.reason, *map(to_spreadsheet, change.place)] for change in ordered)
        write_csv(path, columns, rows)
