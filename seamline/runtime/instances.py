"""Instances out: from a model's raw outputs to boxes, scores, classes and masks in the image's own pixels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from seamline.masks import Mask, mask_to_rle
from seamline.runtime.images import Letterbox

Floats = npt.NDArray[np.float32]


class Instances(NamedTuple):
    """What was found in one image, best score first."""

    boxes: Floats  # (n, 4) as x1, y1, x2, y2 in pixels of the image
    scores: Floats  # (n,)
    classes: npt.NDArray[np.int64]  # (n,) index into the model's names
    masks: list[Mask]  # n of (height, width)

    def to_coco(self, image_id: int, category_ids: list[int]) -> list[dict[str, Any]]:
        """COCO results records: bbox as x, y, width, height; segmentation as compressed RLE."""
        records = []
        for box, score, index, mask in zip(self.boxes, self.scores, self.classes, self.masks, strict=True):
            x1, y1, x2, y2 = (float(value) for value in box)
            records.append(
                {
                    "image_id": image_id,
                    "category_id": category_ids[int(index)],
                    "bbox": [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)],
                    "score": round(float(score), 6),
                    "segmentation": mask_to_rle(mask),
                }
            )
        return records


def outputs_to_instances(
    predictions: Floats,
    prototypes: Floats,
    letterbox: Letterbox,
    imgsz: int,
    class_count: int,
    confidence: float,
    nms_iou: float,
    max_detections: int,
) -> Instances:
    """Decode one image's raw outputs.

    Args:
        predictions: (4 + classes + coefficients, anchors): boxes as centre x, y, width, height in input pixels,
            class scores, mask coefficients.
        prototypes: (coefficients, prototype height, prototype width).
        letterbox: how the image lies in the input.
        imgsz: side of the input.
        class_count: number of classes.
        confidence: detections below it are left out.
        nms_iou: of two boxes of one class that overlap more than this the weaker one is dropped.
        max_detections: at most so many are kept, the best ones.
    """
    scores = predictions[4 : 4 + class_count]
    best = scores.max(axis=0)
    candidates = np.flatnonzero(best > confidence)
    kept = predictions[:, candidates].T
    best, classes = best[candidates], scores[:, candidates].argmax(axis=0)
    corners = np.concatenate((kept[:, :2] - kept[:, 2:4] / 2, kept[:, :2] + kept[:, 2:4] / 2), axis=1)
    order = non_maximum_suppression(corners, best, classes, nms_iou)[:max_detections]
    corners, best, classes = corners[order], best[order], classes[order]
    coefficients = kept[order, 4 + class_count :]
    boxes = boxes_to_image(corners, letterbox)
    masks = decode_masks(coefficients, prototypes, boxes, letterbox, imgsz)
    return Instances(boxes, best.astype(np.float32), classes.astype(np.int64), masks)


def non_maximum_suppression(
    corners: Floats, scores: Floats, classes: npt.NDArray[np.int64], iou: float
) -> npt.NDArray[np.int64]:
    """Indices of the boxes kept, best first; boxes suppress only others of their class (OpenCV's batched NMS)."""
    if len(corners) == 0:
        return np.zeros(0, dtype=np.int64)
    sides = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1).astype(np.float64)
    indices = cv2.dnn.NMSBoxesBatched(sides.tolist(), scores.tolist(), classes.tolist(), 0.0, iou)
    kept = np.asarray(indices, dtype=np.int64).reshape(-1)
    ordered: npt.NDArray[np.int64] = kept[np.argsort(-scores[kept], kind="stable")]
    return ordered


def boxes_to_image(corners: Floats, letterbox: Letterbox) -> Floats:
    """From input pixels to the image's own, clipped to it."""
    # Each side has its own gain: both were rounded to whole pixels.
    gain = np.array([letterbox.scaled_width / letterbox.width, letterbox.scaled_height / letterbox.height] * 2)
    shift = np.array([letterbox.left, letterbox.top] * 2)
    limit = np.array([letterbox.width, letterbox.height] * 2)
    boxes: Floats = np.clip((corners - shift) / gain, 0, limit).astype(np.float32)
    return boxes


def decode_masks(
    coefficients: Floats, prototypes: Floats, boxes: Floats, letterbox: Letterbox, imgsz: int
) -> list[Mask]:
    """Masks at the image's size: prototypes weighted, enlarged bilinearly, cut to the box, positive logits kept.

    The same as ultralytics' process_mask_native (retina_masks=True), but enlarged inside the box only: bilinear
    enlargement is separable, rows @ logits @ columns, so a box needs just its own rows and columns.
    """
    count, height, width = prototypes.shape
    logits = (coefficients @ prototypes.reshape(count, -1)).reshape(-1, height, width)
    stride = imgsz / height
    rows = bilinear_weights(letterbox.height, letterbox.top / stride, letterbox.scaled_height / stride, height)
    columns = bilinear_weights(letterbox.width, letterbox.left / stride, letterbox.scaled_width / stride, width)
    masks = []
    for logit, box in zip(logits, boxes, strict=True):
        x1, y1 = np.ceil(box[:2]).astype(int)  # a pixel belongs to the box when its index lies in it, as there
        x2, y2 = np.ceil(box[2:]).astype(int)
        mask = np.zeros((letterbox.height, letterbox.width), dtype=np.uint8)
        mask[y1:y2, x1:x2] = rows[y1:y2] @ logit @ columns[x1:x2].T > 0
        masks.append(mask)
    return masks


def bilinear_weights(size: int, start: float, length: float, source_size: int) -> Floats:
    """(size, source_size) matrix that enlarges `length` cells from `start` on to `size` pixels, bilinearly.

    Cell and pixel centres lie at halves (torch's interpolate with align_corners=False); start and length may be
    fractions of a cell, and cells outside the content are not mixed in.
    """
    first, last = max(math.floor(start), 0), min(math.ceil(start + length), source_size) - 1
    at = np.clip(start + (np.arange(size) + 0.5) * length / size - 0.5, first, last)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, last)
    weights = np.zeros((size, source_size), dtype=np.float32)
    weights[np.arange(size), low] += (1 - (at - low)).astype(np.float32)
    weights[np.arange(size), high] += (at - low).astype(np.float32)
    return weights
