"""Garments that were asked with, each with the ones that were found for it, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import PIL.Image

from seamline.images.colours import Bgr, hex_to_bgr
from seamline.images.drawing import fitted, width_of, write
from seamline.images.overlays import to_jpeg
from seamline.images.reading import Image

CELL_PX, CAPTION_PX, FRAME_PX, GAP_PX, LETTERS_PX = 132, 20, 5, 6, 11.0
COLOURS = {"right": "#009E73", "wrong": "#D55E00", "": "#666666"}  # which the colour-blind can tell apart
BACKGROUND = 255


class Cell(NamedTuple):
    """A garment and what is written below it."""

    crop: bytes  # JPEG or PNG; b"" where there is none
    caption: str
    verdict: str = ""  # right, wrong or nothing


def answers_jpeg(rows: Sequence[Sequence[Cell]]) -> bytes:
    """A row for each question: the garment that was asked with, then its answers; b"" without a row."""
    if not rows:
        return b""
    columns = max(map(len, rows))
    empty = np.full((CELL_PX + CAPTION_PX, CELL_PX, 3), BACKGROUND, np.uint8)
    gap = np.full((CELL_PX + CAPTION_PX, 3 * GAP_PX, 3), BACKGROUND, np.uint8)
    lines = []
    for row in rows:
        cells = [drawn_cell(cell) for cell in row] + [empty] * (columns - len(row))
        lines.append(np.hstack([cells[0], gap, *cells[1:]]))
    return to_jpeg(np.vstack(lines))


def drawn_cell(cell: Cell) -> Image:
    picture = np.full((CELL_PX + CAPTION_PX, CELL_PX, 3), BACKGROUND, np.uint8)
    inner = CELL_PX - 2 * (FRAME_PX + GAP_PX)
    colour: Bgr = hex_to_bgr(COLOURS[cell.verdict])
    image = None
    if cell.crop:
        image = cv2.imdecode(np.frombuffer(cell.crop, np.uint8), cv2.IMREAD_COLOR)
    if image is not None:
        ratio = inner / max(image.shape[:2])
        height, width = (max(round(side * ratio), 1) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
        top, left = (CELL_PX - height) // 2, (CELL_PX - width) // 2
        picture[top : top + height, left : left + width] = image
    if cell.verdict:
        first, last = GAP_PX, CELL_PX - GAP_PX - 1
        cv2.rectangle(picture, (first, first), (last, last), colour, FRAME_PX)
    canvas = PIL.Image.fromarray(picture)
    text, size = fitted(cell.caption, LETTERS_PX, CELL_PX - 8)
    if text:
        write(canvas, text, size, max((CELL_PX - width_of(text, size)) / 2, 4), CELL_PX + CAPTION_PX / 2 - 2, 2)
    return np.asarray(canvas)
