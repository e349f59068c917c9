"""A label's polygon as a raster, filled as ultralytics fills it in training."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import numpy.typing as npt

from seamline.masks.outlines import Corners
from seamline.masks.rle import Mask
from seamline.masks.yolo_labels import Line


def line_to_trained_pixels(line: Line, height: int, width: int, left: int = 0, top: int = 0) -> Corners:
    """The corners that ultralytics' dataset makes of a label line on an image of this size, moved by (left, top).

    Follows ultralytics' resample_segments (1,000 points, or one more than there are) and polygon2mask (coordinates
    cut to int32); a test holds it to both.
    """
    points = line.astype(np.float32)
    if len(points) < 1000:
        closed = np.concatenate((points, points[:1]))
        at, wanted = resampled_positions(len(points))
        points = np.empty((len(wanted), 2), dtype=np.float32)
        for axis in range(2):
            points[:, axis] = np.interp(wanted, at, closed[:, axis])
    points *= np.array([width, height], dtype=np.float32)
    if left or top:
        points += np.array([left, top], dtype=np.float32)
    return points.astype(np.int32)


@functools.lru_cache(maxsize=1024)
def resampled_positions(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Where on a closed line of `count` corners ultralytics puts its 1,000 points: on them and evenly between."""
    at = np.arange(count + 1)
    if count + 1 >= 1000:
        return at, np.linspace(0, count, 1000)
    wanted = np.linspace(0, count, 1000 - (count + 1))
    return at, np.insert(wanted, np.searchsorted(wanted, at), at)


def filled(corners: Corners, height: int, width: int, left: int = 0, top: int = 0) -> Mask:
    """Fill a closed polygon even-odd as ultralytics does, on a canvas whose first pixel is (left, top)."""
    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(mask, [corners], 1, offset=(-left, -top))
    return mask
