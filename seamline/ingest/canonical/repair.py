"""One annotation made canonical: repaired where that is certain, else left out under a named reason.

docs/data.md has the table of what is repaired and what is dropped; tests/ingest/test_canonical.py holds every row of
it. No mask is ever made from a box, nor is one changed.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import msgspec
import numpy as np
from pycocotools import mask as coco_mask

from seamline.base.coco import Record
from seamline.masks.rle import Rle, counts_to_runs, segmentation_to_rle

MIN_BOX_IOU = 0.5  # a box that overlaps its mask's own less is another thing's, or corners instead of a size
MIN_AREA_SHARE = 0.5  # likewise; polygons' own areas differ from their masks' by less, those in shares by far more
MAX_RUN_CHARACTERS = 7  # of one number in compressed RLE: 35 bits


class Unusable(Exception):
    """A record that is left out; its text is the reason it is counted under."""


def mend_annotation(record: Record, height: int, width: int) -> list[str]:
    """Give an annotation of an image of this size a valid segmentation, bbox, area and iscrowd, in place.

    Returns:
        What was repaired.

    Raises:
        Unusable: when it cannot be repaired with certainty.
    """
    repairs: list[str] = []
    segmentation, rle = mended_segmentation(record, height, width, repairs)
    record["segmentation"] = shorter_segmentation(segmentation, rle)
    area = float(coco_mask.area(rle))
    if area == 0:
        raise Unusable("annotation: its mask covers no pixel of the image")
    crowd = record.pop("is_crowd", None)
    crowd = record.get("iscrowd", crowd)
    record["iscrowd"] = crowd_to_number(crowd)
    if crowd is not record["iscrowd"]:
        repairs.append("annotation: iscrowd was missing or no number")
    own_box = [float(value) for value in coco_mask.toBbox(rle)]
    box = record.get("bbox")
    if not isinstance(box, list) or not is_box(box) or box_iou(box, own_box) < MIN_BOX_IOU:
        record["bbox"] = own_box
        repairs.append("annotation: its box was missing or not its mask's, made from the mask")
    if not (is_number(record.get("area")) and MIN_AREA_SHARE <= record["area"] / area <= 1 / MIN_AREA_SHARE):
        record["area"] = area
        repairs.append("annotation: its area was missing or not its mask's, taken from the mask")
    return repairs


def mended_segmentation(record: Record, height: int, width: int, repairs: list[str]) -> tuple[Any, Rle]:
    """The segmentation as polygons or RLE that pycocotools takes, and its union as RLE."""
    segmentation = record.get("segmentation")
    if isinstance(segmentation, dict):
        check_rle(segmentation, height, width)
        return segmentation, segmentation_to_rle(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise Unusable("annotation: has a box and no mask" if record.get("bbox") else "annotation: has no mask")
    if all(isinstance(value, (int, float)) for value in segmentation):
        segmentation = [segmentation]
        repairs.append("annotation: its polygon was not in a list")
    polygons = []
    for polygon in segmentation:
        check_polygon(polygon, height, width)
        if len(polygon) >= 6:
            polygons.append(polygon)
    if not polygons:
        raise Unusable("annotation: its polygons have fewer than three points")
    if len(polygons) < len(segmentation):
        repairs.append("annotation: a polygon of fewer than three points left out beside others")
    return polygons, segmentation_to_rle(polygons, height, width)


def shorter_segmentation(segmentation: Any, rle: Rle) -> Any:
    """The segmentation itself, or its union as compressed RLE where that is less text; the mask is the same.

    Outlines traced from pixels are many times as long, and the dataset holds its masks three times: raw, subset, split.
    """
    compressed = {"size": [int(side) for side in rle["size"]], "counts": counts_to_text(rle["counts"])}
    if isinstance(segmentation, dict):
        return compressed
    return min(segmentation, compressed, key=lambda form: len(msgspec.json.encode(form)))


def counts_to_text(counts: bytes | str) -> str:
    return counts if isinstance(counts, str) else counts.decode("ascii")


def check_polygon(polygon: Any, height: int, width: int) -> None:
    """Raises Unusable when a coordinate is not a number, has no partner, or lies absurdly far outside the image."""
    if not isinstance(polygon, list) or not all(is_number(value) for value in polygon):
        raise Unusable("annotation: a coordinate is not a number")
    if len(polygon) % 2:
        raise Unusable("annotation: a polygon has an odd number of coordinates")
    # pycocotools' memory grows with the length of a polygon's edges, and beyond 2**31 it writes where it must not.
    if any(abs(value) > 10 * max(height, width) for value in polygon):
        raise Unusable("annotation: a coordinate lies far outside the image")
    outline = sum(map(abs, map(operator.sub, polygon[2:], polygon)))
    if outline > 1000 * (height + width):
        raise Unusable("annotation: the outline of a polygon is absurdly long")


def check_rle(segmentation: dict[str, Any], height: int, width: int) -> None:
    """Raises Unusable unless the run lengths fill exactly an image of this size; pycocotools does not look."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise Unusable("annotation: its RLE is of another size than its image")
    if isinstance(counts, str):
        runs = text_to_runs(counts)
    elif isinstance(counts, list) and all(type(run) is int and 0 <= run <= height * width for run in counts):
        runs = np.array(counts, dtype=np.int64)
    else:
        runs = None
    if runs is None or (runs < 0).any() or runs.sum() != height * width:
        raise Unusable("annotation: its RLE's runs do not fill its size")


def text_to_runs(counts: str) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Run lengths of compressed RLE; None where the text is not an RLE."""
    if not counts or not all("0" <= character <= "o" for character in counts) or counts[-1] >= "P":
        return None
    if any(len(run) >= MAX_RUN_CHARACTERS for run in continued_runs(counts)):
        return None
    return counts_to_runs(counts)


def continued_runs(counts: str) -> list[str]:
    """The characters before the last one of every number: those that say that more follow."""
    return "".join(character if character >= "P" else " " for character in counts).split()


def crowd_to_number(crowd: Any) -> int:
    if isinstance(crowd, list) and len(crowd) == 1:
        crowd = crowd[0]
    if crowd is None or crowd in (0, "0"):
        return 0
    if crowd in (1, "1"):
        return 1
    raise Unusable("annotation: iscrowd is neither 0 nor 1")


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def is_box(box: list[Any]) -> bool:
    return len(box) == 4 and all(is_number(value) for value in box) and min(box[2:]) > 0


def box_iou(first: list[float], second: list[float]) -> float:
    """Intersection over union of two boxes [left, top, width, height]."""
    sides = [
        max(0.0, min(first[axis] + first[axis + 2], second[axis] + second[axis + 2]) - max(first[axis], second[axis]))
        for axis in range(2)
    ]
    common = math.prod(sides)
    return common / (first[2] * first[3] + second[2] * second[3] - common)


def whole_number(value: Any) -> int | None:
    """An id as an integer, also from text such as "000042"; None where it is not one that fits 53 bits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None
