"""Checks of the machine: GPU and driver, the processor's instructions, and how much of it this process may use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from seamline.doctor.finding import Finding

if TYPE_CHECKING:
    from seamline.params.train import Train

LOW_MEMORY_BYTES = 4e9
LOW_SHARED_BYTES = 1e9
ULTRALYTICS_WORKERS = 8  # train.workers when params.yaml does not set it


def check_gpu(train: Train) -> Finding:
    from seamline.doctor import gpus

    driver = gpus.installed_driver()
    if driver is None or train.device == "cpu":  # without importing torch, which takes seconds
        return gpu_finding(train.device, train.batch, driver, None, 0)
    cuda = gpus.torch_cuda()
    ready = cuda is not None and not gpus.is_too_old(driver, cuda)
    return gpu_finding(train.device, train.batch, driver, cuda, gpus.usable_gpus() if ready else 0)


def gpu_finding(device: str, batch: int, driver: str | None, cuda: str | None, usable: int) -> Finding:
    """Whether train.device exists.

    Args:
        driver: the version of NVIDIA's driver, or "" when unknown; None: no driver.
        cuda: the version that torch was built for; None: a CPU build.
        usable: how many GPUs torch can use.
    """
    from seamline.doctor.gpus import is_too_old, oldest_driver

    name = "GPU"
    if device == "cpu":
        return Finding("ok", name, "not needed: train.device is cpu")
    wanted = [] if device == "auto" else [number.strip() for number in device.split(",")]
    missing: Literal["note", "FAIL"] = "FAIL" if wanted else "note"  # auto would train on the CPU, for days
    if driver is None and not wanted:
        return Finding("ok", name, "no NVIDIA driver: training runs on the CPU")
    if driver is None:
        found = f"train.device: {device!r} does not exist; this machine has no NVIDIA driver"
        return Finding("FAIL", name, found, "`train.device: auto` in params.yaml, or install the driver")
    there = f"driver {driver}" if driver else "a driver"
    if cuda is None:
        return Finding(missing, name, f"{there}, and torch is a CPU build", "`rm -r .venv && make setup`")
    oldest = oldest_driver(cuda)
    if oldest and is_too_old(driver, cuda):
        needed = ".".join(map(str, oldest))
        found = f"{there} is older than torch's CUDA {cuda} needs ({needed}): the GPU would not be used"
        return Finding("FAIL", name, found, f"install NVIDIA's driver {needed} or later, or `train.device: cpu`")
    if usable == 0:
        found = f"{there}, and torch (CUDA {cuda}) sees no GPU"
        remedy = "`nvidia-smi` has to list it; in a container start that with `--gpus all`; unset CUDA_VISIBLE_DEVICES"
        return Finding(missing, name, found, remedy)
    if any(not number.isdigit() or int(number) >= usable for number in wanted):
        found = f"train.device: {device!r} does not exist; this machine has {usable} GPUs"
        return Finding("FAIL", name, found, "`train.device: auto` in params.yaml")
    if batch % max(len(wanted), 1):
        found = f"train.batch: {batch} cannot be divided evenly among the {len(wanted)} GPUs {device!r}"
        return Finding("FAIL", name, found, f"`train.batch: {batch + -batch % len(wanted)}` in params.yaml")
    return Finding("ok", name, f"{usable} that torch can use; {there}, CUDA {cuda}")


def check_shared_memory(train: Train) -> Finding:
    from seamline.doctor.gpus import installed_driver

    on_gpu = train.device != "cpu" and installed_driver() is not None
    workers = train.others.get("workers", ULTRALYTICS_WORKERS) if on_gpu else 0  # ultralytics uses none on a CPU
    shared = Path("/dev/shm")  # its size is read, nothing is written  # nosec B108
    return shared_memory_finding(workers, shutil.disk_usage(shared).total if shared.is_dir() else None)


def shared_memory_finding(workers: int, total_bytes: int | None) -> Finding:
    """The processes that load images pass them to the training in it; None: the system has no /dev/shm."""
    from seamline.base.progress import size_text

    name = "shared memory"
    if not workers or total_bytes is None:
        return Finding("ok", name, "not needed: the training process loads the images itself")
    found = f"{size_text(total_bytes)} for {workers} processes that load images"
    if total_bytes < LOW_SHARED_BYTES:
        return Finding("note", name, found, "start the container with `--shm-size 8g`, or `train.workers: 0`")
    return Finding("ok", name, found)


def check_processor() -> Finding:
    from seamline.base.processors import instructions, processor_fields

    return processor_finding(instructions() if "flags" in processor_fields() else None)


def processor_finding(has: Sequence[str] | None) -> Finding:
    """Args: has: instructions that matter to the exported models; None: unknown."""
    name = "processor"
    if has is None:
        return Finding("ok", name, "its instructions are unknown: /proc/cpuinfo is missing, or does not list them")
    vnni, bf16, amx = (any(key in flag for flag in has) for key in ("vnni", "bf16", "amx"))
    found = [
        "VNNI: INT8 can be fast" if vnni else "no VNNI: INT8 gains less",
        "BF16: the benchmark has a row for it" if bf16 else "no BF16: the benchmark has no row for it",
        "AMX" if amx else "no AMX",
    ]
    if "avx2" not in has:
        return Finding("note", name, f"no AVX2: everything is slow; {'; '.join(found)}", "use a machine that has it")
    return Finding("ok", name, f"AVX2; {'; '.join(found)}")


def check_cores(threads: int | None) -> Finding:
    from seamline.benchmark.machine import usable_core_ids
    from seamline.doctor.cores import own_limits

    wanted = os.environ.get("OMP_NUM_THREADS", "")
    omp = int(wanted) if wanted.isdigit() else None
    return cores_finding(len(usable_core_ids(None)), own_limits().cores, threads, omp)


def cores_finding(cores: int, quota: float | None, threads: int | None, omp: int | None) -> Finding:
    """Whether more threads would be started than cores are available.

    Args:
        cores: how many this process may run on.
        quota: how many cores' time the control group allows; None: no limit.
        threads: benchmark.threads.
        omp: OMP_NUM_THREADS.
    """
    if threads is not None and threads > cores:
        found = f"benchmark.threads: {threads} is more than the {cores} cores this process may use"
        return Finding("FAIL", "cores", found, f"`benchmark.threads: {cores}` in params.yaml, or null")
    if quota is None or quota >= cores:
        return Finding("ok", "cores", f"{cores} that this process may use")
    whole = max(int(quota), 1)
    found = f"{cores} that this process may use, limited by its control group to the time of {quota:g}"
    if all(count is not None and count <= whole for count in (threads, omp)):
        return Finding("ok", "cores", found)
    found += ": more threads slow each other down"
    return Finding("note", "cores", found, f"`export OMP_NUM_THREADS={whole}`, and `benchmark.threads: {whole}`")


def check_memory() -> Finding:
    from seamline.benchmark.machine import machine_memory_bytes
    from seamline.doctor.cores import own_limits

    return memory_finding(machine_memory_bytes(), own_limits().memory_bytes)


def memory_finding(machine_bytes: int | None, limit_bytes: int | None) -> Finding:
    from seamline.base.progress import size_text

    if machine_bytes is None:
        return Finding("ok", "memory", "unknown: this system does not report it")
    usable = min(machine_bytes, limit_bytes or machine_bytes)
    found = size_text(usable) + (", limited by the control group" if usable < machine_bytes else "")
    if usable < LOW_MEMORY_BYTES:
        remedy = "give the container or machine 4 GB (`--memory 4g`), or use a smaller train.batch"
        return Finding("note", "memory", f"{found}: not much for a training", remedy)
    return Finding("ok", "memory", found)
