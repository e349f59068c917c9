"""A look at attributes: how many garments have each value, which values come together, and some of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.patches import Patch

from seamline.base.coco import Record
from seamline.charts.dataset import headed, split_patches, stacked_bars
from seamline.charts.style import panel_grid, plain_axes, save, subplots
from seamline.images.lettering import shortened
from seamline.images.reading import Image, read_image

MISSING_COLOUR = "#BBBBBB"
CHARTED_VALUES = 60  # of all attributes; tables have the others
SHEET_VALUES = 20
CELL_PX, GAP_PX = 128, 4  # of a contact sheet
NUMBERED_VALUES = 12  # a heat map of more has no room for numbers


def counts_chart(counts: Mapping[str, Record], path: Path) -> None:
    """A bar for each value of each attribute, by split, and a grey one for garments without a value."""
    rows: list[tuple[str, list[int], bool]] = []
    for name, one in counts.items():
        values = [
            (f"{shortened(name, 20)}: {shortened(value, 20)}", list(row.values()), False)
            for value, row in one["values"].items()
        ]
        rows += [*values, (f"{shortened(name, 20)}: missing", list(one["missing_by_split"].values()), True)]
    rows = rows[:CHARTED_VALUES]
    figure, axes = subplots(figsize=(8, 0.7 + 0.26 * len(rows)))
    table = np.array([row[1] for row in rows]).T
    stacked_bars(axes.barh, np.where([row[2] for row in rows], 0, table))
    totals = table.sum(axis=0)
    axes.barh(range(len(rows)), np.where([row[2] for row in rows], totals, 0), color=MISSING_COLOUR)
    for at, total in enumerate(totals):
        axes.annotate(f"{total:,}", (total, at), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, max(int(totals.max()), 1) * 1.12)
    axes.xaxis.get_major_locator().set_params(integer=True)
    plain_axes(axes)
    axes.set_axisbelow(True)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    headed(
        axes, "Garments with each value", [*split_patches(), Patch(color=MISSING_COLOUR, label="missing")], columns=4
    )
    save(figure, path)


def cooccurrence_chart(
    pairs: Sequence[tuple[str, str, npt.NDArray[np.int64]]], attributes: Mapping[str, Sequence[str]], path: Path
) -> None:
    """A heat map a pair of attributes: garments that have both values, shaded by their share of the row's."""
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    longest = max(len(values) for values in attributes.values())
    side = min(max(2.4, 0.5 * longest), 6)
    figure, axes = subplots(
        rows, columns, figsize=(columns * (side + 1), rows * (side + 0.9)), squeeze=False, layout="constrained"
    )
    for panel in axes.flat:
        panel.set_axis_off()
    for panel, (one, other, table) in zip(axes.flat, pairs, strict=False):
        shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        panel.set_axis_on()
        panel.imshow(shares, cmap=matplotlib.colormaps["Blues"], vmin=0, vmax=1, aspect="auto")
        if max(table.shape) <= NUMBERED_VALUES:
            for row, column in np.ndindex(table.shape):
                colour = "white" if shares[row, column] > 0.6 else "black"
                panel.text(column, row, f"{table[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
        panel.set_xticks(
            range(table.shape[1]), [shortened(name, 16) for name in attributes[other]], rotation=60, fontsize=8
        )
        panel.set_yticks(range(table.shape[0]), [shortened(name, 16) for name in attributes[one]], fontsize=8)
        panel.set_title(f"{shortened(one, 20)} and {shortened(other, 20)}", fontsize=9)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    save(figure, path)


def values_sheet(name: str, examples: Mapping[str, Sequence[Path]], path: Path) -> None:
    """A row of photos for each value of an attribute; `path` ends in .jpg."""
    shown = dict(list(examples.items())[:SHEET_VALUES])
    columns = max(max(map(len, shown.values())), 1)
    # One panel a row: matplotlib takes most of its time for panels, whatever is in them.
    figure, panels = panel_grid(len(shown), 1, 1.0 * columns, 1.25)
    for panel, (value, photos) in zip(panels, shown.items(), strict=False):
        panel.imshow(row_of(photos, columns)[:, :, ::-1])
        panel.set_title(shortened(value, 24), fontsize=9, loc="left", pad=3)
    figure.suptitle(shortened(name, 40), fontsize=11, x=0.01, ha="left")
    save(figure, path)


def row_of(photos: Sequence[Path], columns: int) -> Image:
    """Photos side by side on white, each in the middle of a square."""
    row = np.full((CELL_PX, columns * CELL_PX, 3), 255, np.uint8)
    for at, photo in enumerate(photos):
        image = read_image(photo)
        scale = (CELL_PX - GAP_PX) / max(image.shape[:2])
        size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        top, left = (CELL_PX - size[1]) // 2, at * CELL_PX + (CELL_PX - size[0]) // 2
        row[top : top + size[1], left : left + size[0]] = small
    return row
