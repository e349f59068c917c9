"""YOLO's masks of a whole batch in tensors, on whatever device they are: the runs of enlarging.py, all at once.

Nothing but the runs leaves the device. As there, each column of pixels is interpolated at the rows of the prototypes'
cells alone, and where its sign changes between two of them a division gives the row of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seamline.models.detections import Runs
from seamline.models.letterbox import Letterbox

if TYPE_CHECKING:
    from torch import Tensor

VALUES_AT_ONCE = 1 << 24  # numbers of f32 that are computed together: some 300 MB with all that is made of them


class Grid(NamedTuple):
    """Where the pixels of one side lie among the cells, as in enlarging.Cells; f64, a number for each instance."""

    first: Tensor
    step: Tensor
    lowest: Tensor
    highest: Tensor

    def at(self, index: slice | Tensor) -> Grid:
        return Grid(*(part[index] for part in self))

    def place(self, pixels: Tensor) -> Tensor:
        """Of a pixel of each instance."""
        return (self.first + self.step * pixels).maximum(self.lowest).minimum(self.highest)

    def low(self, pixels: Tensor) -> Tensor:
        """The cell before a pixel."""
        return self.place(pixels).floor().long()

    def high(self, pixels: Tensor) -> Tensor:
        """The cell behind it."""
        return (self.low(pixels) + 1).minimum(self.highest.long())


class Instances(NamedTuple):
    """Instances of a batch, in the order of the images; all parts have one entry for each."""

    coefficients: Tensor  # (n, coefficients), f32
    images: list[int]  # which of the batch
    corners: Tensor  # (n, 4): the first column and row of pixels in the box, and those behind it
    widths: list[int]  # of the boxes in pixels, 0 for one that has none
    rows: Grid
    columns: Grid
    heights: Tensor  # of the photos, in pixels

    def part(self, start: int, end: int) -> Instances:
        some = slice(start, end)
        return Instances(
            self.coefficients[some],
            self.images[some],
            self.corners[some],
            self.widths[some],
            self.rows.at(some),
            self.columns.at(some),
            self.heights[some],
        )


def decode_masks(
    coefficients: Tensor,
    images: Tensor,
    prototypes: Tensor,
    boxes: Tensor,
    letterboxes: Sequence[Letterbox],
    imgsz: int,
) -> list[Runs]:
    """What yolo_masks.decode_masks gives, as runs.

    Args:
        coefficients: (n, coefficients), f32.
        images: (n,), which of the batch each instance is in, in order.
        prototypes: (batch, coefficients, rows of cells, columns of cells).
        boxes: (n, 4) in the photos' pixels.
        letterboxes: how each photo lies in the input.
    """
    import torch

    if not len(images):
        return []
    device, (row_count, column_count) = boxes.device, prototypes.shape[2:]
    stride = imgsz / row_count
    rows = [grid_of(box.height, box.top / stride, box.scaled_height / stride, row_count) for box in letterboxes]
    columns = [grid_of(box.width, box.left / stride, box.scaled_width / stride, column_count) for box in letterboxes]
    table = torch.tensor([[*row, *column] for row, column in zip(rows, columns, strict=True)], dtype=torch.float64)
    own = table.to(device)[images]
    corners = boxes.ceil().long()
    sides = corners[:, 2:] - corners[:, :2]
    widths = torch.where((sides > 0).all(dim=1), sides[:, 0], 0)
    heights = torch.tensor([box.height for box in letterboxes]).to(device)[images]
    instances = Instances(
        coefficients,
        images.tolist(),
        corners,
        widths.tolist(),
        Grid(*own[:, :4].unbind(1)),
        Grid(*own[:, 4:].unbind(1)),
        heights,
    )
    room = max(box.height * box.width for box in letterboxes) + 1  # for one mask's pixels
    toggles = []
    for start, end in parts(instances.widths, row_count, column_count):
        made = instances_to_toggles(instances.part(start, end), prototypes, room)
        toggles.append(made + room * start)
    runs = toggles_to_runs(torch.cat(toggles)).cpu().numpy()
    ends = np.searchsorted(runs, room * np.arange(len(images) + 1)).tolist()
    return [runs[start:end] - room * index for index, (start, end) in enumerate(pairwise(ends))]


def grid_of(size: int, start: float, length: float, cell_count: int) -> tuple[float, float, int, int]:
    """The four numbers of a Grid, by the rule of enlarging.pixels_to_cells."""
    step = length / size
    lowest, highest = max(math.floor(start), 0), min(math.ceil(start + length), cell_count) - 1
    return start + step / 2 - 0.5, step, lowest, highest


def parts(widths: Sequence[int], rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """The instances in turn, as many at once as fit into VALUES_AT_ONCE; one is computed however large it is."""
    start = values = 0
    for index, width in enumerate(widths):
        own = rows * (width + columns)
        if index > start and values + own > VALUES_AT_ONCE:
            yield start, index
            start, values = index, 0
        values += own
    yield start, len(widths)


def instances_to_toggles(instances: Instances, prototypes: Tensor, room: int) -> Tensor:
    """Where masks change, in pixels counted down the columns, `room` of them for each instance."""
    import torch

    device = prototypes.device
    logits = logits_of(instances, prototypes)  # columns of cells first, as runs go down them
    counts = torch.tensor(instances.widths, device=device)
    total = sum(instances.widths)
    owner = torch.repeat_interleave(torch.arange(len(counts), device=device), counts, output_size=total)
    column = torch.arange(total, device=device) - (counts.cumsum(0) - counts)[owner] + instances.corners[owner, 0]

    across = instances.columns.at(owner)
    place, low = across.place(column), across.low(column)
    weight = place - low
    values = logits[owner, low] * (1 - weight).float()[:, None]
    values += logits[owner, across.high(column)] * weight.float()[:, None]  # (columns of pixels, rows of cells)
    inside = values > 0

    y1, y2 = instances.corners[:, 1], instances.corners[:, 3]
    top, bottom = instances.rows.low(y1)[owner], instances.rows.high(y2 - 1)[owner]
    base = owner * room + column * instances.heights[owner]
    begins, ends = base + y1[owner], base + y2[owner]

    cells = torch.arange(values.shape[1] - 1, device=device)
    crossing = (inside[:, :-1] != inside[:, 1:]) & (cells >= top[:, None]) & (cells < bottom[:, None])
    which, cell = crossing.nonzero(as_tuple=True)
    before, behind = values[which, cell].double(), values[which, cell + 1]
    down = instances.rows.at(owner[which])
    row = (cell + before / (before - behind) - down.first) / down.step  # where the value is 0
    row = torch.where(before > 0, row.ceil(), row.floor() + 1)  # the first pixel behind it
    changes = (base[which] + row.long()).maximum(begins[which]).minimum(ends[which])

    starts_inside = inside.gather(1, top[:, None])[:, 0]
    ends_inside = inside.gather(1, bottom[:, None])[:, 0]
    return torch.cat((begins[starts_inside], changes, ends[ends_inside]))


def logits_of(instances: Instances, prototypes: Tensor) -> Tensor:
    """(n, columns of cells, rows of cells), f32: each instance's coefficients times the prototypes of its own image."""
    import torch

    found, start = [], 0
    coefficients = prototypes.shape[1]
    for image, same in groupby(instances.images):
        end = start + len(list(same))
        weighted = instances.coefficients[start:end] @ prototypes[image].reshape(coefficients, -1).float()
        found.append(weighted.reshape(-1, *prototypes.shape[2:]))
        start = end
    return torch.cat(found).transpose(1, 2).contiguous()


def toggles_to_runs(toggles: Tensor) -> Tensor:
    """As detections.toggles_to_runs: in order, and two at one pixel cancel each other."""
    import torch

    pixels, counts = torch.unique_consecutive(toggles.sort().values, return_counts=True)
    odd: Tensor = pixels[counts % 2 == 1]
    return odd
