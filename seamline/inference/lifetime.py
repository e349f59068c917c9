"""How long what holds an engine can be used: until it is closed, in the process that opened it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from seamline.base.errors import SeamlineError

R = TypeVar("R")


class Lifetime:
    def __init__(self, what: str) -> None:
        """
        Args:
            what: it is called in errors: detector.
        """
        self.what = what
        self._process = os.getpid()
        self._is_closed = False

    def check(self) -> None:
        """Raises SeamlineError after end(), or in another process."""
        if self._is_closed:
            raise SeamlineError(f"the {self.what} is closed; open the model again.")
        if os.getpid() != self._process:
            raise SeamlineError(
                f"the {self.what} was opened in process {self._process} and does not work in {os.getpid()}, a fork of "
                "it, which has none of its threads; open the model there."
            )

    def end(self) -> bool:
        """Whether threads are to be waited for: a fork has none."""
        self._is_closed = True
        return os.getpid() == self._process

    def later(self, pool: ThreadPoolExecutor, work: Callable[[], R]) -> Future[R]:
        """Raises SeamlineError after end(), or in another process, also where that came since the call began."""
        self.check()
        try:
            return pool.submit(work)
        except RuntimeError:
            self.check()  # closed meanwhile, by another thread
            raise
