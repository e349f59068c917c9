"""YOLO's masks: prototypes weighted, enlarged to the image's own pixels and cut to their boxes."""

from __future__ import annotations

import numpy as np

from seamline.models.arrays import Floats
from seamline.models.detections import Crop, Runs
from seamline.models.enlarging import logits_to_shapes, pixels_to_cells
from seamline.models.letterbox import Letterbox

MASKS_AT_ONCE = 8  # so that memory does not grow with their number


def decode_masks(
    coefficients: Floats, prototypes: Floats, boxes: Floats, letterbox: Letterbox, imgsz: int
) -> list[Crop | Runs]:
    """Masks in the image's pixels: where the prototypes, weighted and enlarged bilinearly, are positive inside the box.

    The same as ultralytics' process_mask_native (retina_masks=True), but enlarged inside the box only, and not at all
    where that is large. A pixel belongs to a box where its index lies in it, as there.
    """
    _, height, width = prototypes.shape
    stride = imgsz / height
    rows = pixels_to_cells(letterbox.height, letterbox.top / stride, letterbox.scaled_height / stride, height)
    columns = pixels_to_cells(letterbox.width, letterbox.left / stride, letterbox.scaled_width / stride, width)
    corners: list[list[int]] = np.ceil(boxes).astype(np.int64).tolist()
    shapes: list[Crop | Runs] = []
    for start in range(0, len(corners), MASKS_AT_ONCE):
        some = slice(start, start + MASKS_AT_ONCE)
        logits = (coefficients[some] @ prototypes.reshape(len(prototypes), -1)).reshape(-1, height, width)
        shapes += logits_to_shapes(logits, corners[some], rows, columns)
    return shapes
