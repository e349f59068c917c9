"""Garments with their attributes, as the attributes stage wrote them: what is trained on, and measured on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import read_json
from seamline.base.parallel import in_threads
from seamline.base.splits import SPLITS
from seamline.images.reading import Image, read_image

Ints = npt.NDArray[np.int64]
MISSING = -1  # the label of a garment whose value nobody knows
ABOUT, TABLE, PHOTOS = "attributes.json", "garments.csv", "photos"


class Example(NamedTuple):
    """One garment, which has been cut out of its photo already."""

    id: str
    photo: Path  # what was cut out
    file_name: str  # of the photo that it was cut out of
    group: str  # garments of one group are in one split, and drawn together
    box: tuple[float, float, float, float] | None  # x1, y1, x2, y2 in pixels of that photo; None: all of it
    labels: tuple[int, ...]  # index of the value of each attribute, or MISSING


class Labelled(NamedTuple):
    attributes: dict[str, list[str]]  # {}: there are none, for the reason in `about`
    about: Record  # attributes.json
    splits: dict[str, list[Example]]


def read_labelled(folder: Path) -> Labelled:
    """
    Raises:
        SeamlineError: when the folder is not one of the attributes stage, or a split has no garment.
    """
    about = read_json(folder / ABOUT)
    if not isinstance(about, dict) or not isinstance(about.get("attributes"), dict):
        raise SeamlineError(f"{folder / ABOUT}: lacks attributes; the attributes stage makes it.")
    attributes: dict[str, list[str]] = about["attributes"]
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    if not attributes:
        return Labelled(attributes, about, splits)
    path = folder / TABLE
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                splits[row["split"]].append(row_to_example(row, attributes, folder / PHOTOS))
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file; the attributes stage makes it.") from None
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise SeamlineError(f"{path}: is not the attributes stage's table ({error}).") from None
    for name, examples in splits.items():
        if not examples:
            raise SeamlineError(f"{path}: has no garment in {name}; give more photos or other ratios of the splits.")
    return Labelled(attributes, about, splits)


def row_to_example(row: dict[str, str], attributes: dict[str, list[str]], photos: Path) -> Example:
    """Raises KeyError for a column that is missing, ValueError for a value that the attribute does not have."""
    sides = [row[side] for side in ("x1", "y1", "x2", "y2")]
    box = (float(sides[0]), float(sides[1]), float(sides[2]), float(sides[3])) if sides[0] else None
    labels = tuple(values.index(row[name]) if row[name] else MISSING for name, values in attributes.items())
    return Example(row["id"], photo_of(photos, row["id"]), row["file_name"], row["group"], box, labels)


def photo_of(photos: Path, garment: str) -> Path:
    """Raises ValueError where there is none."""
    for suffix in (".jpg", ".png"):
        if (path := photos / f"{garment}{suffix}").is_file():
            return path
    raise ValueError(f"there is no photo of {garment!r} in {photos}")


def labels_of(examples: list[Example]) -> Ints:
    """(garments, attributes): index of each value, or MISSING."""
    return np.array([one.labels for one in examples], np.int64)


def groups_of(examples: list[Example]) -> Ints:
    """(garments,): the number of each one's group."""
    return np.unique([one.group for one in examples], return_inverse=True)[1].astype(np.int64)


def images_of(examples: list[Example]) -> list[Image]:
    """What was cut out of the photos, BGR."""
    return list(in_threads(read_image, [one.photo for one in examples]))
