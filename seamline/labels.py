"""YOLO segmentation label files: a line an instance, `class x1 y1 x2 y2 ...`, coordinates as shares of the image."""

from __future__ import annotations

import numpy as np

from seamline.masks import Line


def line_to_text(class_index: int, line: Line) -> str:
    """Six decimals: a thousandth of a pixel on a photo 500 wide, and what ultralytics' float32 can tell apart."""
    return f"{class_index} " + " ".join(f"{value:.6f}" for value in line.reshape(-1))


def text_to_line(text: str) -> tuple[int, Line]:
    """Read one label line back.

    Raises:
        ValueError: when it is not a class index followed by at least three x y pairs, each from 0 to 1.
    """
    fields = text.split()
    if len(fields) < 7 or len(fields) % 2 == 0:
        raise ValueError(f"a label line has a class and at least three x y pairs, this one has {len(fields)} numbers")
    line = np.array(fields[1:], dtype=np.float64).reshape(-1, 2)
    if not ((line >= 0) & (line <= 1)).all():  # also refuses NaN
        raise ValueError("a label's coordinates lie between 0 and 1")
    return int(fields[0]), line
