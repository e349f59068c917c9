"""A training on several processors: one process for each, which stop together when one of them fails.

They write into the training's folder alone, where ultralytics' launcher would write into its settings folder, and what
fails is said in one sentence, where torch's launcher prints a page.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import read_json, write_json
from seamline.training.trial import Stopped

POLL_S, END_S = 0.2, 5.0
Process = subprocess.Popen[bytes]


def arguments_file(folder: Path) -> Path:
    return folder / "arguments.json"


def error_file(folder: Path, rank: int) -> Path:
    return folder / f"error-{rank}.json"


def log_file(folder: Path, rank: int) -> Path:
    return folder / f"process-{rank}.log"


def train_in_processes(module: str, arguments: Record, folder: Path, count: int) -> None:
    """Train with `count` processes; the first one prints the epochs.

    Args:
        module: the program of each, such as seamline.training.yolo_process.

    Raises:
        SeamlineError: when one of them fails or is killed; then the others have been ended.
    """
    write_json(arguments_file(folder), arguments)
    for rank in range(count):
        error_file(folder, rank).unlink(missing_ok=True)
    with started(module, folder, count) as processes:
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                break
            time.sleep(POLL_S)
        codes = [process.poll() for process in processes]
    if any(codes):
        raise cause_of(codes, folder)


@contextmanager
def started(module: str, folder: Path, count: int) -> Iterator[list[Process]]:
    """The processes; those that still run when the block ends are ended."""
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes: list[Process] = []
    with ExitStack() as logs:
        try:
            for rank in range(count):
                log = logs.enter_context(log_file(folder, rank).open("wb"))
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", module, str(folder)],
                        env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                        stdin=subprocess.DEVNULL,
                        stdout=None if rank == 0 else log,
                        stderr=log,
                    )
                )
            yield processes
        finally:
            end(processes)


def end(processes: list[Process]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cause_of(codes: list[int | None], folder: Path) -> SeamlineError:
    """Why a training failed, by the exit codes that its processes had before any was ended by us.

    When one is killed, the others lose the connection to it and fail too; so do they after one has failed by itself.
    """
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            return SeamlineError(
                f"train: process {rank + 1} of {len(codes)} was killed ({signal.Signals(-code).name}); "
                f"run dvc repro to resume after the last finished epoch ({folder})."
            )
    said = [path for rank in range(len(codes)) if (path := error_file(folder, rank)).is_file()]
    if said:
        first = read_json(min(said, key=lambda path: path.stat().st_mtime_ns))
        return (Stopped if first["stopped"] else SeamlineError)(first["sentence"])
    rank = next(rank for rank, code in enumerate(codes) if code)
    return SeamlineError(
        f"train: process {rank + 1} of {len(codes)} ended with code {codes[rank]}; {log_file(folder, rank)} says why."
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
