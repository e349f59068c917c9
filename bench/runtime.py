"""The runtime beside ultralytics' own predictor and OpenVINO's benchmark_app: images a second and ms an image.

The same model file, precision and cores for both, each in a process of its own, in rounds in which they take turns;
read the ratios. ultralytics is given the folder (a list of files it decodes into one batch) and streams.

Example: python -m bench.runtime models/train/best.pt models/export data/subset/images
"""

from __future__ import annotations

import argparse
import functools
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from seamline.base.coco import Record
from seamline.base.files import link_or_copy, write_json
from seamline.base.process import quiet_environment
from seamline.base.processors import instructions
from seamline.benchmark.engine_process import EngineProcess, engine_processes
from seamline.benchmark.machine import usable_core_ids
from seamline.export.gates import matched_share
from seamline.images.files import SUFFIXES
from seamline.images.reading import ImageError
from seamline.inference.detector import Detector
from seamline.masks.rle import mask_to_rle
from seamline.models.engines.opening import open_engine

SCRATCH = Path(".seamline/bench/runtime")
CONFIDENCE = 0.25
FAINT = 0.001
SQUARE = "pytorch, square"  # the input that all others have; left alone, ultralytics pads best.pt's less
SINGLE = 60  # images of a latency round
TIMEOUT_S = 1800


class Theirs:
    """ultralytics' predictor on a best.pt, an ONNX file or an OpenVINO folder of ours."""

    def __init__(self, path: Path, imgsz: int, precision: str, confidence: float, rect: bool) -> None:
        from ultralytics import YOLO

        if path.is_dir():
            pin_openvino(precision)
        self.model = YOLO(str(path), task="segment")
        self.options: Record = {"imgsz": imgsz, "conf": confidence, "rect": rect, "max_det": 100, "device": "cpu"}
        self.options["verbose"] = False


def pin_openvino(precision: str) -> None:
    """ultralytics leaves it to OpenVINO, which takes bf16 where the processor has it, and has no option for it."""
    import openvino

    original = openvino.Core.compile_model

    def compile_model(self: Any, model: Any, device_name: str = "CPU", config: Any = None) -> Any:
        return original(self, model, device_name, {**(config or {}), "INFERENCE_PRECISION_HINT": precision})

    openvino.Core.compile_model = compile_model


def their_folder(one: Theirs, folder: Path) -> tuple[float, int]:
    start, count = time.perf_counter(), 0
    for found in one.model.predict(str(folder), stream=True, **one.options):
        count += 1
        if found.masks is not None:
            found.masks.data.shape  # noqa: B018 - they are made by now
    return count / (time.perf_counter() - start), count


def our_folder(one: Detector, folder: Path) -> tuple[float, int]:
    images = images_below(folder)
    start = time.perf_counter()
    count = sum(1 for _ in one.detect_all(images))
    return count / (time.perf_counter() - start), count


def their_single(one: Theirs, images: list[Path]) -> float:
    return timed(lambda image: one.model.predict(str(image), **one.options), images)


def our_single(one: Detector, images: list[Path]) -> float:
    return timed(one.detect, images)


def timed(predict: Callable[[Path], object], images: list[Path]) -> float:
    """Median ms an image."""
    found = []
    for image in images:
        start = time.perf_counter()
        predict(image)
        found.append(1000 * (time.perf_counter() - start))
    return statistics.median(found)


def images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def as_theirs(path: Path, imgsz: int, names: list[str]) -> Path:
    """A model of ours as ultralytics wants one: its name, and what it has to know in the file or beside it."""
    about = {"task": "segment", "stride": 32, "batch": 1, "imgsz": [imgsz, imgsz], "names": dict(enumerate(names))}
    if path.suffix == ".onnx":
        import onnx

        SCRATCH.mkdir(parents=True, exist_ok=True)
        model = onnx.load(path)
        del model.metadata_props[:]
        for key, value in about.items():
            model.metadata_props.add(key=key, value=str(value))
        onnx.save(model, SCRATCH / path.name)
        return SCRATCH / path.name
    folder = SCRATCH / f"{path.name}_openvino_model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("model.xml", "model.bin"):
        link_or_copy(path / name, folder / name)
    text = yaml.safe_dump({**about, "channels": 3, "end2end": False, "args": {"batch": 1, "dynamic": False}})
    (folder / "metadata.yaml").write_text(text, encoding="utf-8")
    return folder


def benchmark_app(path: Path, precision: str, seconds: int) -> float:
    """OpenVINO's own measure of inference alone, images/s, on all cores that this process may use."""
    command = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(path / "model.xml"), "-d", "CPU"]
    command += ["-hint", "throughput", "-infer_precision", precision, "-t", str(seconds)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.findall(r"Throughput:\s+([\d.]+)", text)[-1])


def first_image(path: Path, image: Path) -> tuple[float, float]:
    """Seconds and MB of a new process that opens a model and predicts one image."""
    code = (
        "import sys; from pathlib import Path; from seamline.inference.detector import Detector; "
        "Detector(Path(sys.argv[1])).detect(Path(sys.argv[2])); "
        "from seamline.benchmark.machine import peak_rss_mb; print(peak_rss_mb())"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, path, image], check=True, capture_output=True, text=True)
    return time.perf_counter() - start, float(done.stdout)


def found_again(weights: Path, folder: Path, confidence: float) -> float | None:
    """Which share of ultralytics' own predictions of best.pt ours finds, on the same square input."""
    detector = Detector(weights, FAINT)
    theirs = Theirs(weights, detector.imgsz, "f32", confidence, rect=False)
    numbers = list(range(len(detector.names)))
    reference: list[Record] = []
    ours: list[Record] = []
    images = images_below(folder)
    for index, (image, found) in enumerate(zip(images, detector.detect_all(images), strict=True)):
        if isinstance(found, ImageError):
            raise found
        ours += found.to_coco(index, numbers)
        [result] = theirs.model.predict(str(image), retina_masks=True, **theirs.options)
        if result.masks is None:
            continue
        for mask, kind, score in zip(result.masks.data, result.boxes.cls, result.boxes.conf, strict=True):
            rle = mask_to_rle(mask.numpy().astype("uint8"))
            reference.append({"image_id": index, "category_id": int(kind), "score": float(score), "segmentation": rle})
    print(f"ultralytics finds {sum(record['score'] > CONFIDENCE for record in reference)} above {CONFIDENCE}")
    return matched_share(ours, reference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="trained model, such as models/train/best.pt")
    parser.add_argument("exported", type=Path, help="folder of the export stage, such as models/export")
    parser.add_argument("images", type=Path, help="folder of images, such as data/subset/images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--confidence", type=float, default=CONFIDENCE, help="lower: more masks to decode")
    args = parser.parse_args()
    quiet_environment()
    cores = usable_core_ids(None)
    f32, int8 = args.exported / "openvino", args.exported / "openvino_int8"
    facts = open_engine(f32, 1).facts
    theirs = functools.partial(as_theirs, imgsz=facts.imgsz, names=facts.names)
    onnx = args.exported / "onnx" / "model.onnx"
    pairs: dict[str, tuple[Path, Path, str]] = {
        "pytorch": (args.weights, args.weights, "f32"),
        SQUARE: (args.weights, args.weights, "f32"),
        "onnx": (onnx, theirs(onnx), "f32"),
        "openvino f32": (f32, theirs(f32), "f32"),
    }
    if {"avx512_bf16", "amx_bf16"} & set(instructions()):
        pairs["openvino bf16"] = (f32, theirs(f32), "bf16")
    if (int8 / "model.xml").is_file():
        pairs["int8"] = (int8, theirs(int8), "f32")

    images = images_below(args.images)[:SINGLE]
    throughput: dict[str, list[float]] = {}
    latency: dict[str, list[float]] = {}
    with engine_processes() as processes:
        for name, (our_path, their_path, precision) in pairs.items():
            ours = functools.partial(Detector, our_path, args.confidence, precision=precision)
            other: Any = functools.partial(
                Theirs, their_path, facts.imgsz, precision, args.confidence, name == "pytorch"
            )
            for label, opener in ((f"{name}: ours", ours), (f"{name}: ultralytics", other)):
                processes.append(EngineProcess(label, opener, cores, TIMEOUT_S))
        for number in range(args.rounds + 1):  # the first to warm up
            for process in processes:
                mine = process.name.endswith("ours")
                rate, count = process.ask(our_folder if mine else their_folder, args.images)
                single = process.ask(our_single if mine else their_single, images)
                if number:
                    throughput.setdefault(process.name, []).append(rate)
                    latency.setdefault(process.name, []).append(single)
                    print(f"{process.name}: {rate:.1f} images/s of {count}, {single:.2f} ms", flush=True)

    alone = [benchmark_app(f32, "f32", 10) for _ in range(3)]
    seconds, megabytes = zip(*(first_image(f32, images[0]) for _ in range(5)), strict=True)
    report: Record = {
        "found_again": found_again(args.weights, args.images, CONFIDENCE),
        "imgsz": facts.imgsz,
        "cores": len(cores),
        "images_s": {name: round(statistics.median(values), 2) for name, values in throughput.items()},
        "p50_ms": {name: round(statistics.median(values), 3) for name, values in latency.items()},
        "benchmark_app_f32_images_s": round(statistics.median(alone), 2),
        "first_image_s": round(statistics.median(seconds), 2),
        "first_image_mb": round(statistics.median(megabytes), 1),
    }
    ratios = {
        f"{name}: images/s beside ultralytics": paired(throughput[f"{name}: ours"], throughput[f"{name}: ultralytics"])
        for name in pairs
    } | {
        f"{name}: p50 beside ultralytics": paired(latency[f"{name}: ours"], latency[f"{name}: ultralytics"])
        for name in pairs
    }
    rates = report["images_s"]
    ratios["openvino f32: files to masks beside benchmark_app"] = (
        rates["openvino f32: ours"] / report["benchmark_app_f32_images_s"]
    )
    if "int8" in pairs:
        ratios["int8 beside ultralytics' PyTorch"] = paired(
            throughput["int8: ours"], throughput["pytorch: ultralytics"]
        )
    report["ratios"] = {name: round(value, 3) for name, value in ratios.items()}
    write_json(SCRATCH / "runtime.json", report)
    for name, value in report["ratios"].items():
        print(f"{name:<56}{value:>8.2f}")
    print(f"of ultralytics' own predictions of best.pt found again: {report['found_again']:.2%}")
    print(f"one image in a new process: {report['first_image_s']} s, {report['first_image_mb']} MB")


def paired(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of each round."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
