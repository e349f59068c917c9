"""Non-maximum suppression: of boxes of one class that overlap, the best one."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from seamline.models.arrays import Floats

NMS_BLOCK = 32  # boxes
FEW_BOXES = 128


def non_maximum_suppression(
    corners: Floats, scores: Floats, classes: npt.NDArray[np.int64], iou: float, most: int
) -> npt.NDArray[np.int64]:
    """Indices of the boxes that are left, best first, at most `most`; boxes suppress only others of their class.

    Which of the best candidates are left does not depend on weaker ones, so the weaker ones are looked at only where
    the best ones were not enough. OpenCV's NMS is the quickest for few boxes; its time grows with their square.
    """
    if len(scores) <= FEW_BOXES:
        sides = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1).tolist()
        found = np.asarray(cv2.dnn.NMSBoxesBatched(sides, scores.tolist(), classes.tolist(), 0.0, iou), dtype=np.int64)
        return found[np.argsort(-scores[found], kind="stable")][:most]
    order = np.argsort(-scores, kind="stable")
    looked_at = 4 * most + FEW_BOXES
    while True:
        best = order[:looked_at]
        left = left_in_order(corners, best, classes[best], iou)
        if len(left) >= most or looked_at >= len(order):
            return left[:most]
        looked_at *= 8


def left_in_order(
    corners: Floats, order: npt.NDArray[np.int64], classes: npt.NDArray[np.int64], iou: float
) -> npt.NDArray[np.int64]:
    left = np.zeros(len(order), dtype=np.bool_)
    for number in np.unique(classes):
        members = np.flatnonzero(classes == number)
        left[members] = not_suppressed(corners[order[members]], iou)
    return order[left]


def not_suppressed(corners: Floats, iou: float) -> npt.NDArray[np.bool_]:
    """For boxes in their order, whether none of the earlier ones that are left overlaps each by more than iou.

    torchvision's rule and arithmetic (f32), block by block: the overlaps of a block with all later boxes at once.
    """
    limit = np.float64(iou)  # not rounded to f32 before it is compared
    left = np.zeros(len(corners), dtype=np.bool_)
    boxes, waiting = np.ascontiguousarray(corners.T), np.arange(len(corners))
    areas = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
    while len(waiting):
        block = min(NMS_BLOCK, len(waiting))
        x1, y1, x2, y2 = boxes[:, :block, None]
        shared = np.maximum(np.minimum(boxes[2], x2) - np.maximum(boxes[0], x1), 0)
        shared *= np.maximum(np.minimum(boxes[3], y2) - np.maximum(boxes[1], y1), 0)
        with np.errstate(divide="ignore", invalid="ignore"):  # two boxes of no area suppress nothing
            over = shared / (areas[:block, None] + areas - shared) > limit
        alive = np.ones(block, dtype=np.bool_)
        for index in np.flatnonzero(over[:, :block].sum(axis=1) > 1):  # those that overlap another than themselves
            if alive[index]:
                alive[index + 1 :] &= ~over[index, index + 1 : block]
        left[waiting[:block][alive]] = True
        stays = ~over[alive, block:].any(axis=0)
        boxes, areas, waiting = boxes[:, block:][:, stays], areas[block:][stays], waiting[block:][stays]
    return left
