"""Masks as COCO writes them, polygons or RLE, and as rasters.

COCO's masks are unions of polygons that may overlap, come in several parts, or have holes; they are rasterised as
pycocotools does.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

Mask = npt.NDArray[np.uint8]  # (height, width), 0 or 1
Rle = dict[str, Any]  # {"size": [height, width], "counts": bytes or str}

SIGNED = np.array([*range(16), *range(-16, 0)], dtype=np.int64)  # five bits as a number with a sign


def segmentation_to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """The union of COCO polygons, or RLE (compressed or not), as one compressed RLE.

    Raises:
        ValueError: when the segmentation is none of these, or an RLE of another size than the image.
    """
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if isinstance(polygon, list) and len(polygon) >= 6]
        if not polygons:
            raise ValueError("has no polygon of at least three points")
        rles = coco_mask.frPyObjects(polygons, height, width)
        return dict(rles[0]) if len(rles) == 1 else union_of(rles)
    if isinstance(segmentation, dict) and "counts" in segmentation:
        if list(segmentation.get("size", [])) != [height, width]:
            raise ValueError(f"has an RLE of size {segmentation.get('size')} on an image of {[height, width]}")
        if isinstance(segmentation["counts"], list):
            return dict(coco_mask.frPyObjects(segmentation, height, width))
        return dict(segmentation)
    raise ValueError("has no polygons and no RLE")


def union_of(rles: list[Rle]) -> Rle:
    """COCO's meaning of several polygons: a pixel in any of them is in the mask."""
    return dict(coco_mask.merge(rles, intersect=False))


def rle_to_mask(rle: Rle) -> Mask:
    mask: Mask = coco_mask.decode(rle)
    return mask


def rle_to_crop(rle: Rle) -> tuple[Mask, int, int]:
    """The mask inside its bounding box, and that box's left and top; 0 x 0 for an empty mask.

    Most of an image is background: half the time of a conversion went into decoding and comparing background.
    """
    left, top, columns, rows = (int(side) for side in coco_mask.toBbox(rle))
    height, width = (int(side) for side in rle["size"])
    if not rows or left >= width:  # as of empty runs only
        return np.zeros((0, 0), np.uint8), 0, 0
    before, behind = left * height, (width - left - columns) * height  # runs go down the columns
    lengths = counts_to_runs(rle["counts"])
    if lengths[0] < before or (behind and (not len(lengths) & 1 or lengths[-1] < behind)):  # some runs are empty
        ends = np.minimum(np.maximum(np.cumsum(lengths), before), height * width - behind)
        lengths = np.diff(ends, prepend=before)
    else:
        lengths[0] -= before
        lengths[-1] -= behind
    values = (np.arange(len(lengths)) & 1).astype(np.uint8)
    band = np.repeat(values, lengths).reshape(columns, height)
    return np.asarray(cv2.transpose(band[:, top : top + rows]), dtype=np.uint8), left, top


def counts_to_runs(counts: str | bytes) -> npt.NDArray[np.int64]:
    """Run lengths, background first, from compressed RLE text (pycocotools' rleFrString).

    A number is written in groups of five bits, lowest first, each a character from "0" on; a sixth bit says that
    more follow, the last group's fifth is the sign; from the fourth number on it is the difference to the last but one.
    """
    codes = np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, np.uint8) - np.uint8(48)
    ends = (codes < 0x20).nonzero()[0]
    runs: npt.NDArray[np.int64] = SIGNED[codes[ends]]
    lengths = ends.copy()
    lengths[1:] -= ends[:-1]
    lengths[0] += 1
    for place in range(1, int(lengths.max())):  # groups of five bits before the last one, which has the sign
        longer = (lengths > place).nonzero()[0]
        runs[longer] = (runs[longer] << 5) + (codes[ends[longer] - place] & 0x1F)
    runs[1::2].cumsum(out=runs[1::2])
    runs[2::2].cumsum(out=runs[2::2])
    return runs


def mask_to_rle(mask: Mask) -> Rle:
    """Compressed RLE with text counts, as COCO results files hold it."""
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def mask_iou(first: Mask, second: Mask) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = cv2.countNonZero(cv2.bitwise_or(first, second))
    return cv2.countNonZero(cv2.bitwise_and(first, second)) / union if union else 1.0
