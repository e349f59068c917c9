"""Engines timed side by side: each in a process of its own, on the same cores, in turn over the same images.

Latency and throughput are measured separately. Latency: one image at a time, every core works on it, and each image is
timed. Throughput: many images are under way at once, with the concurrency that proved fastest, and the whole set is
timed. Both run from the file on disk to what the model finds in it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from seamline.base.coco import Record
from seamline.benchmark import machine
from seamline.benchmark.engine_process import EngineProcess, engine_processes
from seamline.benchmark.rows import Concurrency
from seamline.evaluation.kinds import kinds_of
from seamline.images.reading import ImageError
from seamline.inference.detector import Detector
from seamline.inference.predictions import predict_split
from seamline.params.benchmark import Benchmark
from seamline.params.evaluate import Evaluate

STABLE = 0.05  # two medians of a warm-up that differ by less count as equal
TRIES = 3  # measurements of each concurrency
WINDOW = 8  # images in a median of the warm-up


class Profile(NamedTuple):
    """How much is measured: a number of rounds, and more until every row has had enough images or time."""

    rounds: int
    measurement_s: float  # of the slowest row in a round; the other rows take as many images
    images: int  # that are enough for a row, for latency and for throughput each
    seconds: float  # that are enough instead
    warm_up_s: float  # at most
    timeout_s: float  # of a row, altogether


PROFILES = {
    "quick": Profile(rounds=16, measurement_s=0.4, images=0, seconds=0, warm_up_s=3, timeout_s=600),
    "full": Profile(rounds=30, measurement_s=1, images=1024, seconds=60, warm_up_s=20, timeout_s=3600),
}


def profile_of(settings: Benchmark) -> Profile:
    """The profile that is named, with the values that are given beside it."""
    profile = PROFILES[settings.profile]
    return profile._replace(rounds=settings.rounds or profile.rounds, timeout_s=settings.timeout_s or profile.timeout_s)


class Measurement(NamedTuple):
    """One row's latency or throughput in one round."""

    wall_s: float
    images: int
    latencies_ms: Sequence[float] = ()  # of each image; for latency only
    parts_ms: Sequence[tuple[float, float, float]] = ()  # of each: preprocess (read, decode), inference, postprocess


class WarmUp(NamedTuple):
    images: int
    stable: bool  # the last two medians differ by less than STABLE
    latency_ms: float  # the last median


class Opened(NamedTuple):
    """What an open model says of itself."""

    precision: str
    imgsz: int
    kinds: tuple[str, ...]  # of shapes that it finds


# What an engine's process is asked to do.


def describe(detector: Detector) -> Opened:
    return Opened(detector.precision, detector.imgsz, kinds_of(detector.has_masks))


def warm_up(detector: Detector, images: list[Path], seconds: float) -> WarmUp:
    """Predict image by image until that gets no faster, at most for that long."""
    end = time.perf_counter() + seconds
    before, done = float("inf"), 0
    while True:
        latencies = []
        for image in islice(cycle(images), done, done + WINDOW):
            start = time.perf_counter()
            detector.detect(image)
            latencies.append(1000 * (time.perf_counter() - start))
        done += WINDOW
        median = statistics.median(latencies)
        stable = abs(median - before) < STABLE * median
        if stable or time.perf_counter() > end:
            return WarmUp(done, stable, median)
        before = median


def measure_latency(detector: Detector, images: list[Path]) -> Measurement:
    detector.detect(images[0])  # the caches hold what the other rows worked on
    latencies, parts = [], []
    begin = time.perf_counter()
    for image in images:
        start = time.perf_counter()
        found = detector.detect(image)
        latencies.append(1000 * (time.perf_counter() - start))
        parts.append(found.timings_ms)
    return Measurement(time.perf_counter() - begin, len(images), latencies, parts)


def measure_throughput(detector: Detector, images: list[Path]) -> Measurement:
    detect_every(detector, images[: 2 * detector.engine.streams])
    begin = time.perf_counter()
    detect_every(detector, images)
    return Measurement(time.perf_counter() - begin, len(images))


def detect_every(detector: Detector, images: list[Path]) -> None:
    for found in detector.detect_all(images):
        if isinstance(found, ImageError):
            raise found


def peak_rss_mb(detector: Detector) -> float:
    return machine.peak_rss_mb()


def predict_test(detector: Detector, split_file: Path, images: Path, limits: Evaluate) -> list[Record]:
    """COCO results of the whole test split with the limits of the section evaluate."""
    detector.confidence, detector.nms_iou, detector.max_detections = (
        limits.confidence,
        limits.nms_iou,
        limits.max_detections,
    )
    return predict_split(detector, split_file, images, "test")


# How rows are measured in their processes.


def fastest_concurrency(
    candidates: Sequence[Concurrency], open_with: Callable[[Concurrency], EngineProcess], images: list[Path]
) -> Concurrency:
    """The candidate with the most images per second; they are measured in turn."""
    if len(candidates) == 1:
        return candidates[0]
    with engine_processes() as processes:
        processes += [open_with(candidate) for candidate in candidates]
        measured: list[list[Measurement]] = [[] for _ in candidates]
        for _ in range(TRIES):
            for process, own in zip(processes, measured, strict=True):
                own.append(process.ask(measure_throughput, images))
        walls = [statistics.median(one.wall_s for one in own) for own in measured]
        return candidates[walls.index(min(walls))]


def measure_rounds(
    processes: Sequence[EngineProcess], images: Sequence[Path], count: int, profile: Profile
) -> tuple[dict[str, list[Measurement]], dict[str, list[Measurement]]]:
    """Rounds in which every row measures latency and throughput on the same images; each round starts with another row.

    Args:
        processes: of the rows, open and warm.
        images: that the rounds go through.
        count: images to measure latency on; throughput takes twice as many, so that its start and end matter less.
        profile: how much is enough.

    Returns:
        Latency and throughput of each row, one measurement per round.
    """
    latency: dict[str, list[Measurement]] = {process.name: [] for process in processes}
    throughput: dict[str, list[Measurement]] = {process.name: [] for process in processes}
    number = 0
    with tqdm(total=profile.rounds, desc="timing", unit="round", disable=None) as progress:
        while not (is_enough(latency, profile) and is_enough(throughput, profile)):
            first = number % len(processes)
            for process in (*processes[first:], *processes[:first]):
                own = images_of_round(images, number, count)
                latency[process.name].append(process.ask(measure_latency, own))
                own = images_of_round(images, number, 2 * count)
                throughput[process.name].append(process.ask(measure_throughput, own))
            number += 1
            progress.total = max(profile.rounds, number)
            progress.update()
    return latency, throughput


def images_of_round(images: Sequence[Path], number: int, count: int) -> list[Path]:
    """A round's images, `count` of them, starting where the round before ended; all rows get the same."""
    start = number * count % len(images)
    return list(islice(cycle(images), start, start + count))


def images_per_round(latency_ms: float, measurement_s: float) -> int:
    """As many as the slowest row does in measurement_s, but enough for a median."""
    return max(int(1000 * measurement_s / latency_ms), WINDOW)


def is_enough(measured: Mapping[str, Sequence[Measurement]], profile: Profile) -> bool:
    """Whether every row has had its rounds, and its images or its time."""
    return all(
        len(own) >= profile.rounds
        and (sum(one.images for one in own) >= profile.images or sum(one.wall_s for one in own) >= profile.seconds)
        for own in measured.values()
    )
