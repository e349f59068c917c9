"""Canvases for families whose models take a letterboxed photo as RGB from 0 to 1."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from seamline.images.reading import Image
from seamline.models.arrays import Canvas, Canvases, Floats
from seamline.models.letterbox import Letterbox, image_to_letterbox
from seamline.models.model_facts import ModelFacts


def image_to_canvas(image: Image, facts: ModelFacts) -> tuple[Canvas, Letterbox]:
    return image_to_letterbox(image, facts.imgsz)


def canvases_to_tensor(canvases: Canvases) -> Floats:
    """(batch, 3, imgsz, imgsz), RGB from 0 to 1."""
    return np.asarray(cv2.dnn.blobFromImages(list(canvases), scalefactor=1 / 255, swapRB=True), dtype=np.float32)


def add_openvino_steps(steps: Any) -> None:
    from openvino.preprocess import ColorFormat

    steps.convert_color(ColorFormat.RGB).scale(255.0)
