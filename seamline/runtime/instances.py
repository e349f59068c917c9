"""Instances out: from a model's raw outputs to boxes, scores, classes and masks in the image's own pixels."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from seamline.masks import Mask, Rle, mask_to_corners
from seamline.runtime.images import Letterbox

Floats = npt.NDArray[np.float32]


class Crop(NamedTuple):
    """A mask inside its box: what lies outside is background."""

    mask: Mask  # (rows, columns)
    left: int
    top: int


class Instances(NamedTuple):
    """What was found in one image, best score first.

    Masks are kept inside their boxes: at full size those of one large photo would fill the memory.
    """

    boxes: Floats  # (n, 4) as x1, y1, x2, y2 in pixels of the image
    scores: Floats  # (n,)
    classes: npt.NDArray[np.int64]  # (n,) index into the model's names
    crops: list[Crop]
    height: int  # of the image, in pixels
    width: int

    @property
    def masks(self) -> list[Mask]:
        """n masks of the image's size, (height, width), 0 or 1."""
        return [self.mask(index) for index in range(len(self.crops))]

    def mask(self, index: int) -> Mask:
        crop, left, top = self.crops[index]
        mask = np.zeros((self.height, self.width), dtype=np.uint8)
        mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        return mask

    def rle(self, index: int) -> Rle:
        """Compressed RLE with text counts, as COCO results files hold it."""
        return crop_to_rle(self.crops[index], self.height, self.width)

    def polygon(self, index: int) -> list[float]:
        """One closed COCO polygon, x and y in turn, holes and parts joined by bridges of no width; [] for no pixel."""
        return crop_to_polygon(self.crops[index])

    def to_coco(self, image_id: int, category_ids: list[int]) -> list[dict[str, Any]]:
        """COCO results records: bbox as x, y, width, height; segmentation as compressed RLE."""
        records = []
        for index, (box, score, number) in enumerate(zip(self.boxes, self.scores, self.classes, strict=True)):
            x1, y1, x2, y2 = (float(value) for value in box)
            records.append(
                {
                    "image_id": image_id,
                    "category_id": category_ids[int(number)],
                    "bbox": [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)],
                    "score": round(float(score), 6),
                    "segmentation": self.rle(index),
                }
            )
        return records


def crop_to_rle(crop: Crop, height: int, width: int) -> Rle:
    """RLE of the whole image from a mask inside its box, without the background around it ever being made."""
    mask, left, top = crop
    columns = mask.shape[1]
    band = np.zeros((columns, height), dtype=np.uint8)  # runs go down the columns
    band[:, top : top + mask.shape[0]] = mask.T
    changes = np.flatnonzero(np.diff(band.ravel(), prepend=0, append=0)) + left * height
    runs = np.diff(changes, prepend=0, append=height * width).tolist()
    if runs[-1] == 0:  # the mask reaches the last pixel
        runs.pop()
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def crop_to_polygon(crop: Crop) -> list[float]:
    """A polygon along the edges of the pixels, where COCO's rasterisation expects it.

    As in the labels that models are trained with, parts too small for a bridge to them, and specks, are left out: see
    masks.mask_to_corners. RLE keeps every pixel.
    """
    mask, left, top = crop
    # At twice the size a pixel has a left and a right side of its own: 2x and 2x + 1, which is where x + 1 begins.
    corners = mask_to_corners(np.asarray(np.kron(mask, np.ones((2, 2), np.uint8))))
    return [] if corners is None else ((corners + 1) // 2 + [left, top]).ravel().astype(float).tolist()


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
    corners: Floats = np.concatenate((kept[:, :2] - kept[:, 2:4] / 2, kept[:, :2] + kept[:, 2:4] / 2), axis=1)
    order = non_maximum_suppression(corners, best, classes, nms_iou)[:max_detections]
    corners, best, classes = corners[order], best[order], classes[order]
    coefficients = kept[order, 4 + class_count :]
    boxes = boxes_to_image(corners, letterbox)
    crops = decode_masks(coefficients, prototypes, boxes, letterbox, imgsz)
    return Instances(boxes, best.astype(np.float32), classes.astype(np.int64), crops, letterbox.height, letterbox.width)


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
) -> list[Crop]:
    """Masks in the image's pixels: prototypes weighted, enlarged bilinearly, cut to the box, positive logits kept.

    The same as ultralytics' process_mask_native (retina_masks=True), but enlarged inside the box only: bilinear
    enlargement is separable, rows @ logits @ columns, so a box needs just its own rows and columns.
    """
    count, height, width = prototypes.shape
    if not len(boxes):
        return []
    logits = (coefficients @ prototypes.reshape(count, -1)).reshape(-1, height, width)
    stride = imgsz / height
    rows = bilinear_weights(letterbox.height, letterbox.top / stride, letterbox.scaled_height / stride, height)
    columns = bilinear_weights(letterbox.width, letterbox.left / stride, letterbox.scaled_width / stride, width)
    crops = []
    for logit, box in zip(logits, boxes, strict=True):
        x1, y1 = np.ceil(box[:2]).astype(int)  # a pixel belongs to the box when its index lies in it, as there
        x2, y2 = np.ceil(box[2:]).astype(int)
        own_rows, own_columns = rows[y1:y2], columns[x1:x2]
        low, high = cells_used(own_rows), cells_used(own_columns)
        enlarged = own_rows[:, low] @ logit[low, high] @ own_columns[:, high].T
        crops.append(Crop((enlarged > 0).view(np.uint8), int(x1), int(y1)))
    return crops


def cells_used(weights: Floats) -> slice:
    """From the first to the last column that is not 0 throughout; positions only ever grow from row to row."""
    if not len(weights):
        return slice(0, 0)
    return slice(int(np.argmax(weights[0] != 0)), weights.shape[1] - int(np.argmax(weights[-1, ::-1] != 0)))


@functools.lru_cache(maxsize=16)
def bilinear_weights(size: int, start: float, length: float, source_size: int) -> Floats:
    """(size, source_size) matrix that enlarges `length` cells from `start` on to `size` pixels, bilinearly.

    Cell and pixel centres lie at halves (torch's interpolate with align_corners=False); start and length may be
    fractions of a cell, and cells outside the content are not mixed in. Kept: photos of one camera have one size.
    """
    first, last = max(math.floor(start), 0), min(math.ceil(start + length), source_size) - 1
    at = np.clip(start + (np.arange(size) + 0.5) * length / size - 0.5, first, last)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, last)
    weights = np.zeros((size, source_size), dtype=np.float32)
    weights[np.arange(size), low] += (1 - (at - low)).astype(np.float32)
    weights[np.arange(size), high] += (at - low).astype(np.float32)
    weights.flags.writeable = False
    return weights
