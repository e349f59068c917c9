"""The chart of a comparison of families: accuracy against latency, with the licence of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from seamline.base.coco import Record
from seamline.charts.evaluation import legible
from seamline.charts.style import plain_axes, subplots
from seamline.images.colours import COLOURS

MARKERS = "oDs^v"  # of licences


def families_figure(models: Mapping[str, Record], kind: str, timed: str) -> Figure:
    """mAP50-95 over the median latency; a bar for what other photos and another run may give, a mark for each seed.

    Args:
        models: as in reports/families.json.
        kind: of shapes, "mask" or "box".
        timed: the format whose latency is shown.
    """
    figure, axes = subplots(figsize=(7.5, 4.4))
    measure = f"test_{kind}_mAP50_95"
    licences = list(dict.fromkeys(model["licence"] for model in models.values()))
    slowest = 0.0
    for index, (name, model) in enumerate(models.items()):
        speed, accuracy = model["speed"][timed], model[measure]
        latency, colour = speed["latency_ms"]["p50"], COLOURS[index % len(COLOURS)]
        span, other_run = accuracy["interval"], speed["latency_p50_interval_ms"]
        axes.errorbar(
            latency,
            accuracy["mean"],
            xerr=bar(latency, other_run),
            yerr=bar(accuracy["mean"], span),
            fmt=MARKERS[licences.index(model["licence"]) % len(MARKERS)],
            markersize=9,
            capsize=4,
            color=colour,
            zorder=3,
            label=f"{legible(name)}, {model['licence']}",
        )
        seeds = [seed[measure] for seed in model["seeds"].values()]
        axes.plot([latency] * len(seeds), seeds, "_", color=colour, markersize=16, zorder=2)
        slowest = max(slowest, latency, *(other_run or [0]))
    axes.set_xlim(0, slowest * 1.1)
    axes.set_ylim(bottom=0)
    shapes = "masks" if kind == "mask" else "boxes"
    axes.set(
        xlabel=f"median ms for one image, from file to {shapes}", ylabel=f"{kind} mAP50-95 on test",
        title="Accuracy against latency",
    )  # fmt: skip
    plain_axes(axes)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=1, fontsize=9)
    return figure


def bar(value: float, interval: Sequence[float] | None) -> list[list[float]] | None:
    """An interval as matplotlib takes it."""
    return None if interval is None else [[max(value - interval[0], 0)], [max(interval[1] - value, 0)]]
