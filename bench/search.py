"""Search among many vectors: exactly, beside FAISS' flat index, and by the graph, beside exact search.

Vectors are drawn with 32 latent dimensions and noise, as embeddings have: among independent ones there are no
neighbours to find. Ids have to be those of FAISS, ties aside. Latencies are medians of questions asked one by one, in
turns. The graph is built in a process of its own, by one thread, whose time and memory are stated; it is kept in
.seamline/bench/search, since a million take half an hour.

Example: python -m bench.search                  # 10,000 and 100,000 vectors, some five minutes on 2 cores
         python -m bench.search --sizes 1000000 --graph-sizes 1000000
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import threadpoolctl

from bench.run import SCRATCH, show
from seamline.base.files import read_json, write_json
from seamline.search.approximate import Graph, build_graph
from seamline.search.vectors import nearest, ranked, similarities

DIMENSION, LATENT, NOISE = 512, 32, 0.2
QUESTIONS, TIMED, K = 200, 60, 10
AT_ONCE = 20_000
FOLDER = SCRATCH / "search"


def write_vectors(path: Path, count: int, seed: int) -> Any:
    """f16 vectors of length 1, (count, DIMENSION), as a catalogue has them."""
    if not path.exists():
        basis = np.random.default_rng(99).standard_normal((LATENT, DIMENSION)).astype(np.float32) / LATENT**0.5
        drawn = np.random.default_rng(seed)
        out = np.lib.format.open_memmap(path.with_suffix(".part"), "w+", np.float16, (count, DIMENSION))
        for start in range(0, count, AT_ONCE):
            size = min(AT_ONCE, count - start)
            block = drawn.standard_normal((size, LATENT), np.float32) @ basis
            block += NOISE * drawn.standard_normal((size, DIMENSION), np.float32)
            out[start : start + size] = block / np.linalg.norm(block, axis=1, keepdims=True)
        out.flush()
        path.with_suffix(".part").rename(path)
    return np.load(path, mmap_mode="r")


def by_faiss(stored: Any, queries: Any) -> tuple[Any, Any, Callable[[Any], object]]:
    """Ids and scores of a flat index, and how it is asked; of very many in parts, which are not timed."""
    index = faiss.IndexFlatIP(DIMENSION)
    for start in range(0, len(stored), AT_ONCE):
        index.add(stored[start : start + AT_ONCE].astype(np.float32))
    scores, rows = index.search(queries, K)
    return rows, scores, lambda query: index.search(query[None], K)


def in_turns(ways: Sequence[Callable[[Any], object]], queries: Any) -> list[float]:
    """The median of each way, in ms."""
    taken: list[list[float]] = [[] for _ in ways]
    for query in queries[:TIMED]:
        for way, own in zip(ways, taken, strict=True):
            start = time.perf_counter()
            way(query)
            own.append(1000 * (time.perf_counter() - start))
    return [round(statistics.median(own), 3) for own in taken]


def wrong_ids(found: Sequence[tuple[Any, Any]], rows: Any, scores: Any) -> int:
    """How many ids are others than FAISS', and not of the same similarity."""
    return sum(
        int(np.sum((own != right) & (np.abs(similar - score) > 2e-6)))
        for (own, similar), right, score in zip(found, rows, scores, strict=True)
    )


def exact_row(count: int, threads: int) -> dict[str, Any]:
    stored = np.asarray(write_vectors(FOLDER / f"{count}.npy", count, 0))
    queries = np.asarray(write_vectors(FOLDER / "questions.npy", QUESTIONS, 1), np.float32)
    rows, scores, ask_faiss = by_faiss(stored, queries)
    found = [nearest(stored, query, K, threads) for query in queries]
    ours, theirs = in_turns([lambda query: nearest(stored, query, K, threads), ask_faiss], queries)
    return {
        "wrong ids": wrong_ids(found, rows, scores),
        "ours p50 ms": ours,
        "faiss p50 ms": theirs,
        "ratio": round(ours / theirs, 3),
    }


def graph_row(count: int, threads: int) -> dict[str, Any]:
    path = FOLDER / f"{count}.npy"
    stored = np.asarray(write_vectors(path, count, 0))
    queries = np.asarray(write_vectors(FOLDER / "questions.npy", QUESTIONS, 1), np.float32)
    built = build_in_process(path)
    graph = Graph(path.with_suffix(".usearch"), count)

    def by_graph(query: Any) -> Any:
        rows = graph.candidates(query, 4 * K)
        return ranked(rows, similarities(stored[rows], query.astype(np.float16)))[0][:K]

    right = [set(nearest(stored, query, K, threads)[0].tolist()) for query in queries]
    recall = np.mean([len(own & set(by_graph(query).tolist())) / K for own, query in zip(right, queries, strict=True)])
    graph_ms, exact_ms = in_turns([by_graph, lambda query: nearest(stored, query, K, threads)], queries)
    return {
        "recall@10": round(float(recall), 4),
        "graph p50 ms": graph_ms,
        "exact p50 ms": exact_ms,
        "times": round(exact_ms / graph_ms, 1),
        **built,
    }


def build_in_process(path: Path) -> dict[str, Any]:
    """Time and memory of building, which are kept beside the graph."""
    facts = path.with_suffix(".json")
    if not facts.exists():
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "bench.search", "--build", path], check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        size = path.with_suffix(".usearch").stat().st_size / 1e6
        built = {"build s": round(time.perf_counter() - start), "build MiB": round(peak), "graph MB": round(size)}
        write_json(facts, built)
        return built
    return dict(read_json(facts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000], help="vectors, searched exactly")
    parser.add_argument("--graph-sizes", type=int, nargs="*", default=[10_000, 50_000], help="vectors, in a graph")
    parser.add_argument("--threads", type=int, default=2, help="of ours and of FAISS'")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.build:
        build_graph(np.load(args.build, mmap_mode="r"), args.build.with_suffix(".usearch"))
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    faiss.omp_set_num_threads(args.threads)
    threadpoolctl.threadpool_limits(args.threads)
    report: dict[str, Any] = {"vectors": f"{DIMENSION} numbers, {LATENT} latent dimensions and noise of {NOISE}"}
    report["exact"] = {f"{count:,} vectors": exact_row(count, args.threads) for count in args.sizes}
    report["graph"] = {f"{count:,} vectors": graph_row(count, args.threads) for count in args.graph_sizes}
    for title in ("exact", "graph"):
        if report[title]:
            show(f"search, {title}, {report['vectors']}", report[title])
    write_json(SCRATCH / "search.json", report)
    if any(row["wrong ids"] for row in report["exact"].values()):
        sys.exit("exact search found other ids than FAISS")


if __name__ == "__main__":
    main()
