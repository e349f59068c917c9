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
    numbers = [] if name == "cpu" else name.split(",")
    if any(not number.strip().isdigit() or int(number) >= count for number in numbers):
        raise SeamlineError(f"train.device: {name!r} is not there; this machine has {count} GPUs: use auto or cpu.")
    if batch % max(len(numbers), 1):
        raise SeamlineError(f"train.batch: {batch} cannot be shared out evenly over the {len(numbers)} GPUs {name!r}.")
    return ",".join(number.strip() for number in numbers) or name


def device_kind(device: str) -> str:
    """The kind of processor or GPU: on another one the same training gives other weights."""
    if device == "cpu":
        return f"CPU, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return ", ".join(torch.cuda.get_device_name(int(number)) for number in device.split(","))
