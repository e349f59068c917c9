"""Run lengths that do not fill their image, or that stand where a polygon's points should."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from seamline.ingest.canonical.boxless import look_at
from seamline.ingest.canonical.checks import fills, text_to_runs
from seamline.ingest.canonical.contradictions import MAX_EDGE, Box, area_is, largest_difference, own_box
from seamline.ingest.canonical.dress import DRESSED
from seamline.masks.rle import Rle, segmentation_to_rle

FINISHED = "annotation: its RLE lacked its last run, or had a wrong one; all that is left is background"


class Runs(NamedTuple):
    """An RLE of the image, and the reason that its repair is counted under."""

    rle: Rle
    reason: str


def other_runs(segmentation: Any, box: Box | None, area: float | None, height: int, width: int) -> Runs | None:
    """The RLE that is certainly meant by what is none, or is not of its size; None where nothing shows it.

    Args:
        segmentation: an RLE, or polygons that cannot be right.
        box: in pixels.
        area: in pixels, where it may say something of the mask.
        height: of the image.
        width: of the image.
    """
    pixels = height * width
    if isinstance(segmentation, dict):
        if segmentation.get("size") != [height, width] or fills(segmentation.get("counts"), pixels):
            return None
        rle = finished(segmentation.get("counts"), box, area, height, width)
        return None if rle is None else Runs(rle, FINISHED)
    runs = polygon_to_runs(segmentation, pixels)
    if runs is None:
        return None
    if fills(runs, pixels):
        return Runs({"size": [height, width], "counts": runs}, DRESSED)
    rle = finished(runs, box, area, height, width)
    if rle is None:
        return None
    # Every other coordinate of a polygon may add up to about its area by chance; they make no shape then.
    same = area == sum(runs[1::2]) or looks_like_runs(segmentation, pixels)
    if box is not None or same or look_at(rle, area, height, width).order == "columns":
        return Runs(rle, DRESSED)
    return None


def polygon_to_runs(segmentation: Any, pixels: int) -> list[int] | None:
    """One list of whole numbers that together are at most as many as the pixels of the image."""
    if not isinstance(segmentation, list) or len(segmentation) != 1 or not isinstance(segmentation[0], list):
        return None
    runs = segmentation[0]
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) > pixels:
        return None
    return runs


def looks_like_runs(segmentation: Any, pixels: int) -> bool:
    """Whether a polygon's numbers fill half of their image or more, which the sum of coordinates hardly does."""
    return sum(polygon_to_runs(segmentation, pixels) or ()) > pixels / 2


def finished(counts: Any, box: Box | None, area: float | None, height: int, width: int) -> Rle | None:
    """An RLE whose last run of background is missing or wrong, with the right one.

    Some tools stop at the garment's last pixel. A text that is cut short looks the same: so its box has to end where
    the mask does, or without a box its area has to be the mask's. None where that is not so.
    """
    runs = text_to_runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, (list, np.ndarray)) or not all(isinstance(run, (int, np.integer)) for run in runs):
        return None
    foreground = [int(run) for run in runs[: len(runs) // 2 * 2]]
    full = {"size": [height, width], "counts": [*foreground, height * width - sum(foreground)]}
    if not fills(full["counts"], height * width):
        return None
    mask = segmentation_to_rle(full, height, width)
    if box is not None:
        return full if largest_difference(box, own_box(mask)) <= MAX_EDGE else None
    return full if area is not None and area_is(area, int(coco_mask.area(mask))) else None
