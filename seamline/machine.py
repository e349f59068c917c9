"""The machine that something is measured on: what it is, and whether it was left alone meanwhile."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seamline.coco import Record
from seamline.errors import SeamlineError

LIBRARIES = ("torch", "ultralytics", "onnxruntime", "openvino", "nncf", "numpy", "opencv-python-headless")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16", "amx_int8")
NOISY = 0.1  # spread of the pace
BUSY = 0.05  # share of the cores' time
SLOWER = 0.05  # the last third of the rounds beside the first


def usable_core_ids(count: int | None) -> list[int]:
    """The first `count` cores that this process may run on; all of them where count is None.

    Raises:
        SeamlineError: when there are not so many.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if count is not None and count > len(cores):
        raise SeamlineError(f"benchmark.threads: {count} is more than the {len(cores)} cores this process may use.")
    return cores[:count]


def machine_facts(cores: Sequence[int]) -> Record:
    """What the figures were measured on; no host name, user, path or date."""
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return {
        "processor": processor_fields().get("model name") or platform.processor() or platform.machine(),
        "instructions": instructions(),
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


@functools.cache
def processor_fields() -> dict[str, str]:
    """/proc/cpuinfo of one core; {} where there is none."""
    information = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    pairs = (line.partition(":") for line in information.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if value}


def instructions() -> list[str]:
    """Those of INSTRUCTIONS that the processor has."""
    flags = processor_fields().get("flags", "").split()
    return [flag for flag in INSTRUCTIONS if flag in flags]


def peak_rss_mb() -> float:
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


class Snapshot(NamedTuple):
    """Counters that only ever grow, in seconds; 0 where the system does not tell."""

    total_s: float  # of the cores used
    idle_s: float
    stolen_s: float  # by other virtual machines
    own_s: float  # computed by our processes
    throttled_s: float  # by the control group's limit


def snapshot(cores: Sequence[int], processes: Iterable[int]) -> Snapshot:
    """Where the cores' time went so far; processes: ids of ours."""
    tick = os.sysconf("SC_CLK_TCK")
    total = idle = stolen = 0.0
    names = {f"cpu{core}" for core in cores}
    for line in text_of("/proc/stat").splitlines():
        name, *values = line.split()
        if name in names:
            numbers = [int(value) / tick for value in values[:8]]  # user nice system idle iowait irq softirq steal
            total, idle, stolen = total + sum(numbers), idle + numbers[3] + numbers[4], stolen + numbers[7]
    own = 0.0
    for process in (os.getpid(), *processes):
        fields = text_of(f"/proc/{process}/stat").rpartition(")")[2].split()
        own += (int(fields[11]) + int(fields[12])) / tick if fields else 0.0
    limits = dict(line.split() for line in text_of("/sys/fs/cgroup/cpu.stat").splitlines() if len(line.split()) == 2)
    return Snapshot(total, idle, stolen, own, int(limits.get("throttled_usec", 0)) / 1e6)


def text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def conditions(before: Snapshot, after: Snapshot, pace: Sequence[float]) -> Record:
    """What disturbed a measurement between two snapshots.

    Args:
        pace: how long each round took beside the others, whoever computed; see benchmarking.turns_to_pace.

    Returns:
        Shares of the cores' time: stolen_share by other virtual machines, other_share by processes that are not ours,
        throttled_share for which a limit held ours up; pace_spread, what lies between the 10th and 90th percentile of
        the pace; pace_trend, how much longer the last third of the rounds took than the first, as a share; and
        disturbances, what a reader has to know of these.
    """
    spent = Snapshot(*(end - start for start, end in zip(before, after, strict=True)))
    total = spent.total_s or 1.0
    third = max(len(pace) // 3, 1)
    p10, median, p90 = np.percentile(pace, [10, 50, 90])
    trend = np.median(pace[-third:]) / np.median(pace[:third]) - 1
    other = total - spent.idle_s - spent.stolen_s - spent.own_s
    shares = {
        "stolen_share": round(spent.stolen_s / total, 4),
        "other_share": round(max(other, 0) / total, 4) if spent.total_s else 0.0,
        "throttled_share": round(spent.throttled_s / total, 4),
        "pace_spread": round(float((p90 - p10) / median), 4),
        "pace_trend": round(float(trend), 4),
    }
    return {**shares, "disturbances": disturbances(shares)}


def disturbances(found: Mapping[str, float]) -> list[str]:
    """What a reader of the figures has to know of the conditions, in sentences; [] where the machine was left alone."""
    told = []
    if found["stolen_share"] > BUSY:
        told.append(f"Other virtual machines on the same host took {found['stolen_share']:.0%} of the cores' time.")
    if found["other_share"] > BUSY:
        told.append(f"Other processes took {found['other_share']:.0%} of the cores' time.")
    if found["throttled_share"] > BUSY:
        told.append(f"A limit on this container's processor time held it up for {found['throttled_share']:.0%} of it.")
    if found["pace_trend"] > SLOWER:
        told.append(
            f"The machine became slower: every format took {found['pace_trend']:.0%} longer at the end than at the "
            "beginning, as when a processor gets too hot."
        )
    if found["pace_spread"] > NOISY:
        told.append(
            f"The machine was not steady: some rounds took all formats {found['pace_spread']:.0%} longer than others."
        )
    return told
