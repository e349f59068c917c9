"""GPUs before a training: NVIDIA's driver, the CUDA that torch was built for, and how many torch can use."""

from __future__ import annotations

import re
import warnings
from importlib.util import find_spec
from pathlib import Path

# The oldest driver for each major version of CUDA; it runs all minor versions (NVIDIA: CUDA compatibility).
OLDEST_DRIVERS = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
DRIVER = Path("/proc/driver/nvidia/version")
WSL = Path("/dev/dxg")  # Windows' driver, as WSL shows it


def installed_driver() -> str | None:
    """The version of NVIDIA's driver; "" when it is unknown, None without a driver."""
    try:
        return text_to_version(DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return "" if WSL.exists() else None


def text_to_version(text: str) -> str:
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text)
    return found[0] if found else ""


def oldest_driver(cuda: str) -> tuple[int, int] | None:
    """For a version of CUDA such as 13.0; None for an unknown version."""
    return OLDEST_DRIVERS.get(int(cuda.partition(".")[0]))


def is_too_old(driver: str, cuda: str) -> bool:
    oldest = oldest_driver(cuda)
    if not driver or oldest is None:
        return False
    return tuple(int(part) for part in driver.split(".")[:2]) < oldest


def torch_cuda() -> str | None:
    """The CUDA that torch was built for, without importing it; None for a CPU build.

    Raises:
        ImportError: when torch is not installed.
    """
    package = find_spec("torch")
    if package is None or package.origin is None:
        raise ImportError("torch is not installed")
    text = Path(package.origin).with_name("version.py").read_text(encoding="utf-8")
    found = re.search(r"^cuda\b.*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return found[1] if found else None


def usable_gpus() -> int:
    """How many GPUs torch can use; takes seconds, since it imports torch."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the check's own message about drivers is clearer
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
