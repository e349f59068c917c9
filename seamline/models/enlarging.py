"""Masks from values in cells: enlarged bilinearly to the image's own pixels, and positive inside their boxes."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seamline.models.arrays import Floats
from seamline.models.detections import Crop, Runs, toggles_to_runs

STRIP_VALUES = 1 << 17  # that are interpolated at once, so that they stay in a core's cache
SMALL_PIXELS = 1 << 17  # of a box whose mask is made pixel by pixel
NO_RUNS: Runs = np.zeros(0, dtype=np.int64)


class Cells(NamedTuple):
    """Where the pixels of one side lie among cells, whose centres are whole numbers."""

    first: float  # place of pixel 0, which may lie outside of the content
    step: float  # from one pixel to the next
    low: list[int]  # of each pixel, the cell before it,
    high: list[int]  # and the one behind it
    weights: Floats  # (pixels, cells)


@functools.lru_cache(maxsize=16)
def pixels_to_cells(size: int, start: float, length: float, cell_count: int) -> Cells:
    """For `length` cells from `start` on that are enlarged bilinearly to `size` pixels.

    Cell and pixel centres lie at halves (torch's interpolate with align_corners=False); start and length may be
    fractions of a cell, and cells outside the content are not mixed in. Cached: photos of one camera have one size.
    """
    step = length / size
    lowest, highest = max(math.floor(start), 0), min(math.ceil(start + length), cell_count) - 1
    return cells_along(size, start + step / 2 - 0.5, step, lowest, highest, cell_count)


def cells_along(size: int, first: float, step: float, lowest: int, highest: int, cell_count: int) -> Cells:
    """For `size` pixels, each `step` cells behind the one before; what lies outside of two cells has their values."""
    at = np.clip(first + step * np.arange(size), lowest, highest)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, highest)
    weights = np.zeros((size, cell_count), dtype=np.float32)
    weights[np.arange(size), low] += (1 - (at - low)).astype(np.float32)
    weights[np.arange(size), high] += (at - low).astype(np.float32)
    weights.flags.writeable = False
    return Cells(first, step, low.tolist(), high.tolist(), weights)


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
    """Masks from their logits in cells.

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
    room = height * len(columns.low) + 1  # for one mask's pixels
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
