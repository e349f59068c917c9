"""A model that is open in a process of its own, and answers one request after the other within a time limit."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from seamline.base.errors import SeamlineError
from seamline.base.process import end_with_parent
from seamline.inference.detector import Detector
from seamline.inference.threads import SPIN_COUNT, limit_other_threads


def serve(connection: Connection, open_detector: Callable[[], Detector], cores: list[int]) -> None:
    """An engine's process: answers one request after the other, and ends when the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it closes the pipe
    end_with_parent()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    limit_other_threads()
    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            detector = open_detector()
            while True:
                function, arguments = connection.recv()
                connection.send(function(detector, *arguments))
        except SeamlineError as error:
            connection.send(error)


class EngineProcess:
    """A model open in a process of its own.

    Attributes:
        name: the format, for messages.
        left_s: how much longer all requests together may take.
    """

    def __init__(self, name: str, open_detector: Callable[[], Detector], cores: list[int], timeout_s: float) -> None:
        self.name, self.timeout_s, self.left_s = name, timeout_s, timeout_s
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, open_detector, cores), daemon=True, name=name)
        with environment({"OMP_NUM_THREADS": str(len(cores)), "GOMP_SPINCOUNT": SPIN_COUNT}):
            self.process.start()
        theirs.close()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have function(detector, *arguments) called in the process, and wait for what it returns.

        Raises:
            SeamlineError: naming the format, when the process refuses, dies, or takes too long.
        """
        start = time.monotonic()
        try:
            self.connection.send((function, arguments))
            if not self.connection.poll(max(self.left_s, 0)):
                raise SeamlineError(
                    f"{self.name}: took longer than benchmark.timeout_s ({self.timeout_s:g} s) and was stopped; "
                    "raise benchmark.timeout_s, or take benchmark.profile quick."
                )
            answer = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(5)
            raise SeamlineError(
                f"{self.name}: its process ended by itself, exit code {self.process.exitcode} (-9: most likely out of "
                "memory); what it last printed is above. dvc repro -s benchmark tries again."
            ) from None
        self.left_s -= time.monotonic() - start
        if isinstance(answer, SeamlineError):
            raise SeamlineError(f"{self.name}: {answer}")
        return answer

    @property
    def id(self) -> int:
        return self.process.pid or 0

    def stop(self) -> None:
        """Close the pipe, on which the process ends; kill it when it is busy."""
        self.connection.close()
        self.process.join(2)
        self.process.kill()
        self.process.join()


@contextlib.contextmanager
def engine_processes() -> Iterator[list[EngineProcess]]:
    """A list for processes; all of them end with the block."""
    processes: list[EngineProcess] = []
    try:
        yield processes
    finally:
        for process in processes:
            process.stop()


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables inside the block, for processes started in it."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
