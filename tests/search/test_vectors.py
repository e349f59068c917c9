"""The nearest vectors: those that FAISS finds when it looks at all of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from seamline.base.errors import SeamlineError
from seamline.search.approximate import Graph, build_graph
from seamline.search.vectors import checked, nearest, read_vectors
from tests.search.made import directions


def stored(count: int, dimension: int, seed: int = 0) -> Any:
    return directions(count, dimension, seed).astype(np.float16)


def flat(vectors: Any, queries: Any, k: int) -> tuple[Any, Any]:
    """FAISS, given the same numbers."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors.astype(np.float32))
    scores, rows = index.search(queries.astype(np.float16).astype(np.float32), k)
    return rows, scores


@pytest.mark.parametrize(("count", "dimension", "k"), [(1, 8, 1), (50, 16, 10), (3000, 512, 10), (5000, 33, 100)])
def test_ids_are_those_of_faiss(count: int, dimension: int, k: int) -> None:
    vectors, queries = stored(count, dimension), directions(20, dimension, seed=1)
    rows, scores = flat(vectors, queries, k)
    for query, *found in zip(queries, rows, scores, strict=True):
        own, similar = nearest(vectors, query, k, 2)
        np.testing.assert_allclose(similar, found[1], atol=2e-6)
        differ = own != found[0]  # ties aside: where ids differ their similarities are the same
        assert differ.mean() < 0.02
        np.testing.assert_allclose(similar[differ], found[1][differ], atol=2e-6)


@pytest.mark.parametrize("step", [1, 2, 7, 2999])
def test_of_some_rows_they_are_those_of_faiss_given_these(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr("seamline.search.vectors.BLOCK", 256)
    vectors, queries = stored(3000, 64), directions(10, 64, seed=1)
    vectors[2000:2040] = vectors[14]  # equal ones in several blocks
    allowed = np.arange(0, 3000, step)
    rows, scores = flat(vectors[allowed], queries, min(10, len(allowed)))
    for query, right, score in zip([*queries, vectors[14].astype(np.float32)], rows, scores, strict=False):
        own, similar = nearest(vectors, query, 10, 2, allowed)
        np.testing.assert_allclose(similar, score, atol=2e-6)
        differ = own != allowed[right]
        np.testing.assert_allclose(similar[differ], score[differ], atol=2e-6)
    own, _ = nearest(vectors, vectors[14].astype(np.float32), 10, 2, allowed)
    equal = [row for row in (14, *range(2000, 2040)) if row % step == 0][:10]
    assert own[: len(equal)].tolist() == equal


def test_of_no_rows_there_are_none() -> None:
    rows, scores = nearest(stored(7, 8), directions(1, 8)[0], 3, 1, np.zeros(0, np.int64))
    assert len(rows) == len(scores) == 0


def test_equal_vectors_come_by_row_however_many_there_are() -> None:
    one = directions(1, 16)
    vectors = np.concatenate([stored(300, 16, 1), np.repeat(one, 700, axis=0).astype(np.float16)])
    rows, scores = nearest(vectors, one[0], 12, 2)
    assert rows.tolist() == list(range(300, 312))
    assert scores == pytest.approx(1, abs=1e-3)


def test_no_more_than_there_are() -> None:
    vectors = stored(7, 8)
    rows, scores = nearest(vectors, directions(1, 8, 1)[0], 100, 1)
    assert sorted(rows.tolist()) == list(range(7))
    assert (np.diff(scores) <= 0).all()
    rows, scores = nearest(vectors[:0], directions(1, 8)[0], 5, 1)
    assert len(rows) == len(scores) == 0


def test_thousands_are_the_order_of_all() -> None:
    vectors, query = stored(4000, 8), directions(1, 8, 1)
    rows, _ = nearest(vectors, query[0], 3000, 2)
    products = vectors.astype(np.float64) @ query[0].astype(np.float16).astype(np.float64)
    assert np.all(np.diff(products[rows]) <= 1e-6)
    assert len(set(rows.tolist())) == 3000


def test_threads_find_what_one_finds() -> None:
    vectors, queries = stored(3000, 64), directions(40, 64, 1)
    alone = [nearest(vectors, query, 10, 1)[0].tolist() for query in queries]
    with ThreadPoolExecutor(8) as pool:
        beside = list(pool.map(lambda query: nearest(vectors, query, 10, 2)[0].tolist(), queries))
    assert beside == alone


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        ([[1, 2, float("nan")]], "vector 1 has no direction"),
        ([[1, 2, 3], [0, 0, 0]], "vector 2 has no direction"),
        ([[1, 2, float("inf")]], "vector 1 has no direction"),
        ([[1, 2]], "3 numbers are needed"),
        ([["a", "b", "c"]], "3 numbers are needed"),
        (np.zeros((2, 2, 3)), "3 numbers are needed"),
    ],
)
def test_what_is_not_a_vector_is_refused(vectors: Any, sentence: str) -> None:
    with pytest.raises(SeamlineError, match=sentence):
        checked(vectors, 3, "the vectors")


def test_vectors_have_length_1() -> None:
    assert checked([3, 0, 4], 3, "it").tolist() == [[pytest.approx(0.6), 0, pytest.approx(0.8)]]


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    np.save(path, stored(5, 8))
    assert read_vectors(path, 8, 5).shape == (5, 8)
    with pytest.raises(SeamlineError, match=r"has float16 \(5, 8\), and the catalogue says float16 \(6, 8\)"):
        read_vectors(path, 8, 6)
    np.save(tmp_path / "wide.npy", stored(5, 8).astype(np.float32))
    with pytest.raises(SeamlineError, match=r"has float32 \(5, 8\), and the catalogue says float16 \(5, 8\)"):
        read_vectors(tmp_path / "wide.npy", 8, 5)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(SeamlineError, match="cannot be read as vectors"):
        read_vectors(path, 8, 5)


def test_a_graph_finds_what_is_near_and_is_made_the_same_each_time(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    latent = drawn.normal(size=(3020, 6)).astype(np.float32) @ drawn.normal(size=(6, 32)).astype(np.float32)
    vectors = checked(latent, 32, "them").astype(np.float16)
    for name in ("one", "two"):
        build_graph(vectors[:3000], tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    graph = Graph(tmp_path / "one", 3000)
    rows, _ = flat(vectors[:3000], vectors[3000:], 10)
    found = [set(graph.candidates(query.astype(np.float32), 10).tolist()) for query in vectors[3000:]]
    recall = np.mean([len(own & set(right.tolist())) / 10 for own, right in zip(found, rows, strict=True)])
    assert recall > 0.98
    with pytest.raises(SeamlineError, match=r"is not the index of this catalogue's 2,999 garments"):
        Graph(tmp_path / "one", 2999)
    (tmp_path / "torn").write_bytes((tmp_path / "one").read_bytes()[:1000])
    with pytest.raises(SeamlineError, match="torn: "):
        Graph(tmp_path / "torn", 3000)
