"""What the GPU bench measures, each in a process of its own: `python -m bench.gpu_parts JOB.json RESULT.json`.

A job names the side (ours or ultralytics) and the part. Both sides get the same arguments, files and weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seamline.base.coco import Record
from seamline.base.files import write_json
from seamline.base.process import quiet_environment
from seamline.params.loading.loader import load_params
from seamline.params.train import Train

PARAMS = Path(__file__).parent.parent / "params.yaml"
UTILISATION = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200"]


class Training(msgspec.Struct):
    """A training to be timed: `epochs` of them, the first to warm up."""

    side: str  # ours or ultralytics
    data: Path  # of bench.gpu_data
    scratch: Path
    model: str
    imgsz: int
    batch: int
    epochs: int
    device: str  # of train.device


class Predicting(msgspec.Struct):
    """Files to masks, to be timed for each precision and batch."""

    side: str
    data: Path
    weights: Path
    imgsz: int
    confidence: float
    precisions: list[str]
    batches: list[int]
    device: str  # cpu or cuda
    repeats: int


def train(job: Training) -> Record:
    """Images a second of the epochs after the first, with and without validation; memory; busy share of the GPU."""
    from ultralytics.engine.trainer import BaseTrainer

    from seamline.training import yolo

    events: list[tuple[str, float]] = []
    original = BaseTrainer.run_callbacks

    def run_callbacks(self: Any, event: str) -> None:
        if event in ("on_train_epoch_start", "on_train_epoch_end", "on_train_end"):
            synchronise(job.device)
            events.append((event, time.perf_counter()))
        original(self, event)

    params = msgspec.structs.replace(
        load_params(PARAMS)[Train], model=job.model, imgsz=job.imgsz, batch=job.batch, nbs=job.batch, epochs=job.epochs,
        device=job.device, amp=job.device != "cpu", patience=job.epochs, val_period=1,
    )  # fmt: skip
    plan = yolo.plan_training(params, job.data / "split", job.data / "yolo")
    BaseTrainer.run_callbacks = run_callbacks
    with gpu_busy(job.device) as busy:
        if job.side == "ours":
            yolo.train(plan, job.scratch)
        else:
            train_plainly(yolo.ultralytics_arguments(plan, linked(job), job.scratch))
    images = len((job.data / "split" / "train.txt").read_text().splitlines())
    return {**events_to_figures(events, busy, images), "peak_mib": peak_mib(job.device)}


def events_to_figures(events: list[tuple[str, float]], busy: list[tuple[float, float]], images: int) -> Record:
    """Of a training's events (name, seconds) and the GPU's percentages (seconds, percent), the first epoch left out."""
    starts = [at for event, at in events if event == "on_train_epoch_start"]
    ends = [at for event, at in events if event == "on_train_epoch_end"]
    finish = next(at for event, at in events if event == "on_train_end")
    steps = [end - start for start, end in zip(starts, ends, strict=True)][1:]
    timed = [share for at, share in busy if starts[1] <= at <= finish]
    whole = [after - start for start, after in zip(starts, [*starts[1:], finish], strict=True)][1:]
    return {
        "images_s": images / statistics.median(steps),
        "images_s_with_validation": images / statistics.median(whole),
        "gpu_busy": statistics.mean(timed) / 100 if timed else None,
    }


def linked(job: Training) -> Path:
    from seamline.training.yolo_data import linked_dataset

    return linked_dataset(job.data / "split", job.data / "yolo", job.scratch / "data")


def train_plainly(arguments: Record) -> None:
    """ultralytics' own trainer, as its users call it, with the same arguments."""
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.models.yolo.segment import SegmentationTrainer

    BaseTrainer.read_results_csv = lambda self: {}  # needs polars, which such machines lack; a table in its checkpoint
    BaseTrainer.final_eval = lambda self: None  # after the epochs that are timed
    SegmentationTrainer(overrides=arguments).train()


def predict(job: Predicting) -> Record:
    """Images a second from files to masks, best of `repeats`, by precision and batch; and the peak of memory."""
    photos = photos_of(job)
    open_model = open_ours if job.side == "ours" else open_theirs
    rows: dict[str, Record] = {}
    for precision in job.precisions:
        for batch in job.batches:
            run = open_model(job, precision, batch)
            run(photos[: 2 * batch])  # to warm up
            seconds, instances = [], 0
            for _ in range(job.repeats):
                synchronise(job.device)
                start = time.perf_counter()
                instances = run(photos)
                synchronise(job.device)
                seconds.append(time.perf_counter() - start)
            rows[f"{precision}, batch {batch}"] = {
                "images_s": len(photos) / min(seconds),
                "instances": instances,
                "peak_mib": peak_mib(job.device),
            }
    return rows


def photos_of(job: Predicting) -> list[Path]:
    return sorted((job.data / "yolo" / "images").iterdir())


def open_ours(job: Predicting, precision: str, batch: int) -> Any:
    from seamline.images.reading import ImageError
    from seamline.inference.detector import Detector

    detector = Detector(job.weights, job.confidence, batch=batch, precision=precision, device=job.device)

    def run(photos: list[Path]) -> int:
        found = 0
        for one in detector.detect_all(photos):
            if isinstance(one, ImageError):
                raise one
            found += len(one)
        return found

    return run


def open_theirs(job: Predicting, precision: str, batch: int) -> Any:
    """ultralytics' predict, streamed, at its quickest: masks of the model's input size, where ours are of the photo's.

    It is given a file of names, since a list of files it decodes into one batch.
    """
    from ultralytics import YOLO

    model = YOLO(str(job.weights), task="segment")
    options = {
        "imgsz": job.imgsz, "conf": job.confidence, "max_det": 100, "verbose": False, "rect": False,
        "device": job.device, "half": precision == "f16", "batch": batch, "stream": True,
    }  # fmt: skip

    def run(photos: list[Path]) -> int:
        names = job.weights.with_name("photos.txt")
        names.write_text("".join(f"{photo.resolve()}\n" for photo in photos))
        found = 0
        for one in model.predict(str(names), **options):
            found += len(one)
            if one.masks is not None:
                one.masks.data.cpu()  # ours are on the host too
        return found

    return run


def compare(job: Predicting) -> Record:
    """Which share of ultralytics' detections ours finds again, and the mean number of instances in a photo."""
    from ultralytics import YOLO

    from seamline.export.gates import matched_share
    from seamline.images.reading import ImageError
    from seamline.inference.detector import Detector
    from seamline.masks.rle import mask_to_rle

    shares = {}
    photos = photos_of(job)
    model = YOLO(str(job.weights), task="segment")
    options = {"imgsz": job.imgsz, "conf": job.confidence, "max_det": 100, "verbose": False, "rect": False}
    theirs: list[Record] = []
    for index, photo in enumerate(photos):
        [one] = model.predict(str(photo), retina_masks=True, device=job.device, **options)
        if one.masks is None:
            continue
        for mask, kind, score in zip(one.masks.data, one.boxes.cls, one.boxes.conf, strict=True):
            rle = mask_to_rle(mask.cpu().numpy().astype(np.uint8))
            # matched_share looks at those above a score of its own; here every one counts that is above job.confidence.
            theirs.append({"image_id": index, "category_id": int(kind), "score": 1 + float(score), "segmentation": rle})
    for precision in job.precisions:
        detector = Detector(job.weights, job.confidence / 2, batch=8, precision=precision, device=job.device)
        ours: list[Record] = []
        for index, one in enumerate(detector.detect_all(photos)):
            if isinstance(one, ImageError):
                raise one
            ours += one.to_coco(index, list(range(len(detector.names))))
        shares[precision] = matched_share(ours, theirs)
    return {"found_again": shares, "their_instances_a_photo": len(theirs) / len(photos)}


def confidence_for(job: Predicting, instances: int) -> Record:
    """The score above which a photo has so many instances on average: a model after few epochs is sure of nothing."""
    from seamline.inference.detector import Detector

    detector = Detector(job.weights, 0.001, device=job.device)
    photos = photos_of(job)
    scores = np.concatenate([one.scores for one in detector.detect_all(photos)])  # type: ignore[union-attr]
    wanted = min(instances * len(photos), len(scores))
    return {"confidence": float(np.sort(scores)[::-1][wanted - 1]) if wanted else 0.001}


def synchronise(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def peak_mib(device: str) -> float | None:
    """The most that torch reserved on the GPU; None on a CPU."""
    if device == "cpu":
        return None
    import torch

    return torch.cuda.max_memory_reserved() / 2**20


@contextmanager
def gpu_busy(device: str) -> Iterator[list[tuple[float, float]]]:
    """When, and percentages that nvidia-smi says while the block lasts; none on a CPU or without nvidia-smi."""
    found: list[tuple[float, float]] = []
    try:
        process = None if device == "cpu" else subprocess.Popen(UTILISATION, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        process = None
    if process is None:
        yield found
        return
    output = process.stdout
    assert output is not None

    def read() -> None:
        found.extend((time.perf_counter(), float(line)) for line in output if line.strip().isdigit())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield found
    finally:
        process.terminate()
        process.wait()
        reader.join()


PARTS: dict[str, tuple[type[Training] | type[Predicting], Any]] = {
    "train": (Training, train),
    "predict": (Predicting, predict),
    "compare": (Predicting, compare),
    "confidence": (Predicting, lambda job: confidence_for(job, instances=4)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("job", help="as JSON")
    parser.add_argument("result", type=Path, help="file to write")
    args = parser.parse_args()
    quiet_environment()
    kind, measure = PARTS[args.part]
    job = msgspec.convert(json.loads(args.job), kind, dec_hook=lambda to, value: to(value))  # paths
    write_json(args.result, measure(job))


if __name__ == "__main__":
    main()
