"""A graph (HNSW) for catalogues in which looking at every vector takes too long."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from usearch.index import Index

from seamline.base.errors import SeamlineError
from seamline.base.files import whole_file
from seamline.search.vectors import Rows, Stored, Vectors

# Measured by bench/search.py: neighbours of a node, how many are looked at when one is added and when one is searched.
CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 16, 64, 640
AT_ONCE = 10_000


def build_graph(stored: Stored, path: Path) -> None:
    """Add all vectors, in their order and by one thread: several would make another graph each time."""
    graph = Index(
        ndim=stored.shape[1], metric="ip", dtype="f16", connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD
    )
    for start in range(0, len(stored), AT_ONCE):
        block = np.ascontiguousarray(stored[start : start + AT_ONCE])
        graph.add(np.arange(start, start + len(block), dtype=np.uint64), block, threads=1)
    with whole_file(path) as temporary:
        graph.save(str(temporary))


class Graph:
    """A graph that stays on the disk; safe from any number of threads, which take turns."""

    def __init__(self, path: Path, count: int) -> None:
        try:
            self._index = Index.restore(str(path), view=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise SeamlineError(f"{path}: cannot be read as an index ({error}).") from None
        if self._index is None or len(self._index) != count:
            raise SeamlineError(f"{path}: is not the index of this catalogue's {count:,} garments; make it again.")
        self._turn = threading.Lock()

    def candidates(self, query: Vectors, count: int) -> Rows:
        """Rows that are near one query, nearly always the nearest, in no order."""
        with self._turn:
            self._index.expansion_search = max(EXPANSION_SEARCH, 2 * count)
            found = self._index.search(query.astype(np.float16), count, threads=1)
        return np.asarray(found.keys, np.int64)
