"""Vectors of length 1, and the ones nearest to a query: their similarity is the cosine, which is their product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from usearch.index import MetricKind
from usearch.index import search as usearch_search

from seamline.base.errors import SeamlineError

Vectors = npt.NDArray[np.float32]  # (n, dimension), rows of length 1
Stored = npt.NDArray[np.float16]  # the same as a catalogue has them
Rows = npt.NDArray[np.int64]
# Of a stored vector's neighbours more are asked for than are wanted: equal ones may come in any order.
SPARE = 16
MOST_AT_ONCE = 2048  # neighbours; for more all products are made and sorted
BLOCK = 16_384  # rows whose products are made at once


def checked(vectors: npt.ArrayLike, dimension: int, what: str) -> Vectors:
    """Queries, or what is to be stored, as (n, dimension) of length 1.

    Raises:
        SeamlineError: when they have another form, or one is not a number or has no length.
    """
    try:
        array = np.atleast_2d(np.asarray(vectors))
    except (ValueError, TypeError) as error:
        raise SeamlineError(f"{what}: cannot be read as vectors of {dimension} numbers ({error}).") from None
    if array.ndim != 2 or array.shape[1] != dimension or array.dtype.kind not in "fiu":
        raise SeamlineError(f"{what}: has the form {array.dtype} {array.shape}; {dimension} numbers are needed.")
    with np.errstate(over="ignore", invalid="ignore"):
        found = array.astype(np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0))[:, 0])
    if len(bad):
        raise SeamlineError(
            f"{what}: vector {bad[0] + 1} has no direction: its numbers are all 0, or one is not finite."
        )
    made: Vectors = found / lengths
    return made


def read_vectors(path: Path, dimension: int, count: int) -> Stored:
    """A catalogue's vectors, which stay on the disk until they are looked at.

    Raises:
        SeamlineError: when they are not those that the catalogue says it has.
    """
    try:
        found = np.load(path, mmap_mode="r" if count else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SeamlineError(f"{path}: cannot be read as vectors ({error}).") from None
    if found.shape != (count, dimension) or found.dtype != np.float16:
        raise SeamlineError(
            f"{path}: has {found.dtype} {found.shape}, and the catalogue says float16 {(count, dimension)}."
        )
    return found  # type: ignore[no-any-return]


def nearest(
    stored: Stored, query: Vectors, k: int, threads: int, allowed: Rows | None = None
) -> tuple[Rows, npt.NDArray[np.float32]]:
    """The k rows of the highest similarity to one query, best first, equal ones by row; and these similarities.

    Every row is looked at.

    Args:
        k: at most as many rows as there are come back.
        threads: that work on it.
        allowed: the rows that count, in order; None: all. They are looked at block by block, in one place of memory.
    """
    if allowed is None:
        return nearest_of_all(stored, query, k, threads)
    place = np.empty((min(BLOCK, len(allowed)), stored.shape[1]), np.float16)
    rows, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for start in range(0, len(allowed), BLOCK):
        own = allowed[start : start + BLOCK]
        # clip, since with raise numpy makes a copy of its own.
        part = np.take(stored, own, axis=0, out=place[: len(own)], mode="clip")
        found, similarity = nearest_of_all(part, query, k, threads)
        rows.append(own[found])
        scores.append(similarity)
    all_rows, all_scores = ranked(np.concatenate(rows), np.concatenate(scores))
    return all_rows[:k], all_scores[:k]


def nearest_of_all(stored: Stored, query: Vectors, k: int, threads: int) -> tuple[Rows, npt.NDArray[np.float32]]:
    k = min(k, len(stored))
    if not k:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    wanted = k + SPARE
    # The query is rounded as the vectors are, so that a vector is most similar to itself.
    rounded = query.astype(np.float16)
    while wanted < min(len(stored), MOST_AT_ONCE):
        found = usearch_search(stored, rounded[None], wanted, MetricKind.IP, exact=True, threads=threads)
        rows = np.asarray(found.keys, np.int64).ravel()
        rows, scores = ranked(rows, similarities(stored[rows], rounded))
        if scores[k - 1] > scores[-1] + 1e-4:  # no equal one is left out
            return rows[:k], scores[:k]
        wanted *= 4
    rows, scores = ranked(np.arange(len(stored)), similarities(stored, rounded))
    return rows[:k], scores[:k]


def similarities(stored: Stored, query: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """The similarity of every row to one query, added up in f32."""
    query = query.astype(np.float32)
    parts = [
        np.einsum("ij,j->i", stored[start : start + BLOCK].astype(np.float32), query)
        for start in range(0, len(stored), BLOCK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def ranked(rows: Rows, scores: npt.NDArray[np.float32]) -> tuple[Rows, npt.NDArray[np.float32]]:
    order = np.lexsort((rows, -scores))
    return rows[order], scores[order]
