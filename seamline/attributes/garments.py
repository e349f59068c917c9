"""Garments with their attributes, in the one form that training reads, wherever they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from seamline.attributes.oddities import Oddities
from seamline.base.escaping import to_spreadsheet
from seamline.base.files import sha256_of, write_csv
from seamline.masks.rle import Rle

COLUMNS = ("id", "file_name", "split", "group", "x1", "y1", "x2", "y2", "has_mask")
Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the photo


class Garment(msgspec.Struct):
    """A garment, or a photo that one fills."""

    id: int
    photo: Path
    file_name: str
    values: dict[str, str | None]  # by attribute; None: missing
    box: Box | None = None  # None: the whole photo
    mask: Rle | None = None
    official: str | None = None  # the split that the source says, or that the garment's photo has in the pipeline
    belongs_to: str | None = None  # those with the same text stay in one split
    group: int = -1
    split: str = ""


class Collected(msgspec.Struct):
    """What a source has."""

    kind: Literal["csv", "annotations"]
    file: str  # the CSV's or the annotations' name
    garments: list[Garment]
    values: dict[str, list[str]]  # of each attribute, in the order of codes
    oddities: Oddities
    names: dict[str, Any]  # the source's own names of columns, and codes
    rows: int = 0  # of the CSV, or annotations
    photos: int = 0


def garments_to_csv(path: Path, garments: Sequence[Garment], attributes: Sequence[str]) -> None:
    """A row a garment, in the order of their ids."""

    def to_row(one: Garment) -> list[object]:
        box = ["", "", "", ""] if one.box is None else [round(side, 2) for side in one.box]
        values = [one.values.get(name) or "" for name in attributes]
        return [one.id, to_spreadsheet(one.file_name), one.split, one.group, *box, int(one.mask is not None), *values]

    write_csv(path, (*COLUMNS, *attributes), map(to_row, garments))


def hash_of_data(table: Path, photos: Sequence[Path]) -> str:
    """SHA-256 of a table and of photos in their order: what a training depends on."""
    digest = hashlib.sha256(sha256_of(table).encode())
    for photo in photos:
        digest.update(f"{photo.name} {sha256_of(photo)}\n".encode())
    return digest.hexdigest()


def first_codes(values: Mapping[str, str | None] | None, names: Sequence[str]) -> dict[str, str]:
    """The code that the source has for each value; the first where several have become one."""
    if values is None:
        return {name: name for name in names}
    return {name: next(code for code, other in values.items() if other == name) for name in names}
