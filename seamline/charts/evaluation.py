"""The charts of a training and an evaluation: numbers as reports/ has them in, a figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seamline.charts.style import plain_axes, subplots
from seamline.images.colours import COLOURS
from seamline.images.lettering import shortened

Column = Sequence[float | None]
CURVES = 8  # of classes on one chart; tables have them all
CLASSES = 40  # rows on a chart; tables have them all
FEW_POINTS = 8  # a curve of so few has a dot at each; of one there is nothing else to see
LABEL_COLUMNS = 48  # of a slice: its field, its value and a count


def curve_figure(x: Column, columns: Mapping[str, Column], title: str, *, xlabel: str, ylabel: str) -> Figure:
    """Columns of a table over `x`, the first CURVES of them; None leaves a gap."""
    figure, axes = subplots(figsize=(5.5, 3.8))
    at = numbers(x)
    for index, (name, values) in enumerate(list(columns.items())[:CURVES]):
        known = numbers(values)
        shown = ~np.isnan(known)
        if shown.any():
            dots = "o" if shown.sum() <= FEW_POINTS else None
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(at[shown], known[shown], marker=dots, color=colour, linewidth=1.8, label=legible(name))
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.set_ylim(bottom=0)
    plain_axes(axes)
    if axes.lines:
        legend_below(axes)
    return figure


def precision_recall_figure(columns: Mapping[str, Column], kind: str = "mask") -> Figure:
    """reports/evaluate/precision_recall.csv: recall, the mean precision of all classes, then that of each class."""
    classes = {
        name.removeprefix("precision "): values for name, values in columns.items() if name.startswith("precision ")
    }
    if len(classes) > CURVES:
        classes = {"mean of the classes": columns["precision"]}
    title = f"Precision over recall, {kind} IoU 0.5"
    figure = curve_figure(columns.get("recall", []), classes, title, xlabel="recall", ylabel="precision")
    figure.axes[0].set(xlim=(0, 1), ylim=(0, 1.02))
    return figure


def confidence_figure(columns: Mapping[str, Column], threshold: float, kind: str = "mask") -> Figure:
    """reports/evaluate/confidence.csv: precision, recall and F1 of all classes over the score threshold."""
    figure = curve_figure(
        columns["confidence"],
        {name: columns[name] for name in ("precision", "recall", "F1")},
        f"What a score threshold does, {kind} IoU 0.5",
        xlabel="score threshold",
        ylabel="mean of the classes",
    )
    axes = figure.axes[0]
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.axvline(threshold, color="#808080", linestyle="--", linewidth=1.2)
    axes.text(threshold, 1.03, f"{threshold:.2f}", ha="center", va="bottom", fontsize=8, color="#808080")
    axes.set_title(axes.get_title(), pad=16)
    return figure


def reliability_figure(
    rows: Sequence[Mapping[str, Any]], error: float | None, by_chance: Mapping[str, float] | None
) -> Figure:
    """reports/evaluate/reliability.csv: the share of right predictions beside their mean score.

    Args:
        rows: one a bin.
        error: the mean distance between the two.
        by_chance: its mean and limit where scores are probabilities.
    """
    figure, axes = subplots(figsize=(5.5, 3.8))
    known = [row for row in rows if row["predictions"]]
    scores, shares = ([float(row[key]) for row in known] for key in ("mean_score", "right"))
    most = max((int(row["predictions"]) for row in known), default=1)
    sizes = [20 + 180 * int(row["predictions"]) / most for row in known]
    axes.plot((0, 1), (0, 1), color="#808080", linestyle="--", linewidth=1.2)
    axes.plot(scores, shares, color=COLOURS[0], linewidth=1.2)
    axes.scatter(scores, shares, s=sizes, color=COLOURS[0], alpha=0.85, zorder=3, clip_on=False)
    said = ""
    if error is not None and by_chance is not None:
        said = (
            f"\n(off by {error:.3f} on average; by chance {by_chance['mean']:.3f}, 95%: up to {by_chance['limit']:.3f})"
        )
    axes.set(xlabel=f"mean score of the bin{said}", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title("Do scores mean what they say?")
    plain_axes(axes)
    return figure


def confusion_figure(names: Sequence[str], matrix: Any, threshold: float, kind: str = "mask") -> Figure:
    """Counts of instances, rows the truth; shaded by the share of the row."""
    side = 1.6 + 0.9 * min(len(names), 16)
    figure, axes = subplots(figsize=(side + 0.6, side))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 10 if len(names) <= 16 else 5
    labels = [shortened(name) for name in names[:-1]]
    for row in range(len(names)):
        for column in range(len(names)):
            if row == column == len(names) - 1:
                continue
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=size)
    axes.set_xticks(range(len(names)), [*labels, "missed"], rotation=35, ha="right", fontsize=size)
    axes.set_yticks(range(len(names)), [*labels, "false alarm"], fontsize=size)
    axes.set(xlabel="predicted", ylabel="actual", title=f"Test, score at least {threshold:.2f}, {kind} IoU 0.5")
    axes.spines[:].set_visible(False)
    return figure


def interval_figure(
    rows: Sequence[tuple[str, float | None, Sequence[float] | None]], title: str, xlabel: str
) -> Figure:
    """A dot and its interval for each (name, value, interval), from the top down; hollow where there is no interval."""
    shown = [row for row in rows if row[1] is not None][:CLASSES]
    figure, axes = subplots(figsize=(5.5, 0.9 + 0.27 * max(len(shown), 1)))
    for height, (_, value, interval) in enumerate(shown):
        if interval is not None:
            axes.plot(interval, (height, height), color=COLOURS[0], linewidth=2.5, alpha=0.45, solid_capstyle="round")
        face = "none" if interval is None else COLOURS[0]
        axes.plot([value or 0.0], [height], "o", color=COLOURS[0], markerfacecolor=face, markersize=6)
    axes.set_yticks(range(len(shown)), [shortened(name, LABEL_COLUMNS) for name, _, _ in shown])
    axes.set(xlim=(0, 1), xlabel=xlabel, title=title)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    plain_axes(axes)
    axes.grid(axis="y", visible=False)
    return figure


def slices_figure(rows: Sequence[Mapping[str, Any]], kind: str = "mask") -> Figure:
    """Rows of reports/evaluate/slices.csv of one split: mAP50-95 of each slice with its interval."""
    measure = f"{kind}_mAP50_95"
    return interval_figure(
        [
            (
                f"{row['field']}: {row['value']} ({row['instances']})",
                row[measure],
                None if row[f"{measure}_low"] is None else (row[f"{measure}_low"], row[f"{measure}_high"]),
            )
            for row in rows
        ],
        f"{'Masks' if kind == 'mask' else 'Boxes'} by slice on test (instances), with 95% intervals",
        "mAP50-95",
    )


def mistakes_figure(counts: Mapping[str, int], title: str) -> Figure:
    """Counts by kind of mistake."""
    figure, axes = subplots(figsize=(5.5, 0.9 + 0.32 * len(counts)))
    axes.barh(list(counts), list(counts.values()), color=COLOURS[1], height=0.6)
    for height, count in enumerate(counts.values()):
        axes.text(count, height, f" {count}", va="center", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, max([*counts.values(), 1]) * 1.12)
    axes.set(title=title)
    axes.invert_yaxis()
    plain_axes(axes)
    axes.grid(axis="y", visible=False)
    return figure


def numbers(values: Column) -> Any:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def legible(name: str) -> str:
    """matplotlib leaves names that begin with _ out of legends."""
    return f" {shortened(name)}" if name.startswith("_") else shortened(name)


def legend_below(axes: Any) -> None:
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, fontsize=8)
