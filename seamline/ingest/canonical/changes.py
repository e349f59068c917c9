"""What was repaired and dropped on the way to the canonical dataset: counted by reason, and listed record by record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from seamline.base.escaping import to_spreadsheet
from seamline.base.files import write_csv

Verb = Literal["repaired", "dropped", "left out"]
NO_RECORD = "file: no record names it"


class Place(NamedTuple):
    """Where in the source something was changed, in its own words, so that it can be found and mended there."""

    annotation_file: str
    image: str = ""  # its file_name
    image_id: object = ""
    annotation_id: object = ""


class Change(NamedTuple):
    verb: Verb
    reason: str  # "image: ...", "annotation: ...", "category: ..." or "file: ..."
    place: Place
    detail: str = ""  # the values that the reason speaks of


class Changes:
    """Every change in the order in which it was made."""

    def __init__(self) -> None:
        self.rows: list[Change] = []

    def drop(self, reason: str, place: Place, detail: str = "") -> None:
        self.rows.append(Change("dropped", reason, place, detail))

    def repair(self, reason: str, place: Place, detail: str = "") -> None:
        self.rows.append(Change("repaired", reason, place, detail))

    def leave(self, files: Sequence[str]) -> None:
        """Pictures without a record, by their place in the source."""
        self.rows += [Change("left out", NO_RECORD, Place("", file)) for file in files]

    def left(self) -> list[str]:
        return [change.place.image for change in self.rows if change.verb == "left out"]

    def counts(self, verb: Verb) -> dict[str, int]:
        """How many there are of each reason, by reason."""
        return dict(sorted(Counter(change.reason for change in self.rows if change.verb == verb).items()))

    def write(self, path: Path) -> None:
        """As CSV, photo by photo; people open it with a spreadsheet, which must not find a formula in a name.

        First those of whole files, such as categories; last the pictures without a record.
        """
        ordered = sorted(
            self.rows,
            key=lambda change: (change.verb == "left out", change.place.annotation_file, change.place.image),
        )
        columns = ("change", "reason", *Place._fields, "detail")
        rows = (
            [change.verb, change.reason, *map(to_spreadsheet, (*change.place, change.detail))] for change in ordered
        )
        write_csv(path, columns, rows)
