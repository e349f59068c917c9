"""The machine that something is measured on: what it is, and whether anything else used it meanwhile."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.processors import processor_kind

PROC = Path("/proc")  # on Linux only, like the next one
GROUP_TIMES = Path("/sys/fs/cgroup/cpu.stat")
LIBRARIES = ("torch", "ultralytics", "onnxruntime", "openvino", "nncf", "numpy", "opencv-python-headless")
NOISY = 0.1  # spread of the pace
BUSY = 0.05  # share of the cores' time
SLOWER = 0.05  # the last third of the rounds beside the first


def usable_core_ids(count: int | None) -> list[int]:
    """The first `count` cores that this process may run on; all of them where count is None.

    Raises:
        SeamlineError: when there are fewer.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if count is not None and count > len(cores):
        raise SeamlineError(f"benchmark.threads: {count} is more than the {len(cores)} cores this process may use.")
    return cores[:count]


def machine_facts(cores: Sequence[int]) -> Record:
    """What the figures were measured on; no host name, user, path or date. None: the system does not say."""
    gpus = sorted((PROC / "driver/nvidia/gpus").glob("*/information"))
    memory_bytes, processor = machine_memory_bytes(), processor_kind()
    return {
        "processor": processor["name"],
        "instructions": processor["instructions"],
        "cores_used": len(cores),
        "cores_of_machine": os.cpu_count(),
        "memory_gb": None if memory_bytes is None else round(memory_bytes / 1e9, 1),
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


def machine_memory_bytes() -> int | None:
    """None: the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def peak_rss_mb() -> float:
    """Peak resident memory of this process so far, in MB (10^6 bytes).

    From /proc where there is one: a new process inherits getrusage's figure from the one that started it.
    """
    status = text_of(PROC / "self/status")
    if status:
        lines = dict(line.split(":", 1) for line in status.splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if platform.system() == "Darwin" else peak * 1024 / 1e6


class Snapshot(NamedTuple):
    """Counters that only ever grow, in seconds."""

    total_s: float  # of the cores used
    idle_s: float
    stolen_s: float  # by other virtual machines
    own_s: float  # computed by our processes
    throttled_s: float | None  # by the control group's limit; None: the system does not say


def snapshot(cores: Sequence[int], processes: Iterable[int]) -> Snapshot | None:
    """Where the cores' time went so far; processes: ids of ours. None where the system does not say."""
    tick = os.sysconf("SC_CLK_TCK")
    total = idle = stolen = 0.0
    names = {f"cpu{core}" for core in cores}
    for line in text_of(PROC / "stat").splitlines():
        name, *values = line.split()
        if name in names:
            numbers = [int(value) / tick for value in values[:8]]  # user nice system idle iowait irq softirq steal
            total, idle, stolen = total + sum(numbers), idle + numbers[3] + numbers[4], stolen + numbers[7]
    if not total:
        return None
    own = 0.0
    for process in (os.getpid(), *processes):
        fields = text_of(PROC / str(process) / "stat").rpartition(")")[2].split()
        own += (int(fields[11]) + int(fields[12])) / tick if fields else 0.0
    limits = dict(line.split() for line in text_of(GROUP_TIMES).splitlines() if len(line.split()) == 2)
    # A group without a limit has no line for it.
    return Snapshot(total, idle, stolen, own, int(limits.get("throttled_usec", 0)) / 1e6 if limits else None)


def text_of(path: Path) -> str:
    """What a file says; "" where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def conditions(before: Snapshot | None, after: Snapshot | None, pace: Sequence[float]) -> Record:
    """What disturbed a measurement between two snapshots.

    Args:
        pace: how long each round took beside the others, for all rows together; see figures.measurements_to_pace.

    Returns:
        Shares of the cores' time: stolen_share by other virtual machines, other_share by processes that are not ours,
        throttled_share for which a limit stopped ours. pace_spread: the distance from the 10th to the 90th percentile
        of the pace. pace_trend: how much longer the last third of the rounds took than the first, as a share.
        disturbances: what a reader has to know of these. A share is None where the system does not say.
    """
    third = max(len(pace) // 3, 1)
    p10, median, p90 = np.percentile(pace, [10, 50, 90])
    trend = np.median(pace[-third:]) / np.median(pace[:third]) - 1
    found = {
        **shares_of_others(before, after),
        "pace_spread": round(float((p90 - p10) / median), 4),
        "pace_trend": round(float(trend), 4),
    }
    return {**found, "disturbances": [*unknown(found), *disturbances(found)]}


def shares_of_others(before: Snapshot | None, after: Snapshot | None) -> dict[str, float | None]:
    """Of the cores' time between two snapshots; None where the system does not say."""
    if before is None or after is None or after.total_s == before.total_s:
        return dict.fromkeys(("stolen_share", "other_share", "throttled_share"))
    total = after.total_s - before.total_s
    idle, stolen, own = after.idle_s - before.idle_s, after.stolen_s - before.stolen_s, after.own_s - before.own_s
    throttled = None
    if before.throttled_s is not None and after.throttled_s is not None:
        throttled = round((after.throttled_s - before.throttled_s) / total, 4)
    return {
        "stolen_share": round(stolen / total, 4),
        "other_share": round(max(total - idle - stolen - own, 0) / total, 4),
        "throttled_share": throttled,
    }


def unknown(found: Mapping[str, float | None]) -> list[str]:
    """What this system does not say or cannot do, and why, in sentences."""
    sentences = []
    if not hasattr(os, "sched_setaffinity"):
        sentences.append("The formats were not bound to the same cores, as this system cannot do that.")
    if found["other_share"] is None:
        sentences.append(f"How much of the cores' time others took is not known, as {PROC / 'stat'} does not say.")
    elif found["throttled_share"] is None:
        sentences.append(
            f"Whether a limit on processor time slowed the benchmark is not known, as there is no {GROUP_TIMES}."
        )
    return sentences


def disturbances(found: Mapping[str, float | None]) -> list[str]:
    """What a reader of the figures has to know of the conditions, in sentences; [] where nothing disturbed them."""
    sentences = []
    stolen, other, throttled = (found[f"{name}_share"] or 0 for name in ("stolen", "other", "throttled"))
    spread, trend = found["pace_spread"] or 0, found["pace_trend"] or 0
    if stolen > BUSY:
        sentences.append(f"Other virtual machines on the same host took {stolen:.0%} of the cores' time.")
    if other > BUSY:
        sentences.append(f"Other processes took {other:.0%} of the cores' time.")
    if throttled > BUSY:
        sentences.append(
            f"A limit on this container's processor time stopped the benchmark for {throttled:.0%} of the time."
        )
    if trend > SLOWER:
        sentences.append(
            f"The machine became slower: every format took {trend:.0%} longer at the end than at the "
            "beginning, as when a processor gets too hot."
        )
    if spread > NOISY:
        sentences.append(
            f"The machine was not steady: some rounds took {spread:.0%} longer than others, for all formats."
        )
    return sentences
