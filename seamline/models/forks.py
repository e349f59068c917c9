"""After a fork, engines are there and their threads are not: one that is freed then waits for them without end."""

from __future__ import annotations

import ctypes
import os
import weakref
from pathlib import Path
from typing import Any

from seamline.base.errors import SeamlineError

opened = weakref.WeakSet[Any]()  # engines of this process, and of those it is a fork of
torch_processes: set[int] = set()  # the same of processes in which PyTorch has worked


def keep_in_forks(engine: Any) -> None:
    """Have forks of this process never free an engine, at their exit neither."""
    opened.add(engine)


def hold_for_ever() -> None:
    for engine in list(opened):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))


def check_torch_process(path: Path) -> None:
    """Before weights are opened; OpenMP, which PyTorch computes with, works in one process of a family.

    Raises:
        SeamlineError: where this process is a fork of one in which weights were opened.
    """
    if torch_processes - {os.getpid()}:
        raise SeamlineError(
            f"{path}: PyTorch does not work in process {os.getpid()}, a fork of one in which it has worked; start it "
            "with multiprocessing's method spawn, or open an ONNX or OpenVINO model."
        )
    torch_processes.add(os.getpid())


os.register_at_fork(after_in_child=hold_for_ever)
