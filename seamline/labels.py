"""YOLO segmentation label files: a line an instance, `class x1 y1 x2 y2 ...`, coordinates as shares of the image."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from seamline.masks import Corners, Line


def corners_to_text(class_index: int, corners: Corners, height: int, width: int) -> str:
    """One label line; corners are pixels, written as their centres.

    The trainer cuts coordinates down to whole pixels, and a centre falls into its own pixel at every scale.
    """
    decimals = decimals_for(height, width)
    columns, rows = centres_as_text(width, decimals)[0], centres_as_text(height, decimals)[0]
    fields = np.empty(corners.shape, dtype=columns.dtype)
    fields[:, 0], fields[:, 1] = columns[corners[:, 0]], rows[corners[:, 1]]
    return f"{class_index} {fields.tobytes().decode('ascii').rstrip()}"


def corners_to_line(corners: Corners, height: int, width: int) -> Line:
    """The coordinates that reading `corners_to_text` gives back, without the reading."""
    decimals = decimals_for(height, width)
    columns, rows = centres_as_text(width, decimals)[1], centres_as_text(height, decimals)[1]
    line = np.empty(corners.shape)
    line[:, 0], line[:, 1] = columns[corners[:, 0]], rows[corners[:, 1]]
    return line


def decimals_for(height: int, width: int) -> int:
    """Enough for a hundredth of a pixel: labels take as much space as their digits, and more change no mask."""
    return len(str(max(height, width))) + 2


@functools.lru_cache(maxsize=1024)
def centres_as_text(side: int, decimals: int) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.float64]]:
    """The centre of every pixel along a side as a share of it: as text with a blank behind, and as its number."""
    texts = [f"{(index + 0.5) / side:.{decimals}f} " for index in range(side)]
    return np.array(texts, dtype=np.bytes_), np.array([float(text) for text in texts])


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
