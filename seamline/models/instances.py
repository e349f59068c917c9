"""Instances out: from a model's raw outputs to boxes, scores, classes and masks in the image's own pixels."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from seamline.images.reading import Letterbox
from seamline.masks.outlines import mask_to_corners
from seamline.masks.rle import Mask, Rle

Floats = npt.NDArray[np.float32]
# Where the pixels of a mask begin and end, in turn, in the image's pixels counted down the columns (COCO's order).
Runs = npt.NDArray[np.int64]
NMS_BLOCK = 32  # boxes
STRIP_VALUES = 1 << 17  # that are interpolated at once, so that they stay in a core's cache
FEW_BOXES = 128
MASKS_AT_ONCE = 8  # so that memory does not grow with their number
SMALL_PIXELS = 1 << 17  # of a box whose mask is made pixel by pixel
NO_RUNS: Runs = np.zeros(0, dtype=np.int64)


class Crop(NamedTuple):
    """A mask inside its box: what lies outside is background."""

    mask: Mask  # (rows, columns)
    left: int
    top: int


@dataclass(frozen=True, eq=False)
class Instances:
    """What was found in one image, best score first. `len()` is the number of instances.

    Large masks are kept as runs: as pixels, those of one large photo would fill the memory. Small ones are kept as the
    pixels in their boxes, which take less time to make.
    """

    boxes: Floats  # (n, 4) as x1, y1, x2, y2 in pixels of the image
    scores: Floats  # (n,)
    classes: npt.NDArray[np.int64]  # (n,) index into the model's names
    shapes: list[Crop | Runs]  # n masks
    height: int  # of the image, in pixels
    width: int
    timings_ms: tuple[float, float, float] = (0.0, 0.0, 0.0)  # preprocess, inference, postprocess of its batch

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def masks(self) -> list[Mask]:
        """n masks of the image's size, (height, width), 0 or 1."""
        return [self.mask(index) for index in range(len(self))]

    def mask(self, index: int) -> Mask:
        """One mask of the image's size, (height, width), 0 or 1."""
        crop, left, top = self.crop(index)
        mask = np.zeros((self.height, self.width), dtype=np.uint8)
        mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        return mask

    def crop(self, index: int) -> Crop:
        """The part of one mask outside of which there is none of it."""
        shape = self.shapes[index]
        return shape if isinstance(shape, Crop) else runs_to_crop(shape, self.height)

    def runs(self, index: int) -> Runs:
        """Where one mask's pixels begin and end in the image, column after column."""
        shape = self.shapes[index]
        return crop_to_runs(shape, self.height) if isinstance(shape, Crop) else shape

    def rle(self, index: int) -> Rle:
        """Compressed RLE with text counts, as COCO results files hold it."""
        return runs_to_rle(self.runs(index), self.height, self.width)

    def polygon(self, index: int) -> list[float]:
        """One closed COCO polygon, x and y in turn, holes and parts joined by bridges of no width; [] for no pixel."""
        return crop_to_polygon(self.crop(index))

    def with_timings(self, preprocess_ms: float, inference_ms: float, postprocess_ms: float) -> Instances:
        return replace(self, timings_ms=(preprocess_ms, inference_ms, postprocess_ms))

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


def toggles_to_runs(toggles: npt.NDArray[np.int64]) -> Runs:
    """Runs from the places where background and mask change, in any order; two at one place cancel each other."""
    places = np.sort(toggles)
    new = np.flatnonzero(np.diff(places, prepend=-1))
    if len(new) == len(places):
        return places
    counts = np.diff(new, append=len(places))
    runs: Runs = places[new[counts % 2 == 1]]
    return runs


def crop_to_runs(crop: Crop, height: int) -> Runs:
    mask, left, top = crop
    inside = np.zeros((mask.shape[1], mask.shape[0] + 1), dtype=np.uint8)  # every run ends in its own column
    inside[:, :-1] = mask.T
    column, row = np.divmod(np.flatnonzero(np.diff(inside.ravel(), prepend=0)), inside.shape[1])
    return toggles_to_runs((left + column) * height + top + row)


def runs_to_crop(runs: Runs, height: int) -> Crop:
    """The smallest part of the image that has all of a mask; no pixel for an empty one."""
    if not len(runs):
        return Crop(np.zeros((0, 0), np.uint8), 0, 0)
    left, right = int(runs[0]) // height, int(runs[-1] - 1) // height + 1
    values = np.zeros(len(runs) + 1, np.uint8)
    values[1::2] = 1
    lengths = np.diff(runs, prepend=left * height, append=right * height)
    columns = np.repeat(values, lengths).reshape(right - left, height)
    first, last = runs[::2] % height, (runs[1::2] - 1) % height
    whole = runs[::2] // height != (runs[1::2] - 1) // height  # runs that reach into the next column
    top, bottom = (0, height) if whole.any() else (int(first.min()), int(last.max()) + 1)
    return Crop(np.ascontiguousarray(columns.T[top:bottom]), left, top)


def runs_to_rle(runs: Runs, height: int, width: int) -> Rle:
    """As pycocotools encodes the mask."""
    counts = np.diff(runs, prepend=0, append=height * width).tolist()
    if counts[-1] == 0:  # the mask reaches the last pixel
        counts.pop()
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
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
    order = non_maximum_suppression(corners, best, classes, nms_iou, max_detections)
    corners, best, classes = corners[order], best[order], classes[order]
    coefficients = kept[order, 4 + class_count :]
    boxes = boxes_to_image(corners, letterbox)
    shapes = decode_masks(coefficients, prototypes, boxes, letterbox, imgsz)
    return Instances(
        boxes, best.astype(np.float32), classes.astype(np.int64), shapes, letterbox.height, letterbox.width
    )


def non_maximum_suppression(
    corners: Floats, scores: Floats, classes: npt.NDArray[np.int64], iou: float, most: int
) -> npt.NDArray[np.int64]:
    """Indices of the boxes kept, best first, at most `most`; boxes suppress only others of their class.

    What is kept of the best candidates does not depend on weaker ones, so the weaker ones are looked at only where the
    best ones were not enough. OpenCV's is the quickest for few boxes, and grows with their square.
    """
    if len(scores) <= FEW_BOXES:
        sides = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1).tolist()
        found = np.asarray(cv2.dnn.NMSBoxesBatched(sides, scores.tolist(), classes.tolist(), 0.0, iou), dtype=np.int64)
        return found[np.argsort(-scores[found], kind="stable")][:most]
    order = np.argsort(-scores, kind="stable")
    looked_at = 4 * most + FEW_BOXES
    while True:
        best = order[:looked_at]
        kept = kept_in_order(corners, best, classes[best], iou)
        if len(kept) >= most or looked_at >= len(order):
            return kept[:most]
        looked_at *= 8


def kept_in_order(
    corners: Floats, order: npt.NDArray[np.int64], classes: npt.NDArray[np.int64], iou: float
) -> npt.NDArray[np.int64]:
    kept = np.zeros(len(order), dtype=np.bool_)
    for number in np.unique(classes):
        members = np.flatnonzero(classes == number)
        kept[members] = not_suppressed(corners[order[members]], iou)
    return order[kept]


def not_suppressed(corners: Floats, iou: float) -> npt.NDArray[np.bool_]:
    """For boxes in their order, whether no earlier one that is kept itself overlaps each by more than iou.

    torchvision's rule and arithmetic (f32), block by block: the overlaps of a block with all later boxes at once.
    """
    limit = np.float64(iou)  # not rounded to f32 before it is compared
    kept = np.zeros(len(corners), dtype=np.bool_)
    boxes, waiting = np.ascontiguousarray(corners.T), np.arange(len(corners))
    areas = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
    while len(waiting):
        block = min(NMS_BLOCK, len(waiting))
        x1, y1, x2, y2 = boxes[:, :block, None]
        shared = np.maximum(np.minimum(boxes[2], x2) - np.maximum(boxes[0], x1), 0)
        shared *= np.maximum(np.minimum(boxes[3], y2) - np.maximum(boxes[1], y1), 0)
        with np.errstate(divide="ignore", invalid="ignore"):  # two boxes of no area suppress nothing
            over = shared / (areas[:block, None] + areas - shared) > limit
        alive = np.ones(block, dtype=np.bool_)
        for index in np.flatnonzero(over[:, :block].sum(axis=1) > 1):  # those that overlap another than themselves
            if alive[index]:
                alive[index + 1 :] &= ~over[index, index + 1 : block]
        kept[waiting[:block][alive]] = True
        stays = ~over[alive, block:].any(axis=0)
        boxes, areas, waiting = boxes[:, block:][:, stays], areas[block:][stays], waiting[block:][stays]
    return kept


def boxes_to_image(corners: Floats, letterbox: Letterbox) -> Floats:
    """From input pixels to the image's own, clipped to it."""
    # Each side has its own gain: both were rounded to whole pixels.
    gain = np.array([letterbox.scaled_width / letterbox.width, letterbox.scaled_height / letterbox.height] * 2)
    shift = np.array([letterbox.left, letterbox.top] * 2)
    limit = np.array([letterbox.width, letterbox.height] * 2)
    boxes: Floats = np.clip((corners - shift) / gain, 0, limit).astype(np.float32)
    return boxes


class Cells(NamedTuple):
    """Where the pixels of one side lie among the prototypes' cells, whose centres are whole numbers."""

    first: float  # place of pixel 0, which may lie outside of the content
    step: float  # from one pixel to the next
    low: list[int]  # of each pixel, the cell before it,
    high: list[int]  # and the one behind it
    weights: Floats  # (pixels, cells)


@functools.lru_cache(maxsize=16)
def pixels_to_cells(size: int, start: float, length: float, cell_count: int) -> Cells:
    """For `length` cells from `start` on that are enlarged bilinearly to `size` pixels.

    Cell and pixel centres lie at halves (torch's interpolate with align_corners=False); start and length may be
    fractions of a cell, and cells outside the content are not mixed in. Kept: photos of one camera have one size.
    """
    step = length / size
    first = start + step / 2 - 0.5
    lowest, highest = max(math.floor(start), 0), min(math.ceil(start + length), cell_count) - 1
    at = np.clip(first + step * np.arange(size), lowest, highest)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, highest)
    weights = np.zeros((size, cell_count), dtype=np.float32)
    weights[np.arange(size), low] += (1 - (at - low)).astype(np.float32)
    weights[np.arange(size), high] += (at - low).astype(np.float32)
    weights.flags.writeable = False
    return Cells(first, step, low.tolist(), high.tolist(), weights)


def decode_masks(
    coefficients: Floats, prototypes: Floats, boxes: Floats, letterbox: Letterbox, imgsz: int
) -> list[Crop | Runs]:
    """Masks in the image's pixels: prototypes weighted, enlarged bilinearly, cut to the box, positive logits kept.

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


def logits_to_shapes(logits: Floats, boxes: list[list[int]], rows: Cells, columns: Cells) -> list[Crop | Runs]:
    """Masks from their logits, (n, rows of cells, columns of cells), each in the way that suits its size."""
    shapes: list[Crop | Runs] = []
    large = []
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        if (x2 - x1) * (y2 - y1) > SMALL_PIXELS:
            large.append(index)
            shapes.append(NO_RUNS)
        else:
            shapes.append(logit_to_crop(logits[index], x1, y1, x2, y2, rows, columns))
    if large:
        # Columns first, as runs go down them.
        runs = logits_to_runs(logits[large].transpose(0, 2, 1), [boxes[index] for index in large], rows, columns)
        for index, own in zip(large, runs, strict=True):
            shapes[index] = own
    return shapes


def logit_to_crop(logit: Floats, x1: int, y1: int, x2: int, y2: int, rows: Cells, columns: Cells) -> Crop:
    """One mask inside its box: bilinear enlargement is separable, rows @ logits @ columns."""
    if x1 >= x2 or y1 >= y2:
        return Crop(np.zeros((0, 0), np.uint8), x1, y1)
    down, along = (slice(cells.low[a], cells.high[b - 1] + 1) for cells, a, b in ((rows, y1, y2), (columns, x1, x2)))
    enlarged = rows.weights[y1:y2, down] @ logit[down, along] @ columns.weights[x1:x2, along].T
    return Crop((enlarged > 0).view(np.uint8), x1, y1)


def logits_to_runs(logits: Floats, boxes: list[list[int]], rows: Cells, columns: Cells) -> list[Runs]:
    """Masks from their logits in the prototypes' cells.

    Bilinear enlargement is linear between one row of cells and the next. So each column of pixels is interpolated at
    the rows of cells alone, and where its sign changes between two of them a division gives the row of pixels. What
    changes above a box's first row is taken for a change there, and below its last row for one behind it.

    Args:
        logits: (n, columns of cells, rows of cells).
        boxes: n times the first column and row of pixels in the box, and those behind it.
        rows, columns: where the image's pixels lie among the cells.
    """
    filled = [(owner, *box) for owner, box in enumerate(boxes) if box[0] < box[2] and box[1] < box[3]]
    if not filled:
        return [NO_RUNS] * len(boxes)
    top = min(rows.low[y1] for _, _, y1, _, _ in filled)
    bottom = max(rows.high[y2 - 1] for *_, y2 in filled) + 1
    height = len(rows.low)
    room = height * len(columns.low) + 1  # for one mask's places
    strips: list[list[tuple[int, int, int, int, int]]] = [[]]
    left = most = max(STRIP_VALUES // (bottom - top), 1)
    for owner, x1, y1, x2, y2 in filled:
        for start in range(x1, x2, most):
            strip = (owner, start, y1, min(start + most, x2), y2)
            left -= strip[3] - start
            if left < 0:
                strips.append([])
                left = most - (strip[3] - start)
            strips[-1].append(strip)
    runs = toggles_to_runs(
        np.concatenate([strip_to_toggles(logits, one, rows, columns, top, bottom) for one in strips])
    )
    ends = np.searchsorted(runs, [room * index for index in range(len(boxes) + 1)]).tolist()
    return [runs[ends[index] : ends[index + 1]] - room * index for index in range(len(boxes))]


def strip_to_toggles(
    logits: Floats, boxes: list[tuple[int, int, int, int, int]], rows: Cells, columns: Cells, top: int, bottom: int
) -> npt.NDArray[np.int64]:
    """Where some boxes' masks change, each box with its owner's index before it, by the rows of cells top to bottom."""
    height = len(rows.low)
    room = height * len(columns.low) + 1
    values_of, base_of = [], []
    for owner, x1, _, x2, _ in boxes:
        cells = slice(columns.low[x1], columns.high[x2 - 1] + 1)
        values_of.append(columns.weights[x1:x2, cells] @ logits[owner, cells, top:bottom])
        base_of.append(np.arange(owner * room + x1 * height, owner * room + x2 * height, height))
    values, base = np.concatenate(values_of), np.concatenate(base_of)
    counts = [x2 - x1 for _, x1, _, x2, _ in boxes]
    begins = base + np.repeat([y1 for _, _, y1, _, _ in boxes], counts)
    ends = base + np.repeat([y2 for *_, y2 in boxes], counts)
    inside = values > 0  # (columns of pixels, rows of cells)
    column, changed = np.nonzero(inside[:, :-1] != inside[:, 1:])
    before, behind = values[column, changed].astype(np.float64), values[column, changed + 1]
    row = (changed + before / (before - behind) + (top - rows.first)) / rows.step  # where the value is 0
    row = np.where(before > 0, np.ceil(row), np.floor(row) + 1)  # the first pixel behind it
    place = np.minimum(np.maximum(base[column] + row, begins[column]), ends[column]).astype(np.int64)
    return np.concatenate((begins[inside[:, 0]], place, ends[inside[:, -1]]))
