"""A photo's entry: its garments with their vectors, or why it cannot be used. A line of a journal, rows of a table."""

from __future__ import annotations

import msgspec

PRECISION_PX, PRECISION_SCORE = 3, 6  # digits, as in COCO results


class Garment(msgspec.Struct):
    number: int  # in its photo, from 1, best score first
    class_name: str
    box: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the photo
    score: float  # of the detection
    vector: bytes  # f16
    mask: str | None = None  # the counts of COCO's RLE
    person: int | None = None
    attributes: dict[str, str] = {}
    crop: bytes = b""  # JPEG


class Entry(msgspec.Struct):
    photo: str  # its key: the same however the photo is named
    stamp: str
    name: str
    sha256: str = ""  # of the photo's bytes
    width: int = 0
    height: int = 0
    garments: list[Garment] = []
    vector: bytes = b""  # f16, of the whole photo, where it was asked for
    reason: str = ""  # why it cannot be used
    again: bool = False  # whether that may be gone another time
    split: str | None = None
    values: list[str | None] = []  # in the user's columns


def garment_id(name: str, number: int) -> str:
    return f"{name}#{number}"
