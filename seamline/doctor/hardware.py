"""Checks of the machine: GPU and driver, the processor's instructions, and what of the machine may be used."""

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
ULTRALYTICS_WORKERS = 8  # what train.workers is where params.yaml does not have it


def check_gpu(train: Train) -> Finding:
    from seamline.doctor import gpus

    driver = gpus.installed_driver()
    if driver is None or train.device == "cpu":  # torch, which takes seconds to import, has nothing to say then
        return gpu_finding(train.device, train.batch, driver, None, 0)
    cuda = gpus.torch_cuda()
    ready = cuda is not None and not gpus.is_too_old(driver, cuda)
    return gpu_finding(train.device, train.batch, driver, cuda, gpus.usable_gpus() if ready else 0)


def gpu_finding(device: str, batch: int, driver: str | None, cuda: str | None, usable: int) -> Finding:
    """Whether train.device is there.

    Args:
        driver: NVIDIA's, its version or ""; None: there is none.
        cuda: that torch was built for; None: for none.
        usable: how many GPUs torch can use.
    """
    from seamline.doctor.gpus import is_too_old, oldest_driver

    name = "GPU"
    if device == "cpu":
        return Finding("ok", name, "none wanted: train.device is cpu")
    wanted = [] if device == "auto" else [number.strip() for number in device.split(",")]
    missing: Literal["note", "FAIL"] = "FAIL" if wanted else "note"  # auto would train on the processor, for days
    if driver is None and not wanted:
        return Finding("ok", name, "no NVIDIA driver: training runs on the processor")
    if driver is None:
        told = f"train.device: {device!r} is not there; this machine has no NVIDIA driver"
        return Finding("FAIL", name, told, "`train.device: auto` in params.yaml, or install the driver")
    there = f"driver {driver}" if driver else "a driver"
    if cuda is None:
        return Finding(
            missing, name, f"{there}, and torch is a build for processors alone", "`rm -r .venv && make setup`"
        )
    oldest = oldest_driver(cuda)
    if oldest and is_too_old(driver, cuda):
        needed = ".".join(map(str, oldest))
        told = f"{there} is older than torch's CUDA {cuda} needs ({needed}): the GPU would not be used"
        return Finding("FAIL", name, told, f"install NVIDIA's driver {needed} or later, or `train.device: cpu`")
    if usable == 0:
        told = f"{there}, and torch (CUDA {cuda}) sees no GPU"
        remedy = "`nvidia-smi` has to list it; in a container start that with `--gpus all`; unset CUDA_VISIBLE_DEVICES"
        return Finding(missing, name, told, remedy)
    if any(not number.isdigit() or int(number) >= usable for number in wanted):
        told = f"train.device: {device!r} is not there; this machine has {usable} GPUs"
        return Finding("FAIL", name, told, "`train.device: auto` in params.yaml")
    if batch % max(len(wanted), 1):
        told = f"train.batch: {batch} cannot be shared out evenly over the {len(wanted)} GPUs {device!r}"
        return Finding("FAIL", name, told, f"`train.batch: {batch + -batch % len(wanted)}` in params.yaml")
    return Finding("ok", name, f"{usable} that torch can use; {there}, CUDA {cuda}")


def check_shared_memory(train: Train) -> Finding:
    from seamline.doctor.gpus import installed_driver

    on_gpu = train.device != "cpu" and installed_driver() is not None
    workers = train.others.get("workers", ULTRALYTICS_WORKERS) if on_gpu else 0  # ultralytics has none on a processor
    shared = Path("/dev/shm")  # its size is read, nothing is written  # nosec B108
    return shared_memory_finding(workers, shutil.disk_usage(shared).total if shared.is_dir() else None)


def shared_memory_finding(workers: int, total_bytes: int | None) -> Finding:
    """Through it the processes that load images hand them to the training; None: the system has none."""
    from seamline.base.progress import size_text

    name = "shared memory"
    if not workers or total_bytes is None:
        return Finding("ok", name, "not needed: images are loaded in the training's own process")
    told = f"{size_text(total_bytes)} for {workers} processes that load images"
    if total_bytes < LOW_SHARED_BYTES:
        return Finding("note", name, told, "start the container with `--shm-size 8g`, or `train.workers: 0`")
    return Finding("ok", name, told)


def check_processor() -> Finding:
    from seamline.benchmark.machine import instructions, processor_fields

    return processor_finding(instructions() if "flags" in processor_fields() else None)


def processor_finding(has: Sequence[str] | None) -> Finding:
    """Instructions that matter to the exported models; None: the system does not tell."""
    name = "processor"
    if has is None:
        return Finding("ok", name, "its instructions are unknown: there is no /proc/cpuinfo, or they are not in it")
    vnni, bf16, amx = (any(key in flag for flag in has) for key in ("vnni", "bf16", "amx"))
    told = [
        "VNNI: INT8 is at its fastest" if vnni else "no VNNI: INT8 gains less",
        "BF16: the benchmark has a row for it" if bf16 else "no BF16: the benchmark has no row for it",
        "AMX" if amx else "no AMX",
    ]
    if "avx2" not in has:
        return Finding("note", name, f"no AVX2: everything is slow; {'; '.join(told)}", "take a machine that has it")
    return Finding("ok", name, f"AVX2; {'; '.join(told)}")


def check_cores(threads: int | None) -> Finding:
    from seamline.benchmark.machine import usable_core_ids
    from seamline.doctor.cores import own_limits

    wanted = os.environ.get("OMP_NUM_THREADS", "")
    omp = int(wanted) if wanted.isdigit() else None
    return cores_finding(len(usable_core_ids(None)), own_limits().cores, threads, omp)


def cores_finding(cores: int, quota: float | None, threads: int | None, omp: int | None) -> Finding:
    """Whether as many threads are started as there is time for.

    Args:
        cores: that this process may run on.
        quota: so many cores' time, by the control group; None: all of it.
        threads: benchmark.threads.
        omp: OMP_NUM_THREADS.
    """
    if threads is not None and threads > cores:
        told = f"benchmark.threads: {threads} is more than the {cores} cores this process may use"
        return Finding("FAIL", "cores", told, f"`benchmark.threads: {cores}` in params.yaml, or null")
    if quota is None or quota >= cores:
        return Finding("ok", "cores", f"{cores} that this process may use")
    whole = max(int(quota), 1)
    told = f"the time of {quota:g} cores, by the control group's limit, on {cores} that this process may use"
    if all(count is not None and count <= whole for count in (threads, omp)):
        return Finding("ok", "cores", told)
    told += ": more threads than that hold each other up"
    return Finding("note", "cores", told, f"`export OMP_NUM_THREADS={whole}`, and `benchmark.threads: {whole}`")


def check_memory() -> Finding:
    from seamline.benchmark.machine import machine_memory_bytes
    from seamline.doctor.cores import own_limits

    return memory_finding(machine_memory_bytes(), own_limits().memory_bytes)


def memory_finding(machine_bytes: int | None, limit_bytes: int | None) -> Finding:
    from seamline.base.progress import size_text

    if machine_bytes is None:
        return Finding("ok", "memory", "how much there is is unknown: this system does not say")
    usable = min(machine_bytes, limit_bytes or machine_bytes)
    told = size_text(usable) + (", by the control group's limit" if usable < machine_bytes else "")
    if usable < LOW_MEMORY_BYTES:
        remedy = "give the container or machine 4 GB (`--memory 4g`), or take a smaller train.batch"
        return Finding("note", "memory", f"{told}: little for a training", remedy)
    return Finding("ok", "memory", told)
