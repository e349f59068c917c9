"""What every picture in reports/ shares: colours, axes, masks on a photo, and files that are equal when charts are."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import matplotlib
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from seamline.base.files import whole_file
from seamline.images.lettering import (
    columns_of,
    dejavu,
    prepare_charts,
    say_missing,
    shortened,
    text_to_mask,
    without_warnings,
)
from seamline.images.reading import Image
from seamline.masks.rle import Mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

matplotlib.rcParams["text.parse_math"] = False  # a name with two dollar signs is no formula
# Told apart by the colour-blind too (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
# More of them, for masks, on which black is hard to see.
MASK_COLOURS = (
    *COLOURS[:-1], "#E6194B", "#911EB4", "#BCF60C", "#46F0F0", "#9A6324", "#F032E6", "#AAFFC3", "#800000",
    "#FABEBE", "#008080", "#808000", "#E6BEFF", "#000075", "#808080",
)  # fmt: skip
DPI = 120
BOLD = "DejaVuSans-Bold"  # on photos
SMALLEST_PX = 6


def save(figure: Figure, path: Path) -> None:
    """Save as PNG without the date and version matplotlib puts in, so that equal charts are equal files."""
    import matplotlib.pyplot as plt  # looks at every font there is, which pictures of photos do not need

    with whole_file(path) as temporary, without_warnings():
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None}, bbox_inches="tight")
    say_missing(figure_to_text(figure))
    plt.close(figure)


def subplots(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """pyplot's, with letters of all languages."""
    import matplotlib.pyplot as plt

    prepare_charts()
    return plt.subplots(rows, columns, **options)


def figure_to_text(figure: Figure) -> str:
    """All that is written in a figure."""
    from matplotlib.text import Text

    return "".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def plain_axes(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def drawn(image: Image, masks: list[tuple[Mask, tuple[int, int, int], str]]) -> Image:
    """The image with tinted, outlined masks, each with its text in the middle of it, smaller where it is long."""
    canvas: Image = image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 300))
    for mask, colour, _ in masks:
        canvas[mask > 0] = (0.55 * canvas[mask > 0] + 0.45 * np.array(colour)).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, colour, thickness)
    written = PIL.Image.fromarray(canvas)
    room = image.shape[1] - 8
    taken: list[tuple[float, float, float]] = []  # left end, right end and middle height of each text
    for mask, _, words in masks:  # after all masks, so that none covers a text
        text = " ".join(words.split())
        ys, xs = np.nonzero(mask)
        if text and len(ys):
            size = max(max(image.shape[:2]) / 26, SMALLEST_PX)
            width = width_of(text, size)
            if width > room:
                size = max(size * room / width, SMALLEST_PX)
                width = width_of(text, size)
            if width > room + 1 and size == SMALLEST_PX:
                text = shortened(text, int(columns_of(text) * room / width))
                width = width_of(text, size)
            left = min(max(float(xs.mean()) - width / 2, 4), max(image.shape[1] - width - 4, 0))
            height = float(ys.mean())
            while any(
                left < end and begin < left + width and abs(height - other) < size for begin, end, other in taken
            ):
                height += size / 4
            taken.append((left, left + width, height))
            write(written, text, size, left, height, 2 * thickness)
    return np.asarray(written)


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


def class_colour(index: int) -> str:
    """A class's colour in all pictures, by its place among the dataset's classes."""
    return MASK_COLOURS[index % len(MASK_COLOURS)]


def hex_to_bgr(colour: str) -> tuple[int, int, int]:
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)
