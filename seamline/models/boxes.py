"""Boxes as arrays: their forms, and how much they overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]  # (n, 4) as x1, y1, x2, y2


def bboxes_to_boxes(bboxes: Sequence[Sequence[float]]) -> Boxes:
    """Of COCO's x, y, width, height."""
    boxes = np.array(bboxes, np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def box_ious(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    """(n, m) of (n, 4) and (m, 4); 0 where both are empty."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [(one[:, 2:] - one[:, :2]).prod(-1) for one in (boxes, others)]
    whole = areas[0][:, None] + areas[1][None] - shared
    ious: npt.NDArray[np.float64] = np.where(whole > 0, shared / np.maximum(whole, 1e-12), 0.0)
    return ious
