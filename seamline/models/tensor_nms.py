"""Non-maximum suppression of a whole batch in tensors, on whatever device they are: nms.py's results, box for box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 512  # boxes of an image that are looked at together


def left_after_suppression(corners: Tensor, classes: Tensor, counts: Tensor, iou: float, most: int) -> Tensor:
    """Which boxes are left, at most `most` in each image; boxes suppress only others of their class.

    Weaker boxes are looked at only where the best ones were not enough, block by block, so memory does not grow with
    the square of their number.

    Args:
        corners: (batch, n, 4) in f32, each image's boxes from the best to the weakest.
        classes: (batch, n).
        counts: (batch,), how many of the n boxes an image has; what is behind them counts for nothing.
        iou: of two boxes of one class that overlap more than this the weaker one is left out.

    Returns:
        (batch, n), boolean.
    """
    import torch

    size = corners.shape[1]
    limit = rounded_down(iou)
    left = torch.zeros(corners.shape[:2], dtype=torch.bool, device=corners.device)
    images = torch.arange(len(corners), device=corners.device)  # that are not finished
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        here, own = corners[images, start:end], classes[images, start:end]
        alive = torch.arange(start, end, device=corners.device) < counts[images, None]
        if start:
            first = left[images].byte().argsort(dim=1, descending=True, stable=True)[:, :most]
            before = corners[images].gather(1, first[..., None].expand(-1, -1, 4))
            over = suppresses(before, classes[images].gather(1, first), here, own, limit)
            alive &= ~(over & left[images].gather(1, first)[..., None]).any(dim=1)
        left[images, start:end] = suppressed_in_order(suppresses(here, own, here, own, limit), alive)
        images = images[(left[images].sum(dim=1) < most) & (counts[images] > end)]
        if not len(images):
            break
    return left & (left.cumsum(dim=1) <= most)


def rounded_down(limit: float) -> float:
    """The largest number of f32 that is not above a limit: overlaps are f32, and are compared with the limit itself."""
    nearest = np.float32(limit)
    return float(nearest if float(nearest) <= limit else np.nextafter(nearest, np.float32(-np.inf)))


def suppresses(first: Tensor, first_classes: Tensor, other: Tensor, other_classes: Tensor, limit: float) -> Tensor:
    """(batch, n, m): whether a box of the first is of the class of one of the others, and overlaps it more than limit.

    torchvision's rule and arithmetic, step by step in f32.
    """
    one, two = first[:, :, None], other[:, None]
    shared = (one[..., 2].minimum(two[..., 2]) - one[..., 0].maximum(two[..., 0])).clamp_(min=0)
    shared *= (one[..., 3].minimum(two[..., 3]) - one[..., 1].maximum(two[..., 1])).clamp_(min=0)
    overlap = shared / (area(one) + area(two) - shared)  # not a number for two boxes of no area: they suppress nothing
    return (overlap > limit) & (first_classes[:, :, None] == other_classes[:, None])


def area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def suppressed_in_order(over: Tensor, alive: Tensor) -> Tensor:
    """Which of the boxes that are alive are left if each suppresses those behind it, beginning with the first.

    A box is left where none that is left suppresses it. Repeated for all boxes at once, that settles them from the
    first on, and what no longer changes is the result. It takes a few rounds, and not a step for each box.

    Args:
        over: (batch, n, n), whether one box (its row) suppresses another (its column).
        alive: (batch, n).
    """
    over = over.triu(diagonal=1)
    left = alive
    while True:
        now = alive & ~(over & left[:, :, None]).any(dim=1)
        if now.equal(left):
            return left
        left = now
