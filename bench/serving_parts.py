"""The parts of the load test: each starts what it needs, measures in turns, and returns its figures.

A turn of ours and a turn of what it is held to follow each other, round by round, so that what else happens on the
machine hits both; ratios are the median of the rounds' ratios.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.runtime import as_theirs, paired
from bench.serving_inputs import Model
from bench.serving_load import (
    Load,
    Service,
    load,
    memory_mb,
    memory_watched,
    percentile,
    ready_s,
    started,
    tree,
    wait_for,
)
from seamline.base.coco import Record
from seamline.benchmark.engine_process import EngineProcess, engine_processes
from seamline.images.reading import ImageError
from seamline.inference.detector import Detector

TIMEOUT_S = 3600
OPEN_CLIENTS = 400  # connections for requests that begin whatever the answers take
TIMES_CAPACITY = 3
BATCH = 5
SAMPLED_EVERY_S = 1.0
FIRST_MINUTE_S = 60
PEERS = {
    "FastAPI around ultralytics": ("bench.serving_fastapi", "ultralytics"),
    "FastAPI around our Detector": ("bench.serving_fastapi", "detector"),
    "LitServe around our Detector, 1 worker": ("bench.serving_litserve", "detector", "1"),
    "LitServe around our Detector, 2 workers": ("bench.serving_litserve", "detector", "2"),
    "LitServe around ultralytics, 1 worker": ("bench.serving_litserve", "ultralytics", "1"),
    "LitServe around ultralytics, 2 workers": ("bench.serving_litserve", "ultralytics", "2"),
}


class Setting(NamedTuple):
    """What all parts need."""

    models: dict[int, Model]  # by imgsz
    sizes: tuple[int, int]  # imgsz of the street's photos, and the sample's
    photos: list[Path]
    folder: Path  # for logs
    packages: Path  # of the peers
    cores: list[int]
    seconds: float  # of a turn
    rounds: int
    overload_seconds: float
    soak_seconds: float


def own_command(setting: Setting, imgsz: int) -> list[str]:
    model = setting.models[imgsz]
    return ["seamline", "serve", str(model.path), "--confidence", str(model.confidence)]


def ours(setting: Setting, imgsz: int) -> contextlib.AbstractContextManager[Service]:
    return started(own_command(setting, imgsz), setting.photos[0], log_of(setting, imgsz))


def log_of(setting: Setting, imgsz: int) -> Path:
    return setting.folder / f"ours-{imgsz}.log"


def start(setting: Setting) -> Record:
    """Seconds until the service says that it is ready, by the model's input size.

    The first time, when the model has to be compiled, and later, when what was compiled is stored.
    """
    log = setting.folder / "start.log"
    found: Record = {}
    for imgsz in setting.sizes:
        with tempfile.TemporaryDirectory(dir=setting.folder) as stored:
            first, *later = [ready_s(own_command(setting, imgsz), log, Path(stored)) for _ in range(1 + setting.rounds)]
        found[str(imgsz)] = {"first_ready_s": round(first, 2), "ready_s": median(later)}
    return found


@contextlib.contextmanager
def detector_of(setting: Setting, imgsz: int) -> Iterator[EngineProcess]:
    model = setting.models[imgsz]
    with engine_processes() as processes:
        opener = functools.partial(Detector, model.path, model.confidence)
        processes.append(EngineProcess("Detector", opener, setting.cores, TIMEOUT_S))
        yield processes[0]


def median_ms(detector: Detector, photos: list[bytes], seconds: float) -> float:
    found, end = [], time.perf_counter() + seconds
    for photo in itertools.cycle(photos):
        begun = time.perf_counter()
        detector.detect(photo)
        found.append(1000 * (time.perf_counter() - begun))
        if time.perf_counter() > end:
            break
    return statistics.median(found)


def photos_a_second(detector: Detector, photos: list[bytes], seconds: float) -> float:
    begun, count = time.perf_counter(), 0

    def while_time_is() -> Iterator[bytes]:
        for photo in itertools.cycle(photos):
            if time.perf_counter() > begun + seconds:
                return
            yield photo

    for found in detector.detect_all(while_time_is()):
        if isinstance(found, ImageError):
            raise found
        count += 1
    return count / (time.perf_counter() - begun)


def one_client(setting: Setting) -> Record:
    return beside_detector(setting, setting.sizes[0], 1)


def sixteen_clients(setting: Setting) -> Record:
    return beside_detector(setting, setting.sizes[0], 16)


def sixteen_small(setting: Setting) -> Record:
    return beside_detector(setting, setting.sizes[1], 16)


def beside_detector(setting: Setting, imgsz: int, clients: int) -> Record:
    """One client beside detect(), in ms; more of them beside detect_all(), in photos a second."""
    theirs: list[float] = []
    own: list[float] = []
    photos = [photo.read_bytes() for photo in setting.photos]
    work = median_ms if clients == 1 else photos_a_second
    with ours(setting, imgsz) as service, detector_of(setting, imgsz) as detector:
        detector.ask(work, photos, 1)
        for _ in range(setting.rounds):
            theirs.append(detector.ask(work, photos, setting.seconds))
            found = only_answers(load(service, setting.photos, clients, setting.seconds))
            own.append(found.p50 if clients == 1 else found.answered_s)
    unit = "ms" if clients == 1 else "photos_s"
    return {
        f"detector_{unit}": median(theirs),
        f"service_{unit}": median(own),
        "ratio": round(paired(own, theirs), 3),
        "difference": round(statistics.median(mine - other for mine, other in zip(own, theirs, strict=True)), 2),
    }


def four_clients(setting: Setting) -> Record:
    with ours(setting, setting.sizes[0]) as service:
        found = [only_answers(load(service, setting.photos, 4, setting.seconds)) for _ in range(setting.rounds)]
    return {"p50_ms": median([one.p50 for one in found]), "p95_ms": median([one.p95 for one in found])}


def only_answers(found: Load) -> Load:
    """Raises RuntimeError where a server has answered something else than 200; then its figures would mean nothing."""
    if set(found.statuses) != {"200"} or found.cut:
        raise RuntimeError(f"not all was answered: statuses {found.statuses}, {found.cut} cut")
    return found


def peers(setting: Setting) -> Record:
    """Eight clients of each server, in turns; those whose turn it is not are stopped meanwhile."""
    model = setting.models[setting.sizes[0]]
    paths = {"detector": model.path, "ultralytics": as_theirs(model.path, setting.sizes[0], model.names)}
    found: dict[str, list[Load]] = {}
    memory: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        services = {"ours": stack.enter_context(ours(setting, setting.sizes[0]))}
        pause(services["ours"].process)
        for name, (module, around, *workers) in PEERS.items():
            command = [module, around, str(paths[around]), str(model.confidence), *workers]
            log = setting.folder / f"{name}.log"
            services[name] = stack.enter_context(started(command, setting.photos[0], log, setting.packages))
            pause(services[name].process)
        for _ in range(setting.rounds):
            for name, service in services.items():
                with at_work(service.process):
                    found.setdefault(name, []).append(only_answers(load(service, setting.photos, 8, setting.seconds)))
                    memory[name] = max(memory.get(name, 0), memory_mb(service.process))
    return {
        name: {
            "photos_s": median([one.answered_s for one in loads]),
            "p50_ms": median([one.p50 for one in loads]),
            "p99_ms": median([one.p99 for one in loads]),
            "memory_mb": round(memory[name]),
            "ours_photos_s_beside": ratio(found["ours"], loads, "answered_s"),
            "ours_p99_beside": ratio(found["ours"], loads, "p99"),
            "ours_memory_beside": round(memory["ours"] / memory[name], 3),
        }
        for name, loads in found.items()
    }


def ratio(first: Sequence[Load], other: Sequence[Load], figure: str) -> float:
    return round(paired([getattr(one, figure) for one in first], [getattr(one, figure) for one in other]), 3)


def pause(process: subprocess.Popen[bytes]) -> None:
    for one in tree(process):
        one.suspend()


@contextlib.contextmanager
def at_work(process: subprocess.Popen[bytes]) -> Iterator[None]:
    for one in tree(process):
        one.resume()
    try:
        yield
    finally:
        pause(process)


def overload(setting: Setting) -> Record:
    """Three times as many requests as can be answered; before and after it one client, and sixteen for the peak."""
    with ours(setting, setting.sizes[0]) as service:
        peaks, medians = [], []

        def calm() -> None:
            peaks.append(only_answers(load(service, setting.photos, 16, setting.seconds)).answered_s)
            medians.append(only_answers(load(service, setting.photos, 1, setting.seconds)).p50)

        calm()
        rate = TIMES_CAPACITY * peaks[0]
        with memory_watched(service.process, SAMPLED_EVERY_S) as memory:
            found = load(service, setting.photos, OPEN_CLIENTS, setting.overload_seconds, rate)
        wait_for(service, setting.photos[0], log_of(setting, setting.sizes[0]))  # the queue is empty again
        calm()
    return {
        "peak_photos_s": median(peaks),
        "asked_s": round(rate, 1),
        "begun_s": round(sum(found.statuses.values()) / setting.overload_seconds, 1),
        "answered_s": round(found.answered_s, 2),
        "goodput": round(found.answered_s / statistics.mean(peaks), 3),
        "statuses": found.statuses,
        "cut": found.cut,
        "refusals_p50_ms": round(percentile(found.refusals, 50), 2),
        "refusals_p99_ms": round(percentile(found.refusals, 99), 2),
        "answers_p99_ms": round(percentile(found.answers, 99), 1),
        "memory_mb": [round(one) for one in memory],
        "memory_growth": round(growth(memory), 3),
        "p50_before_ms": round(medians[0], 2),
        "p50_after_ms": round(medians[1], 2),
    }


def growth(memory: Sequence[float]) -> float:
    """The last quarter beside the second one; of fewer than four samples the last beside the first."""
    quarter = len(memory) // 4
    if not quarter:
        return memory[-1] / memory[0]
    return statistics.median(memory[-quarter:]) / statistics.median(memory[quarter:][:quarter])


def batch(setting: Setting) -> Record:
    """Photos a second of one client, five in a request and one in a request."""
    together, single = [], []
    with ours(setting, setting.sizes[0]) as service:
        for _ in range(setting.rounds):
            single.append(only_answers(load(service, setting.photos, 1, setting.seconds)).answered_s)
            together.append(only_answers(load(service, setting.photos, 1, setting.seconds, batch=BATCH)).answered_s)
    return {
        "one_by_one_photos_s": median(single),
        "together_photos_s": median(together),
        "ratio": round(paired(together, single), 3),
    }


def soak(setting: Setting) -> Record:
    """Eight clients for long: the memory at the end beside that after the first minute."""
    with ours(setting, setting.sizes[0]) as service, memory_watched(service.process, SAMPLED_EVERY_S) as memory:
        found = only_answers(load(service, setting.photos, 8, setting.soak_seconds))
    after = FIRST_MINUTE_S if len(memory) >= 2 * FIRST_MINUTE_S else len(memory) // 3
    window = max(len(memory) // 10, 1)
    first, last = statistics.median(memory[after:][:window]), statistics.median(memory[-window:])
    return {
        "seconds": setting.soak_seconds,
        "photos": sum(found.statuses.values()),
        "memory_mb_after_first_minute": round(first, 1),
        "memory_mb_at_end": round(last, 1),
        "growth": round(last / first, 3),
    }


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 2)
