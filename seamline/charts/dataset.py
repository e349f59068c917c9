"""A look at a dataset: what its images and masks are, by class and split, as CSV tables and charts of the same name."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from seamline.base.coco import Coco
from seamline.base.files import write_csv
from seamline.base.splits import SPLITS
from seamline.charts.contact_sheet import contact_sheet
from seamline.charts.dataset_table import Counts, Shares, Table, evenly, presence, rle_of, table_of
from seamline.charts.style import panel_grid, plain_axes, save, subplots
from seamline.images.lettering import shortened, wrapped
from seamline.masks.rle import rle_to_crop

SPLIT_COLOURS = ("#0072B2", "#E69F00", "#009E73")
GRID = 16
POSITIONS_A_CLASS = 2000
PERCENTILES = (10, 25, 50, 75, 90)
LAST_BAR = 25  # images of more instances than this share a bar
CHARTED_CLASSES = 60  # the most frequent; tables have them all
NUMBERED_CLASSES = 15  # a heat map of more classes has no room for numbers


def write_data_charts(coco: Coco, split_of: Sequence[str], images: Path, out: Path) -> None:
    """Charts and tables of a dataset, by class and split, into the folder `out` (which exists and is empty).

    Args:
        coco: a canonical dataset with at least one instance.
        split_of: train, val or test for each of its images.
        images: the folder of the image files.
        out: where the files go.
    """
    table = table_of(coco, split_of)
    write_classes(table, out)
    write_instances(table, out)
    write_areas(table, out)
    write_cooccurrence(table, out)
    write_positions(table, coco, out)
    contact_sheet(table, coco, images, out / "contact_sheet.png")


def write_classes(table: Table, out: Path) -> None:
    shown = presence(table)
    images = np.stack([shown[table.split == split].sum(axis=0) for split in range(len(SPLITS))])
    pairs = table.split[table.image] * len(table.names) + table.kind
    instances = np.bincount(pairs, minlength=images.size).reshape(images.shape)
    write_csv(
        out / "classes.csv",
        ("class", "split", "images", "instances"),
        (
            (name, split, images[row, kind], instances[row, kind])
            for kind, name in enumerate(table.names)
            for row, split in enumerate(SPLITS)
        ),
    )
    top = slice(CHARTED_CLASSES)
    classes_chart(
        table.names[top], instances[:, top], np.bincount(table.split, minlength=len(SPLITS)), out / "classes.png"
    )


def classes_chart(names: Sequence[str], instances: Counts, images: Counts, path: Path) -> None:
    """Instances of each class, and how the splits share them; instances are (splits, classes), images (splits,)."""
    figure, (counts, shares) = class_rows(names, (2.2, 1))
    totals = instances.sum(axis=0)
    stacked_bars(counts.barh, instances)
    stacked_bars(shares.barh, 100 * instances / np.maximum(totals, 1))
    for kind, total in enumerate(totals):
        counts.annotate(f"{total:,}", (total, kind), (4, 0), textcoords="offset points", va="center", fontsize=8)
    counts.set_xlim(0, max(totals.max(), 1) * 1.12)
    counts.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    counts.xaxis.set_major_formatter("{x:,.0f}")
    shares.set_xlim(0, 100)
    shares.xaxis.set_major_formatter(PercentFormatter(decimals=0))
    edges = 100 * np.cumsum(images)[:-1] / images.sum()
    lines = [shares.axvline(edge, color="black", linewidth=1, linestyle="--", label="of all images") for edge in edges]
    headed(counts, "Instances of each class", split_patches())
    headed(shares, "Shares of the splits", lines[:1])
    save(figure, path)


def class_rows(names: Sequence[str], width_ratios: Sequence[float]) -> tuple[Figure, Any]:
    """Axes side by side with a row for each class, the first at the top."""
    height = 0.5 + 0.27 * len(names)
    figure, axes = subplots(
        1, len(width_ratios), figsize=(9.5, height), sharey=True, squeeze=False, width_ratios=width_ratios,
        gridspec_kw={"wspace": 0.16},
    )  # fmt: skip
    axes[0, 0].set_yticks(range(len(names)), [shortened(name) for name in names])
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    for one in axes[0]:
        plain_axes(one)
        one.set_axisbelow(True)
        one.grid(axis="y", visible=False)
        one.tick_params(axis="y", length=0)
    return figure, axes[0]


def stacked_bars(bars: Any, heights: npt.NDArray[Any]) -> None:
    """A bar for each column of (splits, columns), drawn with an axes' bar or barh."""
    start = "left" if bars.__name__ == "barh" else "bottom"
    ends = np.cumsum(heights, axis=0)
    for height, end, colour in zip(heights, ends, SPLIT_COLOURS, strict=True):
        bars(range(heights.shape[1]), height, **{start: end - height}, color=colour)


def split_patches() -> list[Patch]:
    return [Patch(color=colour, label=split) for split, colour in zip(SPLITS, SPLIT_COLOURS, strict=True)]


def headed(axes: Any, title: str, handles: Sequence[Any], columns: int = 3) -> None:
    """A title and below it the legend, both above the axes and so not on the data, however tall they are."""
    axes.set_title(title, loc="left", fontsize=11, pad=24)
    axes.legend(
        handles=handles, frameon=False, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0,
        borderaxespad=0.4, handlelength=1.4, columnspacing=1.5, fontsize=9,
    )  # fmt: skip


def write_instances(table: Table, out: Path) -> None:
    counts = np.bincount(table.image, minlength=len(table.split))
    images = np.zeros((len(SPLITS), counts.max() + 1), dtype=np.int64)
    np.add.at(images, (table.split, counts), 1)
    write_csv(
        out / "instances.csv",
        ("instances", "split", "images"),
        (
            (count, split, images[row, count])
            for count in np.flatnonzero(images.sum(axis=0))
            for row, split in enumerate(SPLITS)
        ),
    )
    if images.shape[1] > LAST_BAR + 1:
        images = np.column_stack([images[:, :LAST_BAR], images[:, LAST_BAR:].sum(axis=1)])
    instances_chart(images, float(counts.mean()), float(np.median(counts)), out / "instances.png")


def instances_chart(images: Counts, mean: float, median: float, path: Path) -> None:
    """Images by their number of instances; images are (splits, numbers)."""
    numbers = images.shape[1]
    figure, axes = subplots(figsize=(max(4.5, 1.5 + 0.34 * numbers), 3.4))
    stacked_bars(axes.bar, images)
    axes.set_xlim(-0.6, numbers - 0.4)
    ticks = range(0, numbers, 1 if numbers <= 16 else 5)
    axes.set_xticks(ticks, [f"{tick}+" if tick == LAST_BAR else str(tick) for tick in ticks])
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="instances in an image", ylabel="images")
    headed(axes, f"Instances an image: mean {mean:.2f}, median {median:g}", split_patches())
    plain_axes(axes)
    axes.set_axisbelow(True)
    axes.grid(axis="x", visible=False)
    save(figure, path)


def write_areas(table: Table, out: Path) -> None:
    present = np.unique(table.kind)
    names = [table.names[kind] for kind in present]
    percentiles = np.array([np.percentile(table.share[table.kind == kind], PERCENTILES) for kind in present])
    write_csv(
        out / "areas.csv",
        ("class", *(f"p{percentile}" for percentile in PERCENTILES)),
        ([name, *(round(float(value), 4) for value in row)] for name, row in zip(names, percentiles, strict=True)),
    )
    areas_chart(names[:CHARTED_CLASSES], percentiles[:CHARTED_CLASSES], out / "areas.png")


def areas_chart(names: Sequence[str], percentiles: Shares, path: Path) -> None:
    """A row for each class of percentiles (classes, PERCENTILES), in percent of the image."""
    figure, (axes,) = class_rows(names, (1,))
    rows = np.arange(len(names))
    p10, p25, p50, p75, p90 = percentiles.T
    parts = [
        axes.hlines(rows, p10, p90, color="#56B4E9", linewidth=2.5, label="10% to 90% of the instances"),
        axes.hlines(rows, p25, p75, color="#0072B2", linewidth=7, label="25% to 75%"),
        *axes.plot(p50, rows, "o", color="white", markeredgecolor="black", markersize=5.5, label="median"),
    ]
    axes.set_xscale("log")
    low, high = percentiles.min(), percentiles.max()
    axes.set_xlim(low / 2, high * 2)  # wide enough for a tick at least
    ticks = [mantissa * 10.0**power for power in range(-6, 3) for mantissa in (1, 3)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:.6g}%"))
    headed(axes, "Area of an instance as a share of its image", parts)
    save(figure, path)


def write_cooccurrence(table: Table, out: Path) -> None:
    shown = presence(table).astype(np.float32)  # whole numbers below 2**24 stay exact, and floats multiply faster
    images = (shown.T @ shown).astype(np.int64)
    write_csv(
        out / "cooccurrence.csv",
        ("class", "other", "images"),
        (
            (name, other, images[row, column])
            for row, name in enumerate(table.names)
            for column, other in enumerate(table.names)
        ),
    )
    top = slice(CHARTED_CLASSES)
    cooccurrence_chart(table.names[top], images[top, top], out / "cooccurrence.png")


def cooccurrence_chart(names: Sequence[str], images: Counts, path: Path) -> None:
    """Images that show both classes, (classes, classes); shaded by the share of the row class's own images."""
    numbered = len(names) <= NUMBERED_CLASSES
    side = max(2.2, (0.6 if numbered else 0.24) * len(names))
    figure, axes = subplots(figsize=(side, side))
    shares = 100 * images / np.maximum(np.diag(images), 1)[:, None]
    np.fill_diagonal(shares, np.nan)  # always 100 %
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="#E4E4E4")
    cells = axes.imshow(shares, cmap=colours, vmin=0, vmax=100)
    if numbered:
        for row, column in np.ndindex(images.shape):
            colour = "white" if shares[row, column] > 60 else "black"
            axes.text(column, row, f"{images[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
    labels = [shortened(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=90)
    axes.set_yticks(range(len(names)), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Images that show both classes,\nshaded by their share of the row's", loc="left", fontsize=10, pad=9)
    bar = figure.colorbar(cells, ax=axes, fraction=0.046, pad=0.04, format=PercentFormatter(decimals=0))
    bar.outline.set_visible(False)
    save(figure, path)


def write_positions(table: Table, coco: Coco, out: Path) -> None:
    sizes = [(image.height, image.width) for image in coco.image_refs()]
    present = np.unique(table.kind)
    names = [table.names[kind] for kind in present]
    samples = [evenly(np.flatnonzero(table.kind == kind), POSITIONS_A_CLASS) for kind in present]
    covers = [
        np.mean([coverage(coco, table.record[one], *sizes[table.image[one]]) for one in sample], axis=0)
        for sample in samples
    ]
    write_csv(
        out / "positions.csv",
        ("class", "row", "column", "share"),
        (
            (name, row, column, round(float(cover[row, column]), 4))
            for name, cover in zip(names, covers, strict=True)
            for row, column in np.ndindex(GRID, GRID)
        ),
    )
    counts = [len(sample) for sample in samples]
    positions_chart(names[:CHARTED_CLASSES], covers[:CHARTED_CLASSES], counts[:CHARTED_CLASSES], out / "positions.png")


def coverage(coco: Coco, record: int, height: int, width: int) -> Shares:
    """How much of each cell of a (GRID, GRID) laid over the image an annotation's mask covers, 0 to 1."""
    crop, left, top = rle_to_crop(rle_of(coco, record, height, width))
    rows = cell_overlaps(height)[:, top : top + crop.shape[0]]
    columns = cell_overlaps(width)[:, left : left + crop.shape[1]]
    # Whole numbers: along one side they are exact in float32, which is three times as fast, over both in float64.
    shares: Shares = (rows @ crop) @ columns.T.astype(np.float64) / (height * width)
    return shares


@functools.lru_cache(maxsize=256)
def cell_overlaps(side: int) -> npt.NDArray[np.float32]:
    """How much of each pixel along a side lies in each of GRID cells, in parts of 1 / GRID: (GRID, side)."""
    cells = np.arange(GRID)[:, None] * side
    pixels = np.arange(side) * GRID
    overlaps = np.minimum(cells + side, pixels + GRID) - np.maximum(cells, pixels)
    return overlaps.clip(min=0).astype(np.float32)


def positions_chart(names: Sequence[str], covers: Sequence[Shares], counts: Sequence[int], path: Path) -> None:
    """A panel for each class: how often a mask covers each cell, from white for never to the class's own maximum."""
    figure, panels = panel_grid(len(names), 6, 1.5, 1.95)
    for axes, name, cover, count in zip(panels, names, covers, counts, strict=False):
        axes.imshow(cover, cmap="Blues", vmin=0)
        title = wrapped(shortened(name), 22)
        axes.set_title(f"{title}\nn = {count:,}, up to {cover.max():.0%}", fontsize=8)
        axes.set_axis_on()
        axes.spines[:].set_color("#BBBBBB")
    figure.suptitle("How often one of n masks covers a place of its image", fontsize=11)
    save(figure, path)
