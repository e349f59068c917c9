"""Masks such as garments have, and what the trainer makes of their labels."""

from __future__ import annotations

import cv2
import numpy as np

from seamline.masks.filling import filled, line_to_trained_pixels
from seamline.masks.rle import Mask
from seamline.masks.yolo_labels import Line


def blobs(seed: int, height: int, width: int) -> Mask:
    """A mask of smooth blobs, in several parts and with holes, such as garments have."""
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), min(height, width) / 12)
    return np.asarray(smooth > np.quantile(smooth, 0.6), dtype=np.uint8)


def trained_mask(line: Line, height: int, width: int) -> Mask:
    return filled(line_to_trained_pixels(line, height, width), height, width)
