"""The pictures of a model's evaluation and benchmark: one function a chart, numbers in, a PNG out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO

from seamline.coco import Record
from seamline.drawing import COLOURS, drawn, hex_to_bgr, plain_axes, save
from seamline.files import whole_file
from seamline.masks import rle_to_mask
from seamline.metrics import Curve
from seamline.runtime.images import Image, read_image

TILE_PX = 256


def precision_recall_chart(curves: Sequence[Curve], path: Path) -> None:
    """Precision over recall of each class at mask IoU 0.5."""
    figure, axes = plt.subplots(figsize=(5.5, 4.2))
    for index, curve in enumerate(curves):
        average = float(np.mean(curve.precision))
        label = f"{curve.name}: AP50 {average:.3f}"
        axes.plot(curve.recall, curve.precision, color=COLOURS[index % len(COLOURS)], linewidth=2, label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Masks on test, IoU 0.5")
    plain_axes(axes)
    if curves:
        axes.legend(frameon=False, loc="lower left")
    save(figure, path)


def confusion_chart(names: Sequence[str], matrix: npt.NDArray[np.int64], threshold: float, path: Path) -> None:
    """Counts of instances, rows the truth; shaded by the share of the row."""
    side = 1.6 + 0.9 * len(names)
    figure, axes = plt.subplots(figsize=(side + 0.6, side))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(names)):
        for column in range(len(names)):
            if row == column == len(names) - 1:
                continue
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), [*names[:-1], "missed"], rotation=35, ha="right")
    axes.set_yticks(range(len(names)), [*names[:-1], "false alarm"])
    axes.set(xlabel="predicted", ylabel="actual", title=f"Test, score at least {threshold:.2f}, mask IoU 0.5")
    axes.spines[:].set_visible(False)
    save(figure, path)


def overlay_sheet(truth: COCO, results: list[Record], images: Path, threshold: float, count: int, path: Path) -> None:
    """Evenly chosen images in pairs: the truth left, the prediction right."""
    numbers = sorted(truth.imgs)
    positions = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).astype(int)
    chosen = [numbers[position] for position in positions]
    colour_of = {number: hex_to_bgr(COLOURS[index % len(COLOURS)]) for index, number in enumerate(sorted(truth.cats))}
    tiles = []
    for image_id in chosen:
        image = read_image(images / truth.imgs[image_id]["file_name"])
        records = truth.imgToAnns[image_id]
        actual = [(truth.annToMask(record), colour_of[record["category_id"]], "") for record in records]
        found = [
            (rle_to_mask(record["segmentation"]), colour_of[record["category_id"]], f"{record['score']:.2f}")
            for record in results
            if record["image_id"] == image_id and record["score"] >= threshold
        ]
        tiles.append(np.hstack([tile(drawn(image, masks)) for masks in (actual, found)]))
    columns = 3
    tiles += [np.full((TILE_PX, 2 * TILE_PX, 3), 255, np.uint8)] * (-len(tiles) % columns)
    legend = legend_strip([(truth.cats[number]["name"], colour_of[number]) for number in sorted(truth.cats)], columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    with whole_file(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", np.vstack([legend, *rows]))[1].tobytes())


def tile(image: Image) -> Image:
    """Fitted into a white square."""
    scale = (TILE_PX - 4) / max(image.shape[:2])
    width, height = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    square = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    top, left = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    square[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return square


def legend_strip(entries: list[tuple[str, tuple[int, int, int]]], columns: int) -> Image:
    strip = np.full((32, 2 * TILE_PX * columns, 3), 255, np.uint8)
    left = 8
    for name, colour in [*entries, ("left: truth, right: prediction with score", (255, 255, 255))]:
        cv2.rectangle(strip, (left, 9), (left + 16, 25), colour, -1)
        cv2.putText(strip, name, (left + 24, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
        left += 48 + 10 * len(name)
    return strip


FORMAT_LABELS = {
    "pytorch": "PyTorch",
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "openvino_int8": "OpenVINO INT8",
}


def benchmark_chart(rows: dict[str, Record], path: Path) -> None:
    """Mask AP against throughput, and where an image's time goes; rows as in reports/benchmark.json."""
    figure, (scatter, bars) = plt.subplots(1, 2, figsize=(11, 4.2), gridspec_kw={"wspace": 0.4})
    throughputs = [row["throughput_img_s"] for row in rows.values()]
    precisions = [row["mask_mAP50_95"] for row in rows.values()]
    for index, (name, row) in enumerate(rows.items()):
        label = f"{FORMAT_LABELS.get(name, name)}: {row['throughput_img_s']:.0f} images/s"
        point = (row["throughput_img_s"], row["mask_mAP50_95"])
        scatter.scatter(*point, s=90, color=COLOURS[index % len(COLOURS)], zorder=3, label=label)
    scatter.set_xlim(0, max(throughputs) * 1.1)
    scatter.set_ylim(min(precisions) - 0.05, max(precisions) + 0.05)  # noise of a small test split shall look small
    scatter.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9)
    scatter.set(xlabel="images per second, from file to masks", ylabel="mask mAP50-95 on test")
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
    bars.set(xlabel="median ms an image", title="Where the time goes")
    bars.invert_yaxis()
    plain_axes(bars)
    bars.grid(axis="y", visible=False)
    bars.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    save(figure, path)
