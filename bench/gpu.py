"""Ours beside plain ultralytics on a GPU: training, files to masks, and whether both find the same.

Five minutes on one card. Each measurement is a process of its own, in turns, and is written to .seamline/bench/gpu: run
it again after an interruption, and only what is missing is measured (--again: all of it). Needs torch, ultralytics,
pycocotools and msgspec, and no internet: photos and labels are made from samples/garments.zip, and models start from
random weights. Writes reports/gpu/CARD.json and prints the ratios; read these, not the absolute figures.

Example: python -m bench.gpu
         python -m bench.gpu --only predict
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from bench.gpu_data import write_photos
from seamline.base.coco import Record
from seamline.base.files import read_json, write_json

SCRATCH = Path(".seamline/bench/gpu")
SIDES = ("ours", "ultralytics")
# ultralytics' f32 is tf32 on cards that have it: torch computes convolutions so where nobody forbids it.
SAME_AS = {"f32": "f32", "tf32": "f32", "f16": "f16"}
DEFAULT_MODEL = "architectures/yolov9t-seg.yaml"


class Plan(NamedTuple):
    """What is measured, and of how much."""

    photos: tuple[int, int]  # of train and val
    models: dict[str, Record]  # by name: model, imgsz, batch, epochs
    predicting: str  # of these models
    precisions: dict[str, list[str]]  # by side
    batches: list[int]
    rounds: int
    repeats: int


WHOLE = Plan(
    photos=(320, 64),
    models={
        "yolov9c-seg": {"model": "yolov9c-seg.yaml", "imgsz": 640, "batch": 16, "epochs": 3},
        "default": {"model": DEFAULT_MODEL, "imgsz": 160, "batch": 8, "epochs": 4},
    },
    predicting="yolov9c-seg",
    precisions={"ours": ["f32", "tf32", "f16", "bf16"], "ultralytics": ["f32", "f16"]},
    batches=[1, 8, 32],
    rounds=2,
    repeats=2,
)
# The same in miniature, to see on a CPU that nothing is broken.
TINY = Plan(
    photos=(12, 4),
    models={"tiny": {"model": DEFAULT_MODEL, "imgsz": 64, "batch": 4, "epochs": 2}},
    predicting="tiny",
    precisions={"ours": ["f32"], "ultralytics": ["f32"]},
    batches=[1, 4],
    rounds=1,
    repeats=1,
)


def measured(name: str, part: str, job: Record, folder: Path) -> Any:
    """The result of a part, from an earlier run where it was measured with the same job before.

    Raises:
        SystemExit: when the part fails; its output is named.
    """
    result, log = folder / f"{name}.json", folder / f"{name}.txt"
    if result.exists() and (found := read_json(result))["job"] == job:
        return found["result"]
    fresh = folder / "fresh.json"
    start = time.perf_counter()
    with log.open("w") as stream:
        command = [sys.executable, "-m", "bench.gpu_parts", part, json.dumps(job), str(fresh)]
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT).returncode
    if code:
        sys.exit(f"{name}: failed ({log} says why); run the command again to resume.")
    found = read_json(fresh)
    write_json(result, {"job": job, "result": found})
    fresh.unlink()
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    return found


def measure_training(plan: Plan, data: Path, folder: Path, device: str) -> Record:
    """For each model the figures of both sides, and ours divided by ultralytics'."""
    rows: Record = {}
    for name, settings in plan.models.items():
        runs: dict[str, list[Record]] = {side: [] for side in SIDES}
        for number in range(plan.rounds):
            for side in SIDES:
                runs[side].append(train_once(name, settings, side, number, data, folder, device))
        row: Record = {side: medians(found) for side, found in runs.items()}
        row["ratio"] = {
            key: divided(row["ours"][key], row["ultralytics"][key])
            for key in ("images_s", "images_s_with_validation", "peak_mib")
        }
        rows[name] = {**settings, **row}
    return rows


def train_once(name: str, settings: Record, side: str, number: int, data: Path, folder: Path, device: str) -> Record:
    scratch = folder / f"train-{name}-{side}-{number}"
    job = {"side": side, "data": str(data), "scratch": str(scratch.resolve()), "device": device, **settings}
    if not (folder / f"{scratch.name}.json").exists():  # what a killed run left there would be resumed
        shutil.rmtree(scratch, ignore_errors=True)
    found: Record = measured(scratch.name, "train", job, folder)
    return found


def measure_predicting(plan: Plan, data: Path, folder: Path, device: str) -> Record:
    """Files to masks of both sides, ours divided by ultralytics' best batch, and what is found again."""
    settings = plan.models[plan.predicting]
    train_once(plan.predicting, settings, "ours", 0, data, folder, device)  # its weights
    weights = next((folder / f"train-{plan.predicting}-ours-0").glob("best-*.pt"))
    kind = "cpu" if device == "cpu" else "cuda"
    job = {
        "data": str(data), "weights": str(weights), "imgsz": settings["imgsz"], "batches": plan.batches,
        "device": kind, "repeats": plan.repeats, "confidence": 0.25, "side": "ours", "precisions": ["f32"],
    }  # fmt: skip
    job["confidence"] = measured("confidence", "confidence", job, folder)["confidence"]
    runs: dict[str, list[Record]] = {side: [] for side in SIDES}
    for number in range(plan.rounds):
        for side in SIDES:
            one = {**job, "side": side, "precisions": plan.precisions[side]}
            runs[side].append(measured(f"predict-{side}-{number}", "predict", one, folder))
    rows: Record = {
        side: {row: medians([run[row] for run in found]) for row in found[0]} for side, found in runs.items()
    }
    best = {
        side: {precision: best_rate(rows[side], precision) for precision in plan.precisions[side]} for side in SIDES
    }
    compared = measured("compare", "compare", {**job, "precisions": plan.precisions["ours"]}, folder)
    ratios = {
        precision: divided(best["ours"][precision], best["ultralytics"][SAME_AS[precision]])
        for precision in plan.precisions["ours"]
        if precision in SAME_AS
    }
    return {"model": plan.predicting, **rows, "ratio_at_its_best_batch": ratios, **compared}


def best_rate(rows: Record, precision: str) -> float:
    return max(float(row["images_s"]) for name, row in rows.items() if name.startswith(f"{precision},"))


def medians(runs: list[Record]) -> Record:
    return {
        key: None if any(run[key] is None for run in runs) else round(statistics.median(run[key] for run in runs), 2)
        for key in runs[0]
    }


def divided(ours: float | None, theirs: float | None) -> float | None:
    return round(ours / theirs, 3) if ours and theirs else None


def about(device: str) -> Record:
    """The card, its driver and the versions that made the figures."""
    import torch

    found: Record = {"card": card_name(device), "python": platform.python_version(), "driver": None}
    if device != "cpu":
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with contextlib.suppress(FileNotFoundError, IndexError):
            found["driver"] = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()[0]
    found["cuda"] = torch.version.cuda
    for package in ("torch", "torchvision", "ultralytics", "opencv-python-headless", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def card_name(device: str) -> str:
    import torch

    return f"CPU {platform.machine()}" if device == "cpu" else torch.cuda.get_device_name(int(device))


def show(report: Record) -> None:
    for name, row in report.get("train", {}).items():
        for key, ratio in row["ratio"].items():
            print(f"train {name}: {key} {row['ours'][key]} beside {row['ultralytics'][key]}: {ratio}")
    if predicting := report.get("predict"):
        for side in SIDES:
            for name, row in predicting[side].items():
                print(f"files to masks, {side}, {name}: {row['images_s']} images/s")
        print(f"beside ultralytics at its best batch: {predicting['ratio_at_its_best_batch']}")
        print(f"of ultralytics' detections found again: {predicting['found_again']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("train", "predict"))
    parser.add_argument("--device", default="0", help="number of the GPU, or cpu")
    parser.add_argument("--tiny", action="store_true", help="in miniature, to see whether it works")
    parser.add_argument("--again", action="store_true", help="measure all of it again")
    parser.add_argument("--out", type=Path, default=Path("reports/gpu"), help="folder of the report")
    args = parser.parse_args()
    plan = TINY if args.tiny else WHOLE
    card = re.sub(r"\W+", "-", card_name(args.device)).strip("-")
    folder = SCRATCH / (f"{card}-tiny" if args.tiny else card)
    if args.again:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    data = write_photos(SCRATCH / f"photos-{sum(plan.photos)}", *plan.photos)
    out = args.out / f"{folder.name}.json"
    report = read_json(out) if out.exists() else {}
    report |= about(args.device)
    start = time.perf_counter()
    for part, measure in (("train", measure_training), ("predict", measure_predicting)):
        if args.only in (None, part):
            report[part] = measure(plan, data, folder, args.device)
            out.parent.mkdir(parents=True, exist_ok=True)
            write_json(out, report)
    show(report)
    print(f"{out}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
