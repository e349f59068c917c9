"""The chart of a benchmark: accuracy against speed, and where the time goes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from seamline.base.coco import Record
from seamline.charts.style import plain_axes, subplots
from seamline.images.colours import COLOURS

FORMAT_LABELS = {
    "pytorch": "PyTorch",
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "openvino_bf16": "OpenVINO bf16",
    "openvino_f16": "OpenVINO, f16 weights",
    "openvino_int8": "OpenVINO INT8",
    "pytorch_cuda": "PyTorch on the GPU",
    "onnx_cuda": "ONNX Runtime on the GPU",
}


def benchmark_figure(rows: Mapping[str, Record], kind: str = "mask") -> Figure:
    """mAP50-95 over throughput (with its range), and where an image's time goes; rows as in benchmark.json."""
    figure, (scatter, bars) = subplots(1, 2, figsize=(11, 4.2), gridspec_kw={"wspace": 0.4})
    precisions = [row[f"{kind}_mAP50_95"] for row in rows.values()]
    for index, (name, row) in enumerate(rows.items()):
        label = f"{FORMAT_LABELS.get(name, name)}: {row['throughput_img_s']:.0f} images/s"
        low, high = row["throughput_interval_img_s"] or [row["throughput_img_s"]] * 2
        scatter.errorbar(
            row["throughput_img_s"],
            row[f"{kind}_mAP50_95"],
            xerr=[[max(row["throughput_img_s"] - low, 0)], [max(high - row["throughput_img_s"], 0)]],
            fmt="o" if row["not_comparable"] is None else "D",
            markersize=8,
            capsize=4,
            color=COLOURS[index % len(COLOURS)],
            zorder=3,
            clip_on=False,
            label=label + ("" if row["not_comparable"] is None else " *"),
        )
    scatter.set_xlim(
        0, max((row["throughput_interval_img_s"] or [0, row["throughput_img_s"]])[1] for row in rows.values()) * 1.1
    )
    # Wide, so that the noise of a small test split looks small; a point at 0 is drawn over the axis.
    scatter.set_ylim(max(min(precisions) - 0.05, 0), max(precisions) + 0.05)
    scatter.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9)
    shapes = "masks" if kind == "mask" else "boxes"
    scatter.set(xlabel=f"images per second, from file to {shapes}", ylabel=f"{kind} mAP50-95 on test")
    scatter.set_title("Accuracy against speed")
    plain_axes(scatter)

    labels = [f"{FORMAT_LABELS.get(name, name)}\n{row['precision']}" for name, row in rows.items()]
    ends = np.zeros(len(rows))
    for colour, part in zip(("#56B4E9", "#0072B2", "#E69F00"), ("preprocess", "inference", "postprocess"), strict=True):
        widths = np.array([row[f"{part}_ms"] for row in rows.values()])
        bars.barh(labels, widths, left=ends, color=colour, label=part, height=0.6)
        ends += widths
    for height, end in enumerate(ends):
        bars.text(end, height, f" {end:.1f} ms", va="center", fontsize=9)
    bars.set_xlim(0, ends.max() * 1.18)
    bars.set(xlabel="median ms, one image at a time", title="Where the time goes")
    bars.invert_yaxis()
    plain_axes(bars)
    bars.grid(axis="y", visible=False)
    bars.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    return figure
