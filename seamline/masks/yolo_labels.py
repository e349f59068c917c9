"""YOLO segmentation label files: a line an instance, `class x1 y1 x2 y2 ...`, coordinates as shares of the image."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from seamline.masks.outlines import Corners, outline_px, tolerance_px

Line = npt.NDArray[np.float64]  # (points, 2) as x, y, each a share of width or height

# How far from its pixel's centre a corner may be written. Labels take as much space as their digits, and what is off
# shifts points between corners that lie far apart into the pixel beside: on a thin mask that is much of it.
COARSE_PX = 0.1
FINE_PX = 0.01
FINEST_PX = 0.001


def precision_px(area_px: float, corners: Corners) -> float:
    """How exactly to write a mask's corners: the larger it is for its outline, the less that matters.

    On Clothing Co-Parsing a quarter of the labels' size is saved for 0.0001 of mean IoU.
    """
    length = outline_px(corners)
    if tolerance_px(area_px, length):  # so large for its outline that corners were left out
        return COARSE_PX
    return FINE_PX if area_px > 2 * length else FINEST_PX


def corners_to_text(class_index: int, corners: Corners, height: int, width: int, off_px: float) -> str:
    """One label line; corners are pixels, written as their centres or up to `off_px` beside.

    The trainer cuts coordinates down to whole pixels, and a centre falls into its own pixel at every scale.
    """
    columns, rows = centres_as_text(width, off_px)[0], centres_as_text(height, off_px)[0]
    fields = np.empty(corners.shape, dtype=max(columns.dtype, rows.dtype))
    fields[:, 0], fields[:, 1] = columns[corners[:, 0]], rows[corners[:, 1]]
    return f"{class_index} {fields.tobytes().replace(PADDING, b'').decode('ascii').rstrip()}"


def corners_to_line(corners: Corners, height: int, width: int, off_px: float) -> Line:
    """The coordinates that reading `corners_to_text` gives back, without the reading."""
    columns, rows = centres_as_text(width, off_px)[1], centres_as_text(height, off_px)[1]
    line = np.empty(corners.shape)
    line[:, 0], line[:, 1] = columns[corners[:, 0]], rows[corners[:, 1]]
    return line


PADDING = b"\0"  # of numpy's texts, which are all of one length


@functools.lru_cache(maxsize=4096)  # photos have thousands of sizes
def centres_as_text(side: int, off_px: float) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.float64]]:
    """The centre of every pixel along a side as a share of it: as text with a blank behind, and as its number.

    With as few decimals as lead to at most `off_px` (below 0.5) from the centre, and no zero before the point.
    """
    centres = (np.arange(side) + 0.5) / side
    texts, numbers = np.full(side, b"", dtype=f"S{len(str(side)) + 5}"), np.zeros(side)
    left, decimals = np.arange(side), 0
    while len(left):
        decimals += 1
        digits = np.round(centres[left] * 10**decimals)
        near = np.abs(digits / 10**decimals - centres[left]) * side <= off_px
        found, left = left[near], left[~near]
        texts[found] = [b".%0*d " % (decimals, number) for number in digits[near].astype(np.int64).tolist()]
        numbers[found] = digits[near] / 10**decimals
    return texts, numbers


def text_to_line(text: str) -> tuple[int, Line]:
    """Read one label line back.

    Raises:
        ValueError: when it is not a class index followed by at least three x y pairs, each from 0 to 1.
    """
    fields = text.split()
    if len(fields) < 7 or len(fields) % 2 == 0:
        raise ValueError(f"a label line has a class and at least three x y pairs, this one has {len(fields)} numbers")
    line = np.array([float(field) for field in fields[1:]]).reshape(-1, 2)
    if not ((line >= 0) & (line <= 1)).all():  # also refuses NaN
        raise ValueError("a label's coordinates lie between 0 and 1")
    return int(fields[0]), line
