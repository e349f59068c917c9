"""The colours of charts, and of classes on photos."""

from __future__ import annotations

# The colour-blind can tell them apart too (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
# More of them, for masks, on which black is hard to see.
MASK_COLOURS = (
    *COLOURS[:-1], "#E6194B", "#911EB4", "#BCF60C", "#46F0F0", "#9A6324", "#F032E6", "#AAFFC3", "#800000",
    "#FABEBE", "#008080", "#808000", "#E6BEFF", "#000075", "#808080",
)  # fmt: skip
Bgr = tuple[int, int, int]


def class_colour(index: int) -> str:
    """A class's colour in all pictures, by its position among the dataset's classes."""
    return MASK_COLOURS[index % len(MASK_COLOURS)]


def hex_to_bgr(colour: str) -> Bgr:
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)
