"""Side by side with the tools people use today: time and memory at full size, and what is left of the masks.

Every figure is of a whole process, started in turns; read the ratios, since machines differ and are noisy. The data
are drawn (bench/data.py) at the sizes of DeepFashion2; with --masks FOLDER (canonical COCO: annotations.json and
images/) the masks compared are yours.

Example: python -m bench.run --images 20000 63000 200000
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil

from bench.data import write_dataset
from bench.evaluation import write_predicted
from seamline.base.coco import read_coco
from seamline.base.files import write_json
from seamline.masks.filling import filled, line_to_trained_pixels
from seamline.masks.rle import mask_iou, rle_to_mask, segmentation_to_rle

SCRATCH = Path(".seamline/bench")
EVERY_S = 0.02


def measured(command: Sequence[str]) -> dict[str, float]:
    """Wall time in s, and the highest resident memory of the whole process tree in MiB, of one command.

    Raises:
        SystemExit: when the command fails.
    """
    begun = time.perf_counter()
    with (SCRATCH / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        root, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            peak = max(peak, tree_rss(root))
            time.sleep(EVERY_S)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} exited {process.returncode}:\n{(SCRATCH / 'log.txt').read_text()[-2000:]}")
    return {"wall_s": time.perf_counter() - begun, "peak_mib": peak / 2**20}


def tree_rss(root: psutil.Process) -> int:
    total = 0
    for process in (root, *tree_below(root)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def tree_below(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def peer(name: str, annotations: Path) -> Callable[[], dict[str, float]]:
    return lambda: measured([sys.executable, "-m", "bench.peers", name, str(annotations), out_of(name)])


def evaluation(folder: Path) -> dict[str, float]:
    return measured([sys.executable, "-m", "bench.evaluation", str(folder), out_of("evaluate")])


def stage(name: str, data: Path) -> Callable[[], dict[str, float]]:
    """A stage on the whole dataset, with its reports beside its output."""
    inputs = [f"--source={data}"] if name == "pull" else [str(data)]

    def run() -> dict[str, float]:
        shutil.rmtree(out_of(name), ignore_errors=True)
        return measured([sys.executable, "-m", f"stages.{name}", *inputs, out_of(name)])

    return run


def out_of(name: str) -> str:
    return str(SCRATCH / f"out-{name}")


def in_turns(
    ours: Callable[[], dict[str, float]], theirs: Callable[[], dict[str, float]], rounds: int
) -> dict[str, Any]:
    """Medians of both, and the median of the ratios round by round."""
    runs = [(ours(), theirs()) for _ in range(rounds)]
    row: dict[str, Any] = {}
    for key in ("wall_s", "peak_mib"):
        row[key] = round(statistics.median(mine[key] for mine, _ in runs), 2)
        row[f"peer_{key}"] = round(statistics.median(other[key] for _, other in runs), 2)
        row[f"{key}_ratio"] = round(statistics.median(mine[key] / other[key] for mine, other in runs), 3)
    return row


def mask_rows(data: Path) -> dict[str, Any]:
    """For each converter how much of every instance's mask its labels keep, as the trainer fills them.

    A converter may write an instance as several lines; each instance is compared with the line that fits it best.
    """
    coco = read_coco(data / "annotations.json")
    images = {image.id: image for image in coco.image_refs()}
    of_image: dict[int, list[Any]] = {number: [] for number in images}
    for raw in coco.annotations:
        record = msgspec.json.decode(raw)
        of_image[record["image_id"]].append(record["segmentation"])
    rows = {}
    for name in ("convert", "ultralytics-convert", "first-polygon", "supervision-convert"):
        if name == "supervision-convert" and find_spec("supervision") is None:
            print("supervision is not installed (make bench installs it): left out")
            continue
        (stage(name, data) if name == "convert" else peer(name, data / "annotations.json"))()
        ious = []
        for number, image in images.items():
            path = (Path(out_of(name)) / "labels" / image.file_name).with_suffix(".txt")
            # Not read with seamline.masks.yolo_labels, which refuses the coordinates outside the image that some write.
            texts = path.read_text().splitlines() if path.exists() else []
            lines = [np.array(text.split()[1:], dtype=np.float64).reshape(-1, 2) for text in texts]
            size = (image.height, image.width)
            trained = [filled(line_to_trained_pixels(line, *size), *size) for line in lines]
            for segmentation in of_image[number]:
                mask = rle_to_mask(segmentation_to_rle(segmentation, *size))
                ious.append(max((mask_iou(mask, other) for other in trained), default=0.0))
        rows[name] = {
            "instances": len(ious),
            "mean_iou": round(statistics.mean(ious), 4),
            "below_0_5": sum(iou < 0.5 for iou in ious),
        }
    return rows


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    print(f"\n{title}")
    columns = list(next(iter(rows.values())))
    widths = [max(len(column), 9) for column in columns]
    first = max(len(name) for name in rows)
    print(" " * first, *(column.rjust(width) for column, width in zip(columns, widths, strict=True)))
    for name, row in rows.items():
        values = (f"{row[column]:,}".rjust(width) for column, width in zip(columns, widths, strict=True))
        print(name.ljust(first), *values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 63_000, 200_000], help="sizes of the data")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each pair at the largest size")
    parser.add_argument("--evaluated", type=int, default=5000, help="images whose predictions are evaluated")
    parser.add_argument("--masks", type=Path, help="canonical COCO folder of yours for the masks; polygons only")
    args = parser.parse_args()
    sizes = sorted(args.images)
    for size in sizes:
        write_dataset(SCRATCH / f"data-{size}", size)
    largest = SCRATCH / f"data-{sizes[-1]}"

    report: dict[str, Any] = {"images": sizes[-1]}
    report["time"] = {
        "subset / COCO(path)": in_turns(
            stage("subset", largest), peer("pycocotools-load", largest / "annotations.json"), args.rounds
        ),
        "convert / convert_coco": in_turns(
            stage("convert", largest),
            peer("ultralytics-convert", largest / "annotations.json"),
            max(1, args.rounds // 2),
        ),
    }
    show(f"time and memory, {sizes[-1]:,} images", report["time"])
    predicted = SCRATCH / f"predicted-{args.evaluated}"
    write_predicted(predicted, args.evaluated)
    report["evaluation"] = {
        "evaluate / COCOeval": in_turns(
            lambda: evaluation(predicted), peer("pycocotools-evaluate", predicted / "test.json"), args.rounds
        )
    }
    show(f"evaluation without inference, {args.evaluated:,} images", report["evaluation"])
    names = ("pull", "subset", "convert", "split")
    runs = {(size, name): stage(name, SCRATCH / f"data-{size}")() for size in sizes for name in names}
    report["growth"] = {
        f"{name}, {size:,} images": {key: round(value, 2) for key, value in runs[size, name].items()}
        for name in names
        for size in sizes
    }
    show("growth", report["growth"])
    masks = args.masks
    if masks is None:
        masks = SCRATCH / "data-400"
        write_dataset(masks, 400)
    report["masks"] = mask_rows(masks)
    show("what the labels keep of the masks", report["masks"])
    write_json(SCRATCH / "bench.json", json.loads(json.dumps(report)))
    print(f"\nall figures: {SCRATCH / 'bench.json'}")


if __name__ == "__main__":
    SCRATCH.mkdir(parents=True, exist_ok=True)
    main()
