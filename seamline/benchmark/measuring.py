"""All rows of the benchmark measured: started, warmed up, timed in turn, then asked for what they find on test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from seamline.base.coco import Record
from seamline.benchmark.engine_process import EngineProcess, engine_processes
from seamline.benchmark.figures import measurements_to_latency, measurements_to_pace, measurements_to_throughput
from seamline.benchmark.machine import conditions, snapshot
from seamline.benchmark.rows import Concurrency, Row, concurrencies_to_try
from seamline.benchmark.timing import (
    Opened,
    Profile,
    WarmUp,
    describe,
    fastest_concurrency,
    images_per_round,
    measure_rounds,
    peak_rss_mb,
    predict_test,
    warm_up,
)
from seamline.params.evaluate import Evaluate

SLOWEST_S = 10  # per image, when accuracy is measured
TRIED = 32  # images that concurrencies are tried on


class SplitFiles(NamedTuple):
    """The split that accuracy is measured on."""

    file: Path
    images: Path  # folder


class Measured(NamedTuple):
    speed: dict[str, Record]  # each row's figures
    stable: dict[str, bool]  # whether a row's warm-up ended in a steady state
    kinds: tuple[str, ...]  # of shapes that the models find
    found: dict[str, list[Record]]  # COCO results of each row on test
    conditions: Record  # see machine.conditions


def measure_rows(
    rows: Sequence[Row],
    start: Callable[[Row, Concurrency], EngineProcess],
    images: list[Path],
    profile: Profile,
    cores: list[int],
    split: SplitFiles,
    split_images: int,
    limits: Evaluate,
) -> Measured:
    """Measure the speed of all rows on the same images, then their results on the whole test split."""
    concurrencies = {row.name: concurrency_of(row, start, images[:TRIED], len(cores)) for row in rows}
    speed: dict[str, Record] = {}
    warm: dict[str, WarmUp] = {}
    with engine_processes() as processes:
        for row in rows:
            process = start(row, concurrencies[row.name])
            processes.append(process)
            opened: Opened = process.ask(describe)
            warm[row.name] = process.ask(warm_up, images, profile.warm_up_s)
            speed[row.name] = {
                "precision": opened.precision,
                "device": row.device,
                "threads": len(cores),
                "imgsz": opened.imgsz,
                **concurrencies[row.name]._asdict(),
                "peak_rss_mb": round(process.ask(peak_rss_mb), 1),
            }
        count = images_per_round(max(one.latency_ms for one in warm.values()), profile.measurement_s)
        ids = [process.id for process in processes]
        before = snapshot(cores, ids)
        latency, throughput = measure_rounds(processes, images, count, profile)
        disturbed = conditions(before, snapshot(cores, ids), measurements_to_pace((latency, throughput)))
        found: dict[str, list[Record]] = {}
        for process in tqdm(processes, desc="accuracy", unit="format", disable=None):
            speed[process.name] |= measurements_to_latency(latency[process.name])
            speed[process.name] |= measurements_to_throughput(throughput[process.name])
            speed[process.name]["peak_rss_throughput_mb"] = round(process.ask(peak_rss_mb), 1)
            process.left_s += SLOWEST_S * split_images
            found[process.name] = process.ask(predict_test, split.file, split.images, limits)
    stable = {name: one.stable for name, one in warm.items()}
    return Measured(speed, stable, opened.kinds, found, disturbed)


def concurrency_of(
    row: Row, start: Callable[[Row, Concurrency], EngineProcess], images: list[Path], cores: int
) -> Concurrency:
    return fastest_concurrency(concurrencies_to_try(row, cores), lambda one: start(row, one), images)
