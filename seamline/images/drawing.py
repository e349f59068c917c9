"""Instances drawn into a photo: masks or boxes, tinted and outlined, each with its label."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from seamline.images.colours import Bgr
from seamline.images.lettering import columns_of, dejavu, shortened, text_to_mask
from seamline.images.reading import Image

BOLD = "DejaVuSans-Bold"  # on photos
SMALLEST_PX = 6


class Shape(NamedTuple):
    """An instance as it is drawn: its mask, or where there is none its box."""

    colour: Bgr
    name: str  # of its class, of any length
    note: str = ""  # behind the name, such as a score; never shortened before the name is
    mask: npt.NDArray[np.uint8] | None = None  # (height, width) of the photo, 0 or 1
    box: Sequence[float] | None = None  # x1, y1, x2, y2 in pixels of the photo

    @property
    def text(self) -> str:
        """The label on one line."""
        return " ".join(f"{shortened(self.name)}{self.note}".split())


def drawn(image: Image, shapes: Iterable[Shape]) -> Image:
    """The image with each shape and its label in the middle of it, in smaller letters where it is long."""
    canvas: Image = image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 300))
    labels: list[tuple[str, float, float]] = []  # text and the middle of its shape
    for shape in shapes:
        middle = draw_mask(canvas, shape, thickness) if shape.mask is not None else draw_box(canvas, shape, thickness)
        if shape.text and middle is not None:
            labels.append((shape.text, *middle))
    picture = PIL.Image.fromarray(canvas)
    taken: list[tuple[float, float, float]] = []  # left end, right end and middle height of each text
    for text, x, y in labels:  # after all shapes, so that none covers a text
        text, size = fitted(text, max(image.shape[:2]) / 26, image.shape[1] - 8)
        width = width_of(text, size)
        left = min(max(x - width / 2, 4), max(image.shape[1] - width - 4, 0))
        while any(left < end and begin < left + width and abs(y - other) < size for begin, end, other in taken):
            y += size / 4
        taken.append((left, left + width, y))
        write(picture, text, size, left, y, 2 * thickness)
    return np.asarray(picture)


def draw_mask(canvas: Image, shape: Shape, thickness: int) -> tuple[float, float] | None:
    """Tint and outline a mask; its middle, or None where it has no pixel."""
    mask = np.asarray(shape.mask)
    canvas[mask > 0] = (0.55 * canvas[mask > 0] + 0.45 * np.array(shape.colour)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, shape.colour, thickness)
    ys, xs = np.nonzero(mask)
    return (float(xs.mean()), float(ys.mean())) if len(ys) else None


def draw_box(canvas: Image, shape: Shape, thickness: int) -> tuple[float, float] | None:
    """Outline a box; its middle, or None where there is no box either."""
    if shape.box is None:
        return None
    x1, y1, x2, y2 = (round(float(side)) for side in shape.box)
    cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), shape.colour, 2 * thickness)
    return (x1 + x2) / 2, (y1 + y2) / 2


def fitted(text: str, size_px: float, room_px: int) -> tuple[str, float]:
    """The text and its size, smaller where it would be too wide, and cut where it would get too small to read."""
    size = max(size_px, SMALLEST_PX)
    width = width_of(text, size)
    if width > room_px:
        size = max(size * room_px / width, SMALLEST_PX)
        width = width_of(text, size)
    if width > room_px + 1 and size == SMALLEST_PX:
        text = shortened(text, int(columns_of(text) * room_px / width))
    return text, size


def write(picture: PIL.Image.Image, text: str, size_px: float, left: float, middle: float, edge_px: int) -> None:
    """A line of white text with a black edge."""
    if is_plain(text):
        pen = PIL.ImageDraw.Draw(picture)
        pen.text(
            (left, middle),
            text,
            font=font_of(size_px),
            anchor="lm",
            fill="white",
            stroke_width=edge_px,
            stroke_fill="black",
        )
        return
    letters = np.pad(text_to_mask(text, size_px, dejavu(BOLD)), edge_px)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * edge_px + 1, 2 * edge_px + 1))
    at = round(left) - edge_px, round(middle - letters.shape[0] / 2)
    for colour, covered in (("black", cv2.dilate(letters, brush)), ("white", letters)):
        picture.paste(colour, at, PIL.Image.fromarray(np.asarray(covered)))


def width_of(text: str, size_px: float) -> float:
    return font_of(size_px).getlength(text) if is_plain(text) else text_to_mask(text, size_px, dejavu(BOLD)).shape[1]


def is_plain(text: str) -> bool:
    """Letters that stand one beside the other and that DejaVu has: Latin, Greek, Cyrillic, Armenian, punctuation."""
    return all(letter < "\u0590" or "\u1e00" <= letter < "\u2000" or "\u2010" <= letter < "\u2028" for letter in text)


@functools.cache
def font_of(size_px: float) -> PIL.ImageFont.FreeTypeFont:
    """matplotlib's own font, which has more letters than OpenCV's and is the same on every machine."""
    return PIL.ImageFont.truetype(str(dejavu(BOLD)), size_px)
