"""How far the coordinates of an annotation file reach: percent, thousandths and larger photos show in all together.

Masks and boxes that agree with each other say nothing one by one. But garments lie as near to the right and lower edge
of their photos as to the left and upper one, whatever the photos' sizes; coordinates that are not pixels do not.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from seamline.ingest.canonical.contradictions import FRAMES

Numbers = npt.NDArray[np.float64]

MIN_OUTLINES = 6  # before all coordinates together say something
RELATIVE_LIMIT = 1.1  # coordinates in shares of the image may lie a little beyond it
FRAME_LIMIT = 1.02  # and those in percent, of almost all masks
MAX_OTHERS = 0.01  # of the masks; one of ten or more, too
MIN_REACH = 0.6  # of a frame, in both directions; and FULL_REACH in one
FULL_REACH = 0.8
MIN_MARGIN = 0.15  # of the photo, which masks in its upper left corner leave free on the right and below
BEYOND_EDGE = 0.02  # of the photo, and two pixels: outlines that end farther outside leave it
MIN_LEAVING = 4, 0.05  # outlines, and of all, before they are those of larger photos
MAX_FARTHEST = 10.0  # photos from the upper left corner; what lies farther away is another thing


class Reach(NamedTuple):
    """Outlines of a file, as shares: how far they lie from the edges of their photos, and how many leave them."""

    outlines: int
    in_corner: bool  # only in the upper left corner of photos
    right_or_below: int
    left_or_above: int
    only_unswapped: int  # of those on the right or below, that would lie in the photo with y before x
    farthest: float  # of the outlines that leave the photo, in photos; 1 where none does


class Extent(msgspec.Struct):
    """How far the coordinates of a part's masks and boxes reach from zero; 0 where there are none."""

    categories: Counter[Any] = msgspec.field(default_factory=Counter)  # how often each id is used
    mask: float = 0.0
    box: float = 0.0
    box_end: float = 0.0  # right or bottom
    reaches: array[float] = msgspec.field(default_factory=lambda: array("d"))  # of every mask with polygons
    # Left, top, right and bottom of every outline that no box contradicts, with the width and height of its photo.
    bounds: array[float] = msgspec.field(default_factory=lambda: array("d"))
    areas: array[float] = msgspec.field(default_factory=lambda: array("d"))
    follows: bool = False  # whether the boxes bear pull.convention out
    contradicts: bool = False  # whether most of its annotations contradict themselves, where those are to be dropped

    def lie_in(self, limit: float) -> tuple[bool, bool]:
        """Whether all masks, and all boxes, are in shares of the image: up to `limit` for a whole side.

        Pixels lie below 100 and 1000 too: there masks and boxes have to reach equally far, and not as pixels do.
        """
        if limit == 1:
            return 0 < self.mask <= RELATIVE_LIMIT, 0 < self.box <= RELATIVE_LIMIT
        reaches = np.frombuffer(self.reaches) if self.reaches else np.zeros(0)
        within = reaches[reaches <= limit * RELATIVE_LIMIT]
        if not len(within) or len(reaches) - len(within) > most_others(len(reaches)):
            return False, False
        reach = float(within.max())
        alike = self.box_end == 0 or 0.8 * self.mask <= self.box_end <= 1.25 * self.mask
        same = alike and reach >= limit / 2 and not self.look_like_pixels()
        return same, same

    def look_like_pixels(self) -> bool:
        """Whether outlines lie in their photos as garments do; False where there are too few to say it."""
        reach = self.reach()
        return reach.outlines >= MIN_OUTLINES and not reach.in_corner and not reach.right_or_below

    def reach(self) -> Reach:
        left, top, right, bottom, width, height = self.columns()
        count = len(left)
        if not count:
            return Reach(0, False, 0, 0, 0, 1.0)
        slack = BEYOND_EDGE * width + 2, BEYOND_EDGE * height + 2
        after = (right > width + slack[0]) | (bottom > height + slack[1])
        before = (left < -slack[0]) | (top < -slack[1])
        unswapped = after & (right <= height + slack[1]) & (bottom <= width + slack[0])
        margins = [(left / width, 1 - right / width), (top / height, 1 - bottom / height)]
        in_corner = all(np.quantile(end, 0.1) >= max(MIN_MARGIN, 2 * np.quantile(start, 0.1)) for start, end in margins)
        farthest = float(np.maximum(right / width, bottom / height)[after].max(initial=1.0))
        counts = int(after.sum()), int(before.sum()), int(unswapped.sum())
        return Reach(count, in_corner, *counts, farthest)

    def allows(self, factor: float) -> bool:
        """Whether outlines may be multiplied: down if any leaves its photo, up if few would; RLE says nothing."""
        if not self.bounds:
            return True
        if factor < 1:
            return self.reach().right_or_below > 0
        _, _, right, bottom, width, height = self.columns()
        return bool(((right * factor > 1.05 * width + 2) | (bottom * factor > 1.05 * height + 2)).mean() <= 0.1)

    def columns(self) -> Numbers:
        return np.frombuffer(self.bounds).reshape(-1, 6).T if self.bounds else np.zeros((6, 0))

    def frame(self) -> str | None:
        """percent or thousandths, where coordinates look like those; None where they look like pixels."""
        reach = self.reach()
        if reach.outlines < MIN_OUTLINES or not (reach.in_corner or self.are_of_larger_photos(reach)):
            return None
        return next((name for name in ("percent", "thousandths") if self.fill(FRAMES[name], reach.in_corner)), None)

    def fill(self, limit: int, in_corner: bool) -> bool:
        """Whether almost all outlines lie in a frame of this size, and reach equally far in it on both sides.

        Where photos are larger than the frame, that masks lie in their corner is enough. Where they are smaller, masks
        may also be those of larger photos: then they reach farther along the longer sides.
        """
        _, _, right, bottom, width, height = self.columns()
        within = np.maximum(right, bottom) <= FRAME_LIMIT * limit
        if len(within) - within.sum() > most_others(len(within)):
            return False
        right, bottom, width, height = (values[within] for values in (right, bottom, width, height))
        reaches = right.max(), bottom.max()
        if max(reaches) < FULL_REACH * limit or min(reaches) < MIN_REACH * limit:
            return False
        if in_corner:
            return True
        wide = width > height
        long, short = np.where(wide, right, bottom).max(), np.where(wide, bottom, right).max()
        shape = np.median(np.maximum(width, height) / np.minimum(width, height))
        return bool(abs(np.log(long / short)) <= abs(np.log(long / short / shape)))

    def are_of_larger_photos(self, reach: Reach) -> bool:
        """Whether many outlines leave their photos, and only to the right and below."""
        leaving = reach.right_or_below - reach.only_unswapped
        many = leaving >= max(MIN_LEAVING[0], MIN_LEAVING[1] * reach.outlines)
        return many and reach.left_or_above <= leaving / 10 and reach.farthest <= MAX_FARTHEST

    def areas_tell(self) -> bool:
        """Whether areas differ from mask to mask, and are not one number for most of them."""
        if not self.areas:
            return True
        counts = np.unique(np.frombuffer(self.areas), return_counts=True)[1]
        return bool(counts.max() <= len(self.areas) / 2) or len(self.areas) < MIN_OUTLINES


def most_others(count: int) -> float:
    """How many masks may lie outside of a frame: one in a hundred, and one of ten or more."""
    return max(MAX_OTHERS * count, 1.0 if count >= 10 else 0.0)
