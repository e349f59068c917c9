"""Engines timed side by side: each in a process of its own on the same cores, taking turns over the same images.

Two modes are kept apart. Latency: one image at a time, every core working on it, each image timed. Throughput: many
images under way at once, in the way that proved best for those cores, and a whole turn timed. Both from the file on
disk to the masks.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from tqdm import tqdm

from seamline.base.coco import Record
from seamline.benchmark import machine
from seamline.benchmark.engine_process import EngineProcess, engine_processes
from seamline.images.reading import ImageError
from seamline.inference.detector import Detector
from seamline.inference.predictions import predict_split
from seamline.models.engines.onnx import CUDA_PROVIDER, import_onnxruntime
from seamline.params.benchmark import Benchmark
from seamline.params.evaluate import Evaluate

BF16 = {"avx512_bf16", "amx_bf16"}  # instructions, any of which makes bf16 worth a row
RESAMPLES = 2000
LEVEL = 0.95
STABLE = 0.05  # two medians of a warm-up that differ less are the same
TRIES = 3  # turns of each way to run a row
BLOCKS = 6  # of rounds, for the interval
WINDOW = 8  # images a median of the warm-up is taken over


class Row(NamedTuple):
    """A line of the benchmark: a model and how it is run."""

    name: str
    path: Path
    precision: str = "f32"
    device: str = "cpu"


class Way(NamedTuple):
    """How many images are under way at once in throughput mode: streams, each with a batch of its own."""

    streams: int = 1
    batch: int = 1


class Profile(NamedTuple):
    """How much is measured: turns of so many rounds, more until every row has had enough."""

    rounds: int
    turn_s: float  # of the slowest row; the others take as many images
    images: int  # a row and mode, or
    seconds: float  # so long
    warm_up_s: float  # at most
    timeout_s: float  # a row, altogether


PROFILES = {
    "quick": Profile(rounds=16, turn_s=0.4, images=0, seconds=0, warm_up_s=3, timeout_s=600),
    "full": Profile(rounds=30, turn_s=1, images=1024, seconds=60, warm_up_s=20, timeout_s=3600),
}


def profile_of(settings: Benchmark) -> Profile:
    """The profile named, with what is said beside it."""
    profile = PROFILES[settings.profile]
    return profile._replace(rounds=settings.rounds or profile.rounds, timeout_s=settings.timeout_s or profile.timeout_s)


class Turn(NamedTuple):
    """What one row did in one round."""

    wall_s: float
    images: int
    latencies_ms: Sequence[float] = ()  # an image; in latency mode only
    parts_ms: Sequence[tuple[float, float, float]] = ()  # an image: preprocess (read, decoded), inference, postprocess


class WarmUp(NamedTuple):
    images: int
    stable: bool  # two medians in a row were the same, within STABLE
    latency_ms: float  # the last median


# What an engine's process is asked to do.


def facts_of(detector: Detector) -> tuple[str, int]:
    return detector.precision, detector.imgsz


def warm_up(detector: Detector, images: list[Path], seconds: float) -> WarmUp:
    """Predict one by one until it takes no less time any more, or for so long."""
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


def latency_turn(detector: Detector, images: list[Path]) -> Turn:
    detector.detect(images[0])  # caches have grown cold during the others' turns
    latencies, parts = [], []
    begin = time.perf_counter()
    for image in images:
        start = time.perf_counter()
        found = detector.detect(image)
        latencies.append(1000 * (time.perf_counter() - start))
        parts.append(found.timings_ms)
    return Turn(time.perf_counter() - begin, len(images), latencies, parts)


def throughput_turn(detector: Detector, images: list[Path]) -> Turn:
    consume(detector, images[: 2 * detector.engine.streams])
    begin = time.perf_counter()
    consume(detector, images)
    return Turn(time.perf_counter() - begin, len(images))


def consume(detector: Detector, images: list[Path]) -> None:
    for found in detector.detect_all(images):
        if isinstance(found, ImageError):
            raise found


def peak_rss_mb(detector: Detector) -> float:
    return machine.peak_rss_mb()


def split_records(detector: Detector, split_file: Path, images: Path, limits: Evaluate) -> list[Record]:
    """COCO results of a whole split at the evaluate section's limits."""
    detector.confidence, detector.nms_iou, detector.max_detections = (
        limits.confidence,
        limits.nms_iou,
        limits.max_detections,
    )
    return predict_split(detector, split_file, images, "test")


def installed(models: Mapping[str, Path]) -> dict[str, Path]:
    """The models that can be opened here: without PyTorch's where torch is not installed, as in Dockerfile.cpu."""
    return {name: path for name, path in models.items() if name != "pytorch" or find_spec("torch") is not None}


def rows_to_measure(models: Mapping[str, Path], instructions: Sequence[str], on_gpu: Collection[str]) -> list[Row]:
    """Every model on the CPU; OpenVINO in bf16 as well where the processor has it, others on a GPU where there is one.

    Left alone, OpenVINO would take bf16 by itself and look as if it were twice as fast as the others.
    """
    rows = []
    for name, path in models.items():
        rows.append(Row(name, path))
        if name == "openvino" and BF16 & set(instructions):
            rows.append(Row("openvino_bf16", path, precision="bf16"))
    return rows + [Row(f"{name}_cuda", path, device="cuda") for name, path in models.items() if name in on_gpu]


def formats_on_gpu(names: Collection[str]) -> list[str]:
    """Which of these can use a GPU; asked only where a driver is loaded, as importing torch takes long."""
    if not Path("/proc/driver/nvidia").exists():
        return []
    found = []
    if "pytorch" in names:
        import torch

        found += ["pytorch"] if torch.cuda.is_available() else []
    if "onnx" in names:
        found += ["onnx"] if CUDA_PROVIDER in import_onnxruntime().get_available_providers() else []
    return found


def open_row(
    row: Row, way: Way, cores: list[int], confidence: float, limits: Evaluate, timeout_s: float
) -> EngineProcess:
    """Start a row's process; the first request waits until it is open."""
    opener = functools.partial(
        Detector,
        row.path,
        confidence,
        limits.nms_iou,
        limits.max_detections,
        len(cores),
        way.streams,
        way.batch,
        row.precision,
        row.device,
    )
    return EngineProcess(row.name, opener, cores, timeout_s)


def ways_to_try(row: Row, cores: int) -> list[Way]:
    """One image on all cores, each core its own image, and between the two where there is room; batches on a GPU."""
    if row.device == "cuda":
        return [Way(), Way(batch=16)]
    return [Way(streams) for streams in sorted({1, cores // 2 or 1, cores})]


def best_way(ways: Sequence[Way], open_with: Callable[[Way], EngineProcess], images: list[Path]) -> Way:
    """Of the ways to run a row, tried in turns, the one with the most images a second."""
    if len(ways) == 1:
        return ways[0]
    with engine_processes() as processes:
        processes += [open_with(way) for way in ways]
        turns: list[list[Turn]] = [[] for _ in ways]
        for _ in range(TRIES):
            for process, own in zip(processes, turns, strict=True):
                own.append(process.ask(throughput_turn, images))
        return ways[min(range(len(ways)), key=lambda index: statistics.median(turn.wall_s for turn in turns[index]))]


def take_turns(
    processes: Sequence[EngineProcess], images: Sequence[Path], count: int, profile: Profile
) -> tuple[dict[str, list[Turn]], dict[str, list[Turn]]]:
    """Rounds in which each row takes a turn in either mode over the same images, another row first in each round.

    Args:
        count: images a latency turn; a throughput turn has twice as many, for its beginning and end to matter less.

    Returns:
        The turns of each row in latency mode, and in throughput mode.
    """
    latency: dict[str, list[Turn]] = {process.name: [] for process in processes}
    throughput: dict[str, list[Turn]] = {process.name: [] for process in processes}
    number = 0
    with tqdm(total=profile.rounds, desc="timing", unit="round", disable=None) as progress:
        while not (enough(latency, profile) and enough(throughput, profile)):
            first = number % len(processes)
            for process in (*processes[first:], *processes[:first]):
                latency[process.name].append(process.ask(latency_turn, turn_images(images, number, count)))
                throughput[process.name].append(process.ask(throughput_turn, turn_images(images, number, 2 * count)))
            number += 1
            progress.total = max(profile.rounds, number)
            progress.update()
    return latency, throughput


def turn_images(images: Sequence[Path], round_number: int, count: int) -> list[Path]:
    """A round's images, `count` of them, going on where the round before ended; all rows get the same."""
    start = round_number * count % len(images)
    return list(islice(cycle(images), start, start + count))


def images_a_turn(latency_ms: float, turn_s: float) -> int:
    """As many as the slowest row does in turn_s, but enough for a median."""
    return max(int(1000 * turn_s / latency_ms), WINDOW)


def enough(turns: Mapping[str, Sequence[Turn]], profile: Profile) -> bool:
    """Whether every row has had its rounds, and its images or its time."""
    return all(
        len(own) >= profile.rounds
        and (sum(turn.images for turn in own) >= profile.images or sum(turn.wall_s for turn in own) >= profile.seconds)
        for own in turns.values()
    )


# What is made of the answers.


def turns_to_latency(turns: Sequence[Turn]) -> Record:
    """Latency percentiles over all images of all rounds, and medians of the parts."""
    latencies = [latency for turn in turns for latency in turn.latencies_ms]
    parts = np.median([part for turn in turns for part in turn.parts_ms], axis=0)
    return {
        "queries": len(latencies),
        "latency_ms": {f"p{rank}": round(float(np.percentile(latencies, rank)), 3) for rank in (50, 90, 99)},
        "latency_p50_interval_ms": interval_of_another_run([statistics.median(turn.latencies_ms) for turn in turns]),
        **{
            f"{name}_ms": round(float(value), 3)
            for name, value in zip(("preprocess", "inference", "postprocess"), parts, strict=True)
        },
    }


def turns_to_throughput(turns: Sequence[Turn]) -> Record:
    """The median round's throughput.

    throughput_spread is what lies between the 10th and 90th percentile of the rounds, as a share of their median.
    """
    throughputs = [turn.images / turn.wall_s for turn in turns]
    p10, median, p90 = np.percentile(throughputs, [10, 50, 90])
    return {
        "images_timed": sum(turn.images for turn in turns),
        "rounds": len(turns),
        "throughput_img_s": round(float(median), 2),
        "throughput_interval_img_s": interval_of_another_run(throughputs),
        "throughput_spread": round(float((p90 - p10) / median), 3),
        "throughput_rounds_img_s": [round(value, 2) for value in throughputs],
    }


def turns_to_pace(modes: Sequence[Mapping[str, Sequence[Turn]]]) -> list[float]:
    """How long each round took beside the others: of each row and mode by its own median, then the median of these.

    What slows one format alone is not in it; what is, is the machine's.
    """
    walls = np.array([[turn.wall_s / turn.images for turn in own] for turns in modes for own in turns.values()])
    return [float(value) for value in np.median(walls / np.median(walls, axis=1, keepdims=True), axis=0)]


def interval_of_another_run(values: Sequence[float]) -> list[float]:
    """The range in which the median of another run like this one is to be expected.

    What disturbs a machine lasts for many rounds, so that they are not independent and the plain interval of their
    median is much too narrow. BLOCKS runs of consecutive rounds are drawn again with replacement (a block bootstrap),
    and the deviation of the mean that comes of it is widened: to that of one more block (times the root of
    BLOCKS + 1), since what lasts longer than a block has not averaged out, and for being known from few blocks
    (Student's t, 95%). How often it holds: tests/benchmark/test_timing.py. Of one round it is the value itself.
    """
    median = float(np.median(values))
    blocks = np.array_split(np.asarray(values), min(BLOCKS, len(values)))
    if len(blocks) < 2:
        return [round(median, 3)] * 2
    drawn = np.random.default_rng(0).integers(0, len(blocks), (RESAMPLES, len(blocks)))
    medians = np.array([np.median(block) for block in blocks])
    deviation = np.mean(medians[drawn], axis=1).std() * math.sqrt(len(blocks) / (len(blocks) - 1))
    half = float(stdtrit(len(blocks) - 1, 0.5 + LEVEL / 2) * deviation * math.sqrt(len(blocks) + 1))
    return [round(max(median - half, 0.0), 3), round(median + half, 3)]


def not_comparable(row: Record, reference: Record, stable: bool) -> str | None:
    """Why a row's figures cannot stand beside the reference's as they are; None where they can."""
    if row["device"] != reference["device"]:
        return f"runs on {row['device']}"
    if row["precision"] != reference["precision"]:
        return f"computes in {row['precision']}"
    if row["threads"] != reference["threads"] or row["imgsz"] != reference["imgsz"]:
        return f"has {row['threads']} threads and an input of {row['imgsz']} px"
    return None if stable else "had not become steady when the warm-up ended"
