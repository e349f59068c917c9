"""A catalogue written whole or not at all: the old one or the new one is there, whatever happens in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from seamline.base.files import flush, sha256_of, whole_folder
from seamline.search.approximate import build_graph
from seamline.search.catalogue_facts import EXACT, HNSW, INDEX, TABLE, VECTORS, CatalogueFacts, write_facts
from seamline.search.entries import Entry
from seamline.search.table import Counts, TableWriter
from seamline.search.vectors import read_vectors


class Makers(NamedTuple):
    """What a catalogue is made with, as its facts say it."""

    embedder: dict[str, Any]
    embedder_identity: str
    dimension: int
    detector: dict[str, Any]
    hnsw_from: int | None  # garments from which there is a graph


def write_catalogue(folder: Path, entries: Iterable[Entry], columns: Sequence[str], makers: Makers) -> CatalogueFacts:
    """Give `folder` a catalogue of these entries, in their order.

    Raises:
        OSError: when the disk is full; the folder is as it was.
    """
    classes = Counter({str(name): 0 for name in makers.detector["names"]})
    with whole_folder(folder) as out:
        counts = write_rows(out, entries, columns, makers.dimension, classes)
        index: Literal["exact", "hnsw"] = EXACT
        if makers.hnsw_from is not None and counts.garments >= max(makers.hnsw_from, 1):  # a graph has a node
            index = HNSW
            build_graph(read_vectors(out / VECTORS, makers.dimension, counts.garments), out / INDEX)
        facts = CatalogueFacts(
            makers.embedder,
            makers.embedder_identity,
            makers.detector,
            makers.dimension,
            list(columns),
            counts.photos,
            counts.garments,
            dict(sorted(classes.items())),
            counts.unusable,
            counts.photos_twice,
            index,
            sha256_of(out / VECTORS),
            sha256_of(out / TABLE),
        )
        flush(out / VECTORS)
        flush(out / TABLE)
        write_facts(out, facts)
    return facts


def write_rows(
    out: Path, entries: Iterable[Entry], columns: Sequence[str], dimension: int, classes: Counter[str]
) -> Counts:
    writer = TableWriter(out / TABLE, columns)
    try:
        with (out / VECTORS).open("wb") as stream:
            write_header(stream, 0, dimension)
            for entry in entries:
                writer.add(entry)
                if not entry.reason:
                    stream.write(b"".join(garment.vector for garment in entry.garments))
                    classes.update(garment.class_name for garment in entry.garments)
            counts = writer.finish()
            stream.seek(0)
            write_header(stream, counts.garments, dimension)
    finally:
        writer.close()
    return counts


def write_header(stream: IO[bytes], count: int, dimension: int) -> None:
    """numpy's, which leaves room for a larger count."""
    facts = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False}
    np.lib.format.write_array_header_1_0(stream, {**facts, "shape": (count, dimension)})


def placeless(entries: Iterable[Entry], unusable: list[tuple[str, str]]) -> Iterator[Entry]:
    """Entries without the stamps of their files, so that a catalogue's bytes are the same wherever it is made.

    Args:
        unusable: gets the names of photos that cannot be used, and why.
    """
    for entry in entries:
        entry.stamp = ""
        if entry.reason:
            unusable.append((entry.name, entry.reason))
        yield entry
