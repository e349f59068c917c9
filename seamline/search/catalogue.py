"""Catalogue: garments with their vectors, and a search for those that are similar.

Example:
    with open_catalogue(Path("data/catalogue"), embedder) as catalogue:
        [matches] = catalogue.search(embedder.embed(image, found)[:1], k=5, filters=Filters(classes={"trousers"}))
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from seamline.base.errors import SeamlineError
from seamline.base.parallel import usable_cores
from seamline.inference.lifetime import Lifetime
from seamline.search.approximate import Graph
from seamline.search.catalogue_facts import (
    FACTS,
    HNSW,
    INDEX,
    TABLE,
    VECTORS,
    CatalogueFacts,
    check_embedder,
    read_facts,
)
from seamline.search.filters import Filters
from seamline.search.table import Row, Table
from seamline.search.vectors import Rows, Stored, Vectors, checked, nearest, ranked, read_vectors, similarities

# Cosine of two vectors from which they are of one picture of a garment, as of a photo that was saved again or made
# smaller; docs/search.md has what was measured.
DUPLICATES = 0.98
MOST_MATCHES = 10_000
TRIES = 10  # of opening, while others write new catalogues in its place


class Match(msgspec.Struct):
    """An answer: a garment of the catalogue, and those that are nearly the same picture."""

    id: str
    photo: str
    number: int  # of the garment in its photo
    class_name: str
    similarity: float  # cosine, from -1 to 1
    box: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the photo
    score: float  # of the detection
    width: int  # of the photo
    height: int
    split: str | None  # which the photo was in when the detector was trained
    person: int | None
    columns: dict[str, str | None]
    attributes: dict[str, str]
    duplicates: list[str] = []  # their ids


class AnyEmbedder(Protocol):
    @property
    def identity(self) -> str: ...


class Catalogue:
    """Answers from any number of threads; what it was opened with stays, whatever takes its folder's place."""

    def __init__(self, folder: Path, facts: CatalogueFacts, stored: Stored, table: Table, threads: int) -> None:
        self.folder, self.facts, self.stored, self.table, self.threads = folder, facts, stored, table, threads
        self.graph = Graph(folder / INDEX, facts.garments) if facts.index == HNSW else None
        self._lifetime = Lifetime("catalogue")

    @property
    def columns(self) -> list[str]:
        """The user's."""
        return self.facts.columns

    @property
    def attributes(self) -> list[str]:
        """Names of those that a garment has."""
        return self.table.attribute_names

    @property
    def classes(self) -> list[str]:
        return list(self.facts.classes)

    def search(
        self,
        vectors: npt.ArrayLike,
        k: int = 10,
        filters: Filters | None = None,
        min_score: float | None = None,
        duplicates: float | None = DUPLICATES,
        without_photos: Collection[str] = (),
    ) -> list[list[Match]]:
        """For each vector the garments most similar to it, best first.

        Args:
            vectors: (n, dimension) or (dimension,), of any length.
            k: how many at most.
            filters: what an answer has to be.
            min_score: the lowest similarity.
            duplicates: of garments that are as similar as this to an answer none is an answer too, but named with it,
                if it is among the next ones; None: each is an answer.
            without_photos: names of photos whose garments are no answers, such as the one that is asked with.

        Raises:
            SeamlineError: for vectors of another length or without a direction, for a class or column that is not
                there, and after close().
        """
        self._lifetime.check()
        queries = checked_question(vectors, k, self.facts.dimension)
        allowed = self._allowed(filters or Filters(), without_photos)
        return [self._answers(query, k, allowed, min_score, duplicates) for query in queries]

    def similarities(self, vectors: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """(n, garments): of each vector to every garment; for measuring."""
        queries = checked(vectors, self.facts.dimension, "the vectors")
        shape = (len(queries), len(self.stored))
        return np.array([similarities(self.stored, query) for query in queries], np.float32).reshape(shape)

    def rows_with_id(self, identity: str) -> list[Row]:
        """The garment of an id, or the garments of a photo's name."""
        self._lifetime.check()
        return self.table.rows_with_id(identity)

    def garment(self, identity: str) -> Row | None:
        """The garment with this id."""
        return next((row for row in self.rows_with_id(identity) if row.id == identity), None)

    def vectors_of(self, rows: Sequence[int]) -> Vectors:
        return np.asarray(self.stored[list(rows)], np.float32)

    def crop(self, identity: str) -> bytes:
        """A small JPEG of the garment with this id; b"" where there is none."""
        found = self.garment(identity)
        return b"" if found is None else self.table.crop(found.row)

    def close(self) -> None:
        self._lifetime.end()
        self.table.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _allowed(self, filters: Filters, without_photos: Collection[str]) -> Rows | None:
        """The rows that may be answers; None: all."""
        allowed = self.table.rows_of(filters, self.classes) if filters else None
        if without_photos:
            others = self.table.rows_of_photos(without_photos)
            allowed = np.setdiff1d(np.arange(len(self.stored)) if allowed is None else allowed, others)
        return allowed

    def _answers(
        self, query: Vectors, k: int, allowed: Rows | None, min_score: float | None, duplicates: float | None
    ) -> list[Match]:
        room = len(self.stored) if allowed is None else len(allowed)
        wanted = k if duplicates is None else 4 * k
        while True:
            rows, scores = self._nearest(query, wanted, allowed)
            if min_score is not None:
                below = int(np.sum(scores >= min_score))
                rows, scores = rows[:below], scores[:below]
            groups = grouped(self.vectors_of(rows.tolist()), k, duplicates)
            if len(groups) == k or len(rows) < wanted or wanted >= room:
                break
            wanted *= 4
        known = {row.row: row for row in self.table.rows_at([int(rows[i]) for group in groups for i in group])}
        return [self._match([known[int(rows[i])] for i in group], float(scores[group[0]])) for group in groups]

    def _nearest(self, query: Vectors, wanted: int, allowed: Rows | None) -> tuple[Rows, npt.NDArray[np.float32]]:
        if self.graph is not None and allowed is None:
            wanted = min(wanted, len(self.stored))
            rows = self.graph.candidates(query, wanted)
            if len(rows) == wanted:
                return ranked(rows, similarities(self.stored[rows], query.astype(np.float16)))
            # Of many equal vectors a graph may reach some only.
        return nearest(self.stored, query, wanted, self.threads, allowed)

    def _match(self, group: Sequence[Row], similarity: float) -> Match:
        first = group[0]
        columns = dict(zip(self.columns, first.values, strict=True))
        duplicates = [row.id for row in group[1:]]
        similarity = min(max(similarity, -1.0), 1.0)  # of vectors that were rounded it may be a little more
        return Match(
            first.id, first.photo, first.number, first.class_name, round(similarity, 6), first.box, first.score,
            first.width, first.height, first.split, first.person, columns, first.attributes, duplicates,
        )  # fmt: skip


def checked_question(vectors: npt.ArrayLike, k: int, dimension: int) -> Vectors:
    """The vectors of a search for k garments each, as (n, dimension) of length 1.

    Raises:
        SeamlineError: for a k that is not allowed, and for vectors of another length or without a direction.
    """
    if not 1 <= k <= MOST_MATCHES:
        raise SeamlineError(f"{k} similar garments were asked for; from 1 to {MOST_MATCHES:,} can be.")
    return checked(vectors, dimension, "the vectors")


def check_asking(facts: CatalogueFacts, embedder: AnyEmbedder, where: Path | str) -> None:
    """Raises SeamlineError when the catalogue's vectors cannot be compared with those of this embedder."""
    own: Any = getattr(embedder, "facts", None)
    check_embedder(facts, embedder.identity, getattr(own, "name", "this embedder"), where)


def grouped(vectors: Vectors, k: int, duplicates: float | None) -> list[list[int]]:
    """Positions of the first k that differ from those before, each with the later ones that are nearly the same."""
    if duplicates is None:
        return [[position] for position in range(min(k, len(vectors)))]
    alike = vectors @ vectors.T >= duplicates
    groups: list[list[int]] = []
    for position in range(len(vectors)):
        group = next((group for group in groups if alike[group[0], position]), None)
        if group is not None:
            group.append(position)
        elif len(groups) < k:
            groups.append([position])
    return groups


def open_catalogue(folder: Path, embedder: AnyEmbedder | None = None, threads: int | None = None) -> Catalogue:
    """A catalogue to search in; nothing in its folder is written.

    Args:
        embedder: that makes the vectors of questions; None: the caller answers for these.
        threads: that work on a question; None: as many as there are cores.

    Raises:
        SeamlineError: when there is none, it is damaged, or its vectors are of another embedder.
    """
    for _ in range(TRIES):
        facts, stored, table = opened(folder)
        try:
            if embedder is not None:
                check_asking(facts, embedder, folder)
            catalogue = Catalogue(folder, facts, stored, table, threads or usable_cores())
        except BaseException:
            table.close()
            raise
        if catalogue.graph is None or read_facts(folder) == facts:
            return catalogue
        catalogue.close()  # the graph may be of the catalogue that has taken its place
    raise SeamlineError(f"{folder}: is being changed by other commands; try again later.")


def opened(folder: Path) -> tuple[CatalogueFacts, Stored, Table]:
    """Facts, vectors and table of one catalogue, although another may take its place in between."""
    for _ in range(TRIES):
        facts = read_facts(folder)
        failed: SeamlineError | None = None
        table = None
        try:
            table = Table(folder / TABLE, facts.columns)
            table.check_count(facts.garments)
            stored = read_vectors(folder / VECTORS, facts.dimension, facts.garments)
        except SeamlineError as error:
            failed = error
        if read_facts(folder) == facts:
            if failed is not None or table is None:
                raise failed or SeamlineError(f"{folder / FACTS}: cannot be read.")
            return facts, stored, table
        if table is not None:
            table.close()
    raise SeamlineError(f"{folder}: is being changed by other commands; try again later.")
