"""Engines timed side by side: each in a process of its own on the same cores, taking turns, one image at a time."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import multiprocessing
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.params import Evaluate
from seamline.predictions import predict_split
from seamline.runtime.predictor import Predictor
from seamline.stage import end_with_parent

LIBRARIES = ("torch", "ultralytics", "onnxruntime", "openvino", "nncf", "numpy", "opencv-python-headless")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16", "amx_int8")


class Pass(NamedTuple):
    """One run through the images."""

    wall_s: float
    latencies_ms: list[float]  # an image, from the file to the masks
    parts_ms: list[tuple[float, float, float]]  # an image: preprocess (file read and decoded), inference, postprocess


# What an engine's process is asked to do.


def precision(predictor: Predictor) -> str:
    return predictor.precision


def warm_up(predictor: Predictor, images: list[Path], seconds: float) -> None:
    """Predict for so long, and at least once."""
    end = time.perf_counter() + seconds
    index = 0
    while index == 0 or time.perf_counter() < end:
        predictor.predict(images[index % len(images)])
        index += 1


def timed_pass(predictor: Predictor, images: list[Path]) -> Pass:
    predictor.predict(images[0])  # caches have grown cold during the others' turns
    latencies, parts = [], []
    begin = time.perf_counter()
    for image in images:
        start = time.perf_counter()
        predictor.predict(image)
        latencies.append(1000 * (time.perf_counter() - start))
        parts.append(predictor.timings_ms)
    return Pass(time.perf_counter() - begin, latencies, parts)


def peak_rss_mb(predictor: Predictor) -> float:
    """Peak resident memory of this process so far, in MB (10^6 bytes).

    From /proc where there is one: a new process inherits getrusage's figure from the one that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if platform.system() == "Darwin" else peak * 1024 / 1e6


def split_records(predictor: Predictor, split_file: Path, images: Path, limits: Evaluate) -> list[Record]:
    """COCO results of a whole split at the evaluate section's limits."""
    predictor.confidence, predictor.nms_iou, predictor.max_detections = (
        limits.confidence,
        limits.nms_iou,
        limits.max_detections,
    )
    return predict_split(predictor, split_file, images, "test")


def serve(connection: Connection, open_predictor: Callable[[], Predictor], cores: list[int]) -> None:
    """An engine's process: answers one request after the other, and ends when the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it closes the pipe
    end_with_parent()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    import cv2

    cv2.setNumThreads(1)
    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            predictor = open_predictor()
            while True:
                function, arguments = connection.recv()
                connection.send(function(predictor, *arguments))
        except SeamlineError as error:
            connection.send(error)


class EngineProcess:
    """A model open in a process of its own.

    Attributes:
        name: the format, for messages.
        left_s: how much longer it may take, of all requests together.
    """

    def __init__(self, name: str, open_predictor: Callable[[], Predictor], cores: list[int], timeout_s: float) -> None:
        self.name, self.timeout_s, self.left_s = name, timeout_s, timeout_s
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, open_predictor, cores), daemon=True, name=name)
        with environment(thread_environment(len(cores))):
            self.process.start()
        theirs.close()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have function(predictor, *arguments) called in the process, and wait for what it returns.

        Raises:
            SeamlineError: naming the format, when the process refuses, dies, or takes too long.
        """
        start = time.monotonic()
        try:
            self.connection.send((function, arguments))
            if not self.connection.poll(max(self.left_s, 0)):
                raise SeamlineError(
                    f"{self.name}: took longer than benchmark.timeout_s ({self.timeout_s:g} s) and was stopped; "
                    "raise benchmark.timeout_s, or lower benchmark.images or benchmark.repeats."
                )
            answer = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(5)
            raise SeamlineError(
                f"{self.name}: its process ended by itself, exit code {self.process.exitcode} (-9: most likely out of "
                "memory); its last words are above, and dvc repro -s benchmark tries again."
            ) from None
        self.left_s -= time.monotonic() - start
        if isinstance(answer, SeamlineError):
            raise SeamlineError(f"{self.name}: {answer}")
        return answer

    def stop(self) -> None:
        """End the process: by itself, as its pipe is closed, or the hard way when it is busy."""
        self.connection.close()
        self.process.join(2)
        self.process.kill()
        self.process.join()


@contextlib.contextmanager
def engine_processes() -> Iterator[list[EngineProcess]]:
    """A list to put processes in; none of them outlives the block."""
    processes: list[EngineProcess] = []
    try:
        yield processes
    finally:
        for process in processes:
            process.stop()


def thread_environment(threads: int) -> dict[str, str]:
    """Variables that libraries read when they load: threads of an engine, and none that spin while others work.

    numpy's matrix products get one thread for every engine: OpenBLAS' idle threads spin for some 20 ms, and took
    the cores from the next image's inference (OpenVINO's median on two cores: 24 ms; with one thread 11 ms).
    """
    return {
        "OMP_NUM_THREADS": str(threads),
        "GOMP_SPINCOUNT": "1000",  # PyTorch's barriers; see TorchEngine
        "OPENBLAS_NUM_THREADS": "1",
    }


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables inside the block, for processes started in it."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def usable_core_ids(count: int | None) -> list[int]:
    """The first `count` cores that this process may run on; all of them where count is None.

    Raises:
        SeamlineError: when there are not so many.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if count is not None and count > len(cores):
        raise SeamlineError(f"benchmark.threads: {count} is more than the {len(cores)} cores this process may use.")
    return cores[:count]


def open_process(
    name: str, path: Path, cores: list[int], confidence: float, limits: Evaluate, timeout_s: float
) -> EngineProcess:
    """Start an engine's process; the first request waits until it is open."""
    opener = functools.partial(Predictor, path, confidence, limits.nms_iou, limits.max_detections, len(cores))
    return EngineProcess(name, opener, cores, timeout_s)


# What is made of the answers.


def passes_to_figures(passes: Sequence[Pass]) -> Record:
    """Latency percentiles and medians over all images of all passes, throughput as the median pass had it.

    throughput_spread is what lies between the 10th and 90th percentile of the passes' throughputs, as a share of
    their median: how much of a difference is noise.
    """
    latencies = [latency for one in passes for latency in one.latencies_ms]
    parts = np.median([part for one in passes for part in one.parts_ms], axis=0)
    throughputs = [len(one.latencies_ms) / one.wall_s for one in passes]
    p10, median, p90 = np.percentile(throughputs, [10, 50, 90])
    return {
        "images": len(passes[0].latencies_ms),
        "repeats": len(passes),
        "latency_ms": {f"p{rank}": round(float(np.percentile(latencies, rank)), 3) for rank in (50, 90, 99)},
        "throughput_img_s": round(float(median), 2),
        "throughput_spread": round(float((p90 - p10) / median), 3),
        **{
            f"{name}_ms": round(float(value), 3)
            for name, value in zip(("preprocess", "inference", "postprocess"), parts, strict=True)
        },
    }


def rows_to_table(rows: dict[str, Record]) -> str:
    """An aligned table for people."""
    header = ("format", "precision", "img/s", "spread", "p50 ms", "p99 ms", "MB", "peak RSS MB", "mask mAP", "delta")
    lines = [header]
    for name, row in rows.items():
        lines.append(
            (
                name,
                row["precision"],
                f"{row['throughput_img_s']:.1f}",
                f"{row['throughput_spread']:.0%}",
                f"{row['latency_ms']['p50']:.1f}",
                f"{row['latency_ms']['p99']:.1f}",
                f"{row['model_mb']:.1f}",
                f"{row['peak_rss_mb']:.0f}",
                f"{row['mask_mAP50_95']:.4f}",
                f"{row['mask_mAP50_95_delta']:+.4f}",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    )


def machine_facts(cores: Sequence[int]) -> Record:
    """What the figures were measured on; no host name, user, path or date."""
    information = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in information.splitlines())
        if value
    }
    flags = fields.get("flags", "").split()
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "instructions": [flag for flag in INSTRUCTIONS if flag in flags],
        "cores_used": len(cores),
        "cores_of_machine": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: installed_version(name) for name in LIBRARIES},
        "gpus": [
            line.partition(":")[2].strip()
            for file in gpus
            for line in file.read_text().splitlines()
            if line.startswith("Model")
        ],
    }


def installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
