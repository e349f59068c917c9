"""Work spread over the processor's cores, results in the order of the work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from seamline.base.errors import SeamlineError
from seamline.base.process import end_with_parent

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[T], R], jobs: Iterable[T], processes: int) -> Iterator[R]:
    """Map over jobs in processes of their own, or in this one where one is enough. Processes end with their parent.

    Raises:
        SeamlineError: when a process was killed, most likely by the system for lack of memory.
    """
    if processes <= 1:
        yield from map(function, jobs)
        return
    waiting: deque[Future[R]] = deque()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(function, job))
                if len(waiting) > 2 * processes:  # so that a large dataset is not held as jobs all at once
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise SeamlineError("a process was killed, most likely for want of memory; run the stage again.") from None
        finally:
            pool.shutdown(cancel_futures=True)


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Map over items in threads, for work that leaves Python (decoding images); few are held at a time."""
    threads = usable_cores()
    waiting = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        while block := list(islice(waiting, 64 * threads)):
            yield from pool.map(function, block)
