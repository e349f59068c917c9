"""A dataset as arrays, which its charts and tables are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seamline.base.coco import Coco, not_canonical, raw_to_record
from seamline.base.splits import SPLITS
from seamline.masks.rle import Rle, segmentation_to_rle

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


class Table(NamedTuple):
    """A dataset as arrays; classes are numbered by their instances, the most frequent first. No crowd regions."""

    names: list[str]  # of the classes
    split: Counts  # (images,): index into SPLITS
    record: Counts  # (instances,): index into the annotations
    image: Counts  # (instances,): index into the images
    kind: Counts  # (instances,): index into the names
    share: Shares  # (instances,): of its image's pixels, in percent


def table_of(coco: Coco, split_of: Sequence[str]) -> Table:
    row_of: dict[int, int] = {}
    pixels = []
    for row, image in enumerate(coco.image_refs()):
        row_of[image.id] = row
        pixels.append(image.width * image.height)
    categories = coco.category_refs()
    index_of = {category.id: index for index, category in enumerate(categories)}
    found = [
        (index, row_of[one.image_id], index_of[one.category_id], one.area)
        for index, one in enumerate(coco.annotation_refs())
        if not one.iscrowd
    ]
    columns = np.array(found, dtype=np.float64)
    record, image_row, category_index = columns[:, :3].astype(np.int64).T
    order = np.argsort(-np.bincount(category_index, minlength=len(categories)), kind="stable")
    return Table(
        names=[categories[index].name for index in order],
        split=np.array([SPLITS.index(split) for split in split_of], dtype=np.int64),
        record=record,
        image=image_row,
        kind=np.argsort(order)[category_index],
        share=100 * columns[:, 3] / np.array(pixels)[image_row],
    )


def presence(table: Table) -> npt.NDArray[np.bool_]:
    """Which classes an image shows: (images, classes)."""
    shown = np.zeros((len(table.split), len(table.names)), dtype=np.bool_)
    shown[table.image, table.kind] = True
    return shown


def rle_of(coco: Coco, index: int, height: int, width: int) -> Rle:
    """An annotation's mask; SeamlineError where it has none that can be read."""
    record = raw_to_record(coco.annotations[index])
    try:
        return segmentation_to_rle(record.get("segmentation"), height, width)
    except (ValueError, TypeError) as error:  # TypeError: pycocotools', of points that are not numbers
        raise not_canonical(f"annotation {record.get('id')}: its segmentation {error}") from None


def evenly(indices: Counts, count: int) -> Counts:
    """At most `count` of them, the first and the last included."""
    return indices[np.linspace(0, len(indices) - 1, min(len(indices), count)).astype(np.int64)]
