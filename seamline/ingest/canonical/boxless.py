"""Masks without a box: what their area and their shape still say of how they were written.

The runs of an RLE go down the columns. Where they went along the rows, or are those of the background, no box tells;
but the lines of a shape resemble the lines beside them, and an area is the mask's or that of all the rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seamline.ingest.canonical.checks import fills, is_number, text_to_runs
from seamline.ingest.canonical.contradictions import BOTH_SWAPPED, area_is, checked_rle, looks_outside, readings

Runs = npt.NDArray[np.int64]

CLEAR = 1.5  # times as many changes from line to line as under the other order
NO_BOX: list[float] = [0.0, 0.0, 0.0, 0.0]


class Look(NamedTuple):
    """What is seen of an RLE; None where nothing says it."""

    order: str | None = None  # rows or columns
    side: str | None = None  # inverted or right
    covers_corners: bool = False  # all four of the image, as a background does
    is_rle: bool = False  # one that could be looked at


def look_at(segmentation: Any, area: Any, height: int, width: int) -> Look:
    """What the shape of an RLE, and the area that is given with it, say; nothing of what is not an RLE of the image.

    Args:
        segmentation: RLE; its size may be said in either order.
        area: as the record has it.
        height: of the image.
        width: of the image.
    """
    pixels = height * width
    if not isinstance(segmentation, dict) or segmentation.get("size") not in ([height, width], [width, height]):
        return Look()
    counts = segmentation.get("counts")
    if not fills(counts, pixels):
        return Look()
    runs = text_to_runs(counts) if isinstance(counts, str) else np.array(counts, dtype=np.int64)
    if runs is None:
        return Look()
    own = int(runs[1::2].sum())
    covered = [is_covered(runs, corner) for corner in (0, height - 1, pixels - height, pixels - 1)]
    side = None
    if is_number(area) and area > 0:
        if area_is(area, own):
            side = "right"
        elif any(covered) and area_is(area, pixels - own):  # it may be that of a box
            side = "inverted"
    return Look(order_of(runs, height, width), side, all(covered), is_rle=True)


def order_of(runs: Runs, height: int, width: int) -> str | None:
    """Whether runs go along the rows or down the columns of an image; None where both make as good a shape.

    A pixel is compared with the one that lies a line further on: beside it, if lines are as long as that.
    """
    down, along = changes_at(runs, height), changes_at(runs, width)
    if down > CLEAR * along:
        return "rows"
    return "columns" if along > CLEAR * down else None


def changes_at(runs: Runs, lag: int) -> int:
    """How many pixels differ from the one that comes `lag` pixels later, without drawing the mask.

    Of a set S of N pixels these are |S below N - lag| + |S from lag on| - 2 |S and S shifted by lag|.
    """
    ends = np.concatenate(([0], np.cumsum(runs)))
    covered = np.concatenate(([0], np.cumsum(np.where(np.arange(len(runs)) % 2, runs, 0))))
    total = ends[-1]

    def below(positions: Any) -> Any:
        """How many pixels of the mask lie before these."""
        return np.interp(positions, ends, covered)

    starts, stops = ends[1::2], ends[2::2]
    starts = starts[: len(stops)]
    common = (below(np.minimum(stops + lag, total)) - below(np.minimum(starts + lag, total))).sum()
    return round(float(below(total - lag) + covered[-1] - below(lag) - 2 * common))


def is_covered(runs: Runs, position: int) -> bool:
    return bool(np.searchsorted(np.cumsum(runs), position, side="right") % 2)


def read_at_word(convention: str, segmentation: Any, height: int, width: int) -> Any | None:
    """A mask as a convention reads it where there is no box; None where that makes no mask."""
    for read, _ in readings(convention, segmentation, NO_BOX, height, width):
        if checked_rle(read, height, width) is not None:
            return read
    return None


def applies(
    convention: str, segmentation: Any, look: Look, height: int, width: int, at_word: bool, follows: bool
) -> bool | None:
    """Whether a convention holds for a mask without a box; None where nothing says it.

    Args:
        convention: one of CONVENTIONS.
        segmentation: polygons or RLE.
        look: at it.
        height: of the image.
        width: of the image.
        at_word: no annotation of the file has a box, so that the user's word is all there is.
        follows: almost all boxes of the file agree better by the convention.
    """
    is_rle = isinstance(segmentation, dict)
    size = segmentation.get("size") if is_rle else None
    match convention:
        case "rows" | "inverted" if not is_rle:
            return False
        case "rows" if look.order is not None:
            return look.order == "rows"
        case "inverted" if look.side is not None:
            return look.side == "inverted"
        case "inverted" if look.covers_corners:
            return True
        case "swapped" if is_rle:
            return size == [width, height] != [height, width] and look.order != "rows"
        case "scaled":
            return is_rle and size != [height, width]
        case "swapped" if BOTH_SWAPPED in looks_outside(segmentation, height, width):
            return True
        case "rows" | "inverted" | "swapped" | "flipped":
            return True if at_word or follows else None
        case "percent" | "thousandths" | "relative" if not is_rle and not at_word:
            return True if follows else None
        case _:  # it is one of boxes
            return False
