"""What every picture in reports/ shares: colours, axes, masks on a photo, and files that are equal when charts are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from seamline.files import whole_file
from seamline.masks import Mask
from seamline.runtime.images import Image

# Told apart by the colour-blind too (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
DPI = 120


def save(figure: Figure, path: Path) -> None:
    """Save as PNG without the date and version matplotlib puts in, so that equal charts are equal files."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None}, bbox_inches="tight")
    plt.close(figure)


def plain_axes(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def drawn(image: Image, masks: list[tuple[Mask, tuple[int, int, int], str]]) -> Image:
    """The image with tinted, outlined masks, each with its text at the top of the mask."""
    canvas: Image = image.copy()
    for mask, colour, text in masks:
        canvas[mask > 0] = (0.55 * canvas[mask > 0] + 0.45 * np.array(colour)).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        thickness = max(1, round(max(image.shape[:2]) / 300))
        cv2.drawContours(canvas, outlines, -1, colour, thickness)
        ys, xs = np.nonzero(mask)
        if text and len(ys):
            scale = max(image.shape[:2]) / 600
            at = (int(xs.mean()) - int(20 * scale), int(ys.mean()))
            cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 3 * thickness, cv2.LINE_AA)
            cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return canvas


def hex_to_bgr(colour: str) -> tuple[int, int, int]:
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)
