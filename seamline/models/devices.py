"""Where a model is computed: the names that a user gives, and what they stand for."""

from __future__ import annotations

import re
from pathlib import Path

from seamline.base.errors import SeamlineError

DEVICES = "auto, cpu, cuda, cuda:1 (the second GPU), tensorrt"
BATCH_ON_GPU = 16


def chosen_device(path: Path, name: str) -> str:
    """cpu, cuda:NUMBER or tensorrt:NUMBER, from what a user calls it.

    auto is a GPU for weights (.pt) where torch can use one; ONNX and OpenVINO models stay on the CPU.

    Raises:
        SeamlineError: when there is no device of that name.
    """
    if name == "auto":
        return "cuda:0" if path.suffix == ".pt" and gpu_count() else "cpu"
    if not re.fullmatch(r"cpu|(cuda|tensorrt)(:[0-9]{1,2})?", name):
        raise SeamlineError(f"{path}: device {name!r} was asked for; a device is one of {DEVICES}.")
    return name if name == "cpu" or ":" in name else f"{name}:0"


def gpu_count() -> int:
    """How many GPUs torch can use; 0 without torch."""
    try:
        import torch
    except ImportError:
        return 0
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def check_gpu(path: Path, device: str) -> None:
    """Raise SeamlineError where torch cannot use this GPU (cuda:NUMBER)."""
    import torch

    count = gpu_count()
    if not count:
        raise SeamlineError(f"{path}: device {device} was asked for, and torch {torch.__version__} sees no GPU.")
    if int(device.partition(":")[2]) >= count:
        raise SeamlineError(f"{path}: device {device} was asked for, and torch sees {count} GPUs, from cuda:0 on.")
