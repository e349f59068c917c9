"""One annotation made canonical: repaired where that is certain, else left out under a named reason.

docs/data.md has the table of what is repaired and what is dropped; tests/ingest/test_canonical.py holds every row of
it. No mask is ever made from a box, nor is one changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from pycocotools import mask as coco_mask

from seamline.base.coco import Record
from seamline.ingest.canonical.boxless import Look, look_at
from seamline.ingest.canonical.checks import Unusable, is_box, is_number, is_rectangle
from seamline.ingest.canonical.contradictions import (
    BOTH_SWAPPED,
    MIN_AREA_SHARE,
    agreed,
    are_corners,
    area_is_off,
    looks_outside,
    own_box,
    scaled,
    scaled_box,
    swap_axes,
)
from seamline.ingest.canonical.dress import plain_box, plain_segmentation
from seamline.ingest.canonical.judging import READ, Contradiction, Setting, agreeing, are_numbers, touches_border
from seamline.masks.rle import Rle

SHARES = "annotation: its coordinates were shares of the image, turned into pixels"
SCALED = "annotation: its coordinates were those of a photo of another size, scaled"
# What MMDetection leaves out of its training, and evaluations that know the field do not count.
IGNORED = "annotation: says ignore, taken for a crowd, which is not trained on and not counted"
BOX_ONLY = "annotation: has a box and no mask"
AREA_OFF = "annotation: has no box, and its area is under half or over twice that of its mask"
AREA_TAKEN = "annotation: its area was missing or not its mask's, taken from the mask"


class Mended(NamedTuple):
    repairs: list[str]
    rle: Rle
    has_box: bool  # whether there was a box to hold the mask to
    look: Look | None = None  # at an RLE without a box
    has_area: bool = True  # whether its area, at least, was held to the mask
    outside: Sequence[str] = ()  # what its outline looks like where it leaves the image
    fit: float = 1.0  # IoU of box and mask; 1 where they agree but for rounding
    area_off: bool = False  # whether an area was given that cannot be that of the mask


def mend_annotation(record: Record, setting: Setting) -> Mended:
    """Give an annotation a valid segmentation, bbox, area and iscrowd, in place.

    Raises:
        Contradiction: when its box and its mask are not of one thing.
        Unusable: when it cannot be repaired with certainty otherwise.
    """
    repairs: list[str] = []
    given = plain_box(record.get("bbox"))
    segmentation = to_pixels(record, setting, repairs)
    if record.get("isbbox") is True and is_rectangle(segmentation):
        raise Unusable(BOX_ONLY)
    box = scaled_box(given, setting.box_factors) if given and setting.box_factors else given
    if setting.convention == BOTH_SWAPPED and isinstance(segmentation, list) and are_numbers(segmentation):
        segmentation = [swap_axes(polygon) for polygon in segmentation]
        box = box and [box[1], box[0], box[3], box[2]]
        repairs.append(READ)
    look, area_given = None, area_to_trust(record, setting)
    if given is None:
        look = look_at(segmentation, record.get("area"), setting.height, setting.width)
    segmentation, rle, read_box = agreeing(segmentation, box, given, area_given, look, setting, repairs)
    if look is not None and READ in repairs:
        look = look_at(segmentation, record.get("area"), setting.height, setting.width)
    record["segmentation"] = shorter_segmentation(segmentation, rle)
    crowd = record.pop("is_crowd", None)
    crowd = record.get("iscrowd", crowd)
    record["iscrowd"] = crowd_to_number(crowd)
    if crowd is not record["iscrowd"]:
        repairs.append("annotation: iscrowd was missing or no number")
    if record.get("ignore") in (1, "1") and not record["iscrowd"]:  # True is 1
        record["iscrowd"] = 1
        repairs.append(IGNORED)
    own = own_box(rle)
    if read_box is None:
        record["bbox"] = own
        repairs.append("annotation: its box was missing or empty, made from the mask")
    elif are_corners(read_box, own):
        record["bbox"] = own
        repairs.append("annotation: its box was given as corners, made from the mask")
    elif read_box is not given:
        record["bbox"] = read_box
    elif not is_box(record["bbox"]):
        record["bbox"] = given
        repairs.append("annotation: its box was not in COCO's form, put into it")
    area = float(coco_mask.area(rle))
    area_off = area_given is not None and area_is_off(area_given, area, read_box)
    if area_off and given is None and setting.convention == "drop":
        raise Contradiction(AREA_OFF, segmentation, None)
    if not (is_number(record.get("area")) and MIN_AREA_SHARE <= record["area"] / area <= 1 / MIN_AREA_SHARE):
        record["area"] = area
        repairs.append(AREA_TAKEN)
    outside = looks_outside(segmentation, setting.height, setting.width) if touches_border(own, setting) else []
    fit = agreed(read_box, own) if given is not None and read_box is not None else 1.0
    return Mended(repairs, rle, given is not None, look, AREA_TAKEN not in repairs, outside, fit, area_off)


def area_to_trust(record: Record, setting: Setting) -> float | None:
    """The area given, where it may say something of the mask; nobody knows in what units it is beside scaled masks."""
    area: Any = record.get("area")
    if setting.convention == "pixels" or setting.mask_factors or not setting.areas_tell:
        return None
    return area if is_number(area) and area > 0 else None


def to_pixels(record: Record, setting: Setting, repairs: list[str]) -> Any:
    """The segmentation in COCO's form, in pixels where the whole file's coordinates are something else."""
    segmentation = plain_segmentation(record.get("segmentation"), setting.height, setting.width, repairs)
    if not isinstance(segmentation, (list, dict)) or not segmentation:
        raise Unusable(BOX_ONLY if record.get("bbox") else "annotation: has no mask")
    if setting.mask_factors and isinstance(segmentation, list) and are_numbers(segmentation):
        segmentation = scaled(segmentation, setting.mask_factors)
        if is_number(record.get("area")) and (setting.scale_reason == SCALED or record["area"] <= 1):
            record["area"] *= setting.mask_factors[0] * setting.mask_factors[1]
    if setting.scale_reason:
        repairs.append(setting.scale_reason)
    return segmentation


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


def crowd_to_number(crowd: Any) -> int:
    if isinstance(crowd, list) and len(crowd) == 1:
        crowd = crowd[0]
    if crowd is None or crowd in (0, "0"):
        return 0
    if crowd in (1, "1"):
        return 1
    raise Unusable("annotation: iscrowd is neither 0 nor 1")
