"""An R-CNN's masks: a grid of probabilities over each box, enlarged to the image's own pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seamline.models.arrays import Floats
from seamline.models.detections import Crop, Runs
from seamline.models.enlarging import NO_RUNS, SMALL_PIXELS, Cells, cells_along, logit_to_crop, logits_to_runs

PADDING = 1  # cells of background around a grid, so that a mask may end at its box
THRESHOLD = 0.5  # a pixel of a higher probability is part of the mask


def paste_masks(
    probabilities: Floats, chosen: npt.NDArray[np.int64], boxes: Floats, height: int, width: int
) -> list[Crop | Runs]:
    """Masks in the image's pixels: where the grid, enlarged bilinearly over its box, is over one half.

    What torchvision's paste_masks_in_image gives at a threshold of one half, its rounding of boxes to whole pixels
    included, by which a mask may end up to a pixel beyond its box.

    Args:
        probabilities: (n, side, side), from 0 to 1.
        chosen: which of them.
        boxes: theirs, (chosen, 4), in pixels of the image, and reaching beyond it where they do.
        height, width: of the image.
    """
    side = probabilities.shape[-1]
    pasted = expanded(boxes, (side + 2 * PADDING) / side)
    return [
        paste(np.pad(probabilities[index], PADDING) - np.float32(THRESHOLD), box, height, width)
        for index, box in zip(chosen.tolist(), pasted.tolist(), strict=True)
    ]


def expanded(boxes: Floats, scale: float) -> npt.NDArray[np.int64]:
    """First and last column and row of pixels of boxes that are enlarged about their centres, as torchvision does."""
    centres = (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)
    halves = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5) * np.float32(scale)
    return np.concatenate((centres - halves, centres + halves), axis=1).astype(np.int64)


def paste(logit: Floats, box: list[int], height: int, width: int) -> Crop | Runs:
    """One grid over its box (first column, first row, last column, last row), cut to the image."""
    left, top, right, bottom = box
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(right + 1, width), min(bottom + 1, height)
    if x1 >= x2 or y1 >= y2:
        return NO_RUNS
    if (x2 - x1) * (y2 - y1) > SMALL_PIXELS:
        # Of all of the image's pixels, as runs are counted in these; columns first, as they go down them.
        rows, columns = cells_of(top, bottom, 0, height, len(logit)), cells_of(left, right, 0, width, len(logit))
        [runs] = logits_to_runs(logit.T[None], [[x1, y1, x2, y2]], rows, columns)
        return runs
    rows, columns = cells_of(top, bottom, y1, y2, len(logit)), cells_of(left, right, x1, x2, len(logit))
    return logit_to_crop(logit, 0, 0, x2 - x1, y2 - y1, rows, columns)._replace(left=x1, top=y1)


def cells_of(first: int, last: int, begin: int, end: int, count: int) -> Cells:
    """Where the image's pixels from begin on lie among cells that fill those from first to last."""
    step = count / (last - first + 1)
    return cells_along(end - begin, (begin - first + 0.5) * step - 0.5, step, 0, count - 1, count)
