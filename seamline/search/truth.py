"""What a search should find: garments that are one item, found by the detector or not.

Of a dataset with annotations an item is what has one value of a column (pair_id), one of a field of annotations (style,
above 0) and one class. A garment that was annotated and not found is there all the same. Of photos with a column alone,
garments of one class in photos of one value are one item, and nobody knows what was not found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError, some
from seamline.models.boxes import bboxes_to_boxes, box_ious
from seamline.params.catalogue import Catalogue as Settings
from seamline.search.catalogue import Catalogue
from seamline.search.table import Row

MATCHED_IOU = 0.5  # of the boxes: what was found is what was annotated
NOT_FOUND = -1


class Photo(NamedTuple):
    number: int  # in the catalogue
    name: str
    split: str | None
    values: dict[str, str | None]
    sha256: str
    vector: bytes  # f16, or b""


class Thing(NamedTuple):
    """A garment that is in a photo."""

    photo: int
    row: int  # in the catalogue, or NOT_FOUND
    item: tuple[str, ...]
    class_name: str
    fields: Record  # of its annotation


def photos_of(catalogue: Catalogue) -> list[Photo]:
    columns = catalogue.columns
    sha256s = dict(catalogue.table.all("SELECT photo, sha256 FROM photos"))
    return [
        Photo(number, name, split, dict(zip(columns, values, strict=True)), str(sha256s[number]), vector or b"")
        for number, name, split, vector, values in catalogue.table.photos()
    ]


def found_to_things(photos: Sequence[Photo], rows: Sequence[Row], item: str) -> list[Thing]:
    """By a column alone."""
    by_name = {photo.name: photo for photo in photos}
    found = []
    for row in rows:
        photo = by_name[row.photo]
        if value := photo.values.get(item):
            found.append(Thing(photo.number, row.row, (value, row.class_name), row.class_name, {}))
    return found


def annotated_to_things(
    photos: Sequence[Photo],
    rows: Sequence[Row],
    item: str,
    same: str | None,
    annotations: Sequence[tuple[str, str, Record]],
) -> list[Thing]:
    """By annotations.

    Args:
        same: their field, which has to be above 0; None: they need none.
        annotations: each with the name of its photo and of its class; crowd regions left out.
    """
    by_name = {photo.name: photo for photo in photos}
    of_photo: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of_photo[row.photo].append(row)
    annotated: dict[str, list[tuple[str, Record]]] = defaultdict(list)
    for name, class_name, record in annotations:
        annotated[name].append((class_name, record))
    things = []
    for name, own in annotated.items():
        photo = by_name.get(name)
        value = photo and photo.values.get(item)
        if photo is None or not value:
            continue
        matched = annotations_to_rows(own, of_photo[name])
        for (class_name, record), number in zip(own, matched, strict=True):
            key = same_value(record, same)
            if key is not None:
                things.append(Thing(photo.number, number, (value, key, class_name), class_name, record))
    return things


def same_value(record: Record, same: str | None) -> str | None:
    """The field's value as text; None where it says that there is not an item, as DeepFashion2 does with 0."""
    if same is None:
        return ""
    value = record.get(same)
    return None if value in (None, 0, "", "0") or isinstance(value, list | dict) else str(value)


def annotations_to_rows(annotated: Sequence[tuple[str, Record]], rows: Sequence[Row]) -> list[int]:
    """The row of each annotation's garment: of its class, the best overlap first, none twice; else NOT_FOUND."""
    boxes = bboxes_to_boxes([record["bbox"] for _, record in annotated])
    ious = box_ious(boxes, np.array([row.box for row in rows], np.float64).reshape(-1, 4))
    pairs = sorted(
        (-float(ious[place, number]), place, number)
        for place, (class_name, _) in enumerate(annotated)
        for number, row in enumerate(rows)
        if row.class_name == class_name
    )
    found, taken = [NOT_FOUND] * len(annotated), set()
    for negative, place, number in pairs:
        if -negative >= MATCHED_IOU and found[place] == NOT_FOUND and number not in taken:
            found[place] = rows[number].row
            taken.add(number)
    return found


def check_chosen(settings: Settings, columns: Sequence[str]) -> None:
    """
    Raises:
        SeamlineError: when questions or answers are chosen by a column that is not there, and recall is measured.
    """
    if settings.item not in columns:
        return
    for key, where in (("questions", settings.questions), ("answers", settings.answers)):
        for name in where or {}:
            if name not in columns:
                raise SeamlineError(
                    f"catalogue.{key}: the catalogue has no column {name!r}; it has {some(sorted(columns))}."
                )


def chosen_photos(photos: Sequence[Photo], where: Mapping[str, str] | None) -> set[int]:
    """Numbers of the photos whose columns have these values; None: all."""
    return {
        photo.number for photo in photos if all(photo.values[name] == value for name, value in (where or {}).items())
    }


def rows_in_order(catalogue: Catalogue) -> list[Row]:
    return catalogue.table.rows_at(np.arange(catalogue.facts.garments).tolist())
