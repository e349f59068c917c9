"""On which processor or GPUs a training runs."""

from __future__ import annotations

import platform

import torch

from seamline.base.errors import SeamlineError


def find_device(name: str, batch: int) -> str:
    """auto: the first GPU where there is one.

    Raises:
        SeamlineError: when a GPU is asked for that is not there, or the batch cannot be divided evenly.
    """
    count = torch.cuda.device_count()
    if name == "auto":
        return "0" if count else "cpu"
    numbers = [number.strip() for number in name.split(",")]
    if all(number == "cpu" for number in numbers):
        pass  # "cpu,cpu": two processes, as for two GPUs
    elif any(not number.isdigit() or int(number) >= count for number in numbers):
        raise SeamlineError(f"train.device: {name!r} is not there; this machine has {count} GPUs: use auto or cpu.")
    if batch % len(numbers):
        raise SeamlineError(f"train.batch: {batch} cannot be shared out evenly over the {len(numbers)} GPUs {name!r}.")
    return ",".join(numbers)


def is_cpu(device: str) -> bool:
    return device.startswith("cpu")


def processes_of(device: str) -> int:
    """How many processes train: one for each GPU."""
    return len(device.split(","))


def device_kind(device: str) -> str:
    """The kind of processor or GPU: on another one the same training gives other weights."""
    if is_cpu(device):
        kind = f"CPU, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return kind if device == "cpu" else f"{kind}, {processes_of(device)} processes"
    return ", ".join(torch.cuda.get_device_name(int(number)) for number in device.split(","))
