"""A budget of pixels for images that are decoded at the same time, so that memory does not grow with threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Decoded, and turned upright, they take up to 600 MB.
PIXELS_UNDER_WAY = 100_000_000


class PixelBudget:
    """At most `limit` pixels are under way at once; an image of more than that is, alone."""

    def __init__(self, limit: int = PIXELS_UNDER_WAY) -> None:
        self.limit = limit
        self._under_way = 0
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # first come, first served: a large image is not overtaken for ever

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for an image of this many pixels, and hold it until the block ends."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._under_way or self._under_way + pixels <= self.limit)
            self._under_way += pixels
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= pixels
                self._changed.notify_all()
