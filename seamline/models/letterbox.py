"""An image fitted into a square canvas, and boxes brought back from there to the image."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from seamline.images.reading import Image
from seamline.models.arrays import Canvas, Floats

PAD_VALUE = 114  # ultralytics' grey


class Letterbox(NamedTuple):
    """How an image of height x width was fitted into the square input: scaled to fit, then centred."""

    height: int
    width: int
    scaled_height: int
    scaled_width: int
    top: int
    left: int


def letterbox_of(height: int, width: int, imgsz: int) -> Letterbox:
    """Fit into imgsz x imgsz as ultralytics' LetterBox does (rounding included)."""
    ratio = min(imgsz / height, imgsz / width)
    scaled_height, scaled_width = max(round(height * ratio), 1), max(round(width * ratio), 1)
    top, left = round((imgsz - scaled_height) / 2 - 0.1), round((imgsz - scaled_width) / 2 - 0.1)
    return Letterbox(height, width, scaled_height, scaled_width, top, left)


def image_to_letterbox(image: Image, imgsz: int) -> tuple[Canvas, Letterbox]:
    """The image fitted into (imgsz, imgsz, 3), still BGR from 0 to 255, and how it lies there."""
    box = letterbox_of(image.shape[0], image.shape[1], imgsz)
    canvas = np.full((imgsz, imgsz, 3), PAD_VALUE, dtype=np.uint8)
    content = canvas[box.top : box.top + box.scaled_height, box.left : box.left + box.scaled_width]
    if content.shape == image.shape:
        content[:] = image
    else:
        # OpenCV does not take a view of other strides, such as a part of an image or of one with alpha.
        image = np.ascontiguousarray(image)
        cv2.resize(image, (box.scaled_width, box.scaled_height), dst=content, interpolation=cv2.INTER_LINEAR)
    return canvas, box


def boxes_to_image(corners: Floats, letterbox: Letterbox) -> Floats:
    """From input pixels to the image's own, clipped to it."""
    limit = np.array([letterbox.width, letterbox.height] * 2)
    boxes: Floats = np.clip(corners_to_image(corners, letterbox), 0, limit).astype(np.float32)
    return boxes


def corners_to_image(corners: Floats, letterbox: Letterbox) -> npt.NDArray[np.float64]:
    """From input pixels to the image's own, where a box may reach beyond the image."""
    # Each side has its own gain: both were rounded to whole pixels.
    gain = np.array([letterbox.scaled_width / letterbox.width, letterbox.scaled_height / letterbox.height] * 2)
    shift = np.array([letterbox.left, letterbox.top] * 2)
    placed: npt.NDArray[np.float64] = (corners - shift) / gain
    return placed
