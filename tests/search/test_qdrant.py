"""A catalogue on a Qdrant server answers as the one in a folder; see qdrant_server.py for what stands in for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamline.base.errors import SeamlineError
from seamline.search.catalogue import Catalogue, open_catalogue
from seamline.search.filters import Filters
from seamline.search.qdrant import QdrantCatalogue, connect, push
from tests.search.made import directions, entry, write
from tests.search.qdrant_server import Stored, qdrant_server
from tests.search.stand_in import StandIn

ODD = ["id", "col.our", 'na"me', "x[0]", "größe"]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Stored]]:
    with qdrant_server() as found:
        yield found


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    vectors = directions(600)
    entries = [
        entry(
            f"{number:03d}.jpg",
            vectors[2 * number : 2 * number + 2],
            ["top", "trousers"],
            [f"{name}={number % 4}" if number % 7 else None for name in ODD],
            split=["train", "val", None][number % 3],
        )
        for number in range(300)
    ]
    for number, one in enumerate(entries):
        one.garments[0].attributes = {"neck": "v" if number % 2 else "round", "sleeve": "v"}
    folder = tmp_path_factory.mktemp("qdrant") / "catalogue"
    write(folder, entries, ODD, embedder_identity=StandIn(8).identity)
    with open_catalogue(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def remote(server: tuple[str, Stored], catalogue: Catalogue) -> Iterator[QdrantCatalogue]:
    url, _ = server
    assert push(connect(url), "garments", url, catalogue) == 600
    with QdrantCatalogue(connect(url), "garments", url, StandIn(8)) as opened:
        yield opened


FILTERS = [
    Filters(),
    Filters({"trousers"}),
    *(Filters(columns={name: {f"{name}=1", f"{name}=2"}}) for name in ODD),
    Filters({"top"}, {"split": {"val"}, "größe": {"größe=3"}}),
    Filters(attributes={"neck": {"v"}}),
    Filters(attributes={"neck": {"v"}, "sleeve": {"nothing"}}),
    Filters(columns={"photo": {"004.jpg", "005.jpg"}}),
]


@pytest.mark.parametrize("filters", FILTERS)
def test_answers_are_those_of_the_catalogue_in_the_folder(
    remote: QdrantCatalogue, catalogue: Catalogue, filters: Filters
) -> None:
    queries = directions(5, seed=3)
    for found, right in zip(remote.search(queries, 8, filters), catalogue.search(queries, 8, filters), strict=True):
        assert [match.id for match in found] == [match.id for match in right]
        for one, other in zip(found, right, strict=True):
            assert one.similarity == pytest.approx(other.similarity, abs=2e-3)
            assert (one.columns, one.attributes, one.box) == (other.columns, other.attributes, other.box)


def test_the_lowest_similarity_and_photos_left_out(remote: QdrantCatalogue, catalogue: Catalogue) -> None:
    [row] = [row for row in catalogue.rows_with_id("010.jpg") if row.number == 1]
    query = catalogue.vectors_of([row.row])
    assert remote.search(query, 1)[0][0].id == "010.jpg#1"
    assert "010.jpg" not in {match.photo for match in remote.search(query, 600, None, without_photos=["010.jpg"])[0]}
    assert [match.id for match in remote.search(query, 50, min_score=0.9999)[0]] == ["010.jpg#1"]


def test_another_embedder_and_a_class_that_is_not_there_are_refused(
    remote: QdrantCatalogue, server: tuple[str, Stored]
) -> None:
    url, _ = server
    with pytest.raises(SeamlineError, match="which cannot be compared"):
        QdrantCatalogue(connect(url), "garments", url, StandIn(8, seed=1))
    with pytest.raises(SeamlineError, match="the catalogue has no class 'hat'"):
        remote.search(directions(1), 3, Filters({"hat"}))
    with pytest.raises(SeamlineError, match="the catalogue has no column 'price'"):
        remote.search(directions(1), 3, Filters(columns={"price": {"1"}}))


def test_what_is_sent_again_takes_the_place_of_the_old_and_until_then_the_old_one_answers(
    tmp_path: Path, server: tuple[str, Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, stored = server
    monkeypatch.setattr("seamline.search.qdrant.AT_ONCE", 32)
    identity: dict[str, Any] = {"embedder_identity": StandIn(8).identity}
    write(tmp_path / "old", [entry(f"old{number}.jpg", directions(1, seed=number)) for number in range(40)], **identity)
    write(tmp_path / "new", [entry(f"new{number}.jpg", directions(1, seed=number)) for number in range(90)], **identity)

    def photos() -> set[str]:
        with QdrantCatalogue(connect(url), "shop", url) as opened:
            return {match.photo[:3] for match in opened.search(directions(1), 1000, duplicates=None)[0]}

    with open_catalogue(tmp_path / "old") as old, open_catalogue(tmp_path / "new") as new:
        push(connect(url), "shop", url, old)
        for more in (5, 6, 7, 8):  # cut at several moments
            stored.fail_after = len(stored.requests) + more
            with pytest.raises(SeamlineError, match="the request to the Qdrant server failed"):
                push(connect(url), "shop", url, new)
            stored.fail_after = None
            assert photos() == {"old"}
        assert push(connect(url), "shop", url, new) == 90
        assert photos() == {"new"}
        assert push(connect(url), "shop", url, new) == 90


def test_a_server_that_is_not_there_or_has_no_catalogue_is_one_sentence(server: tuple[str, Stored]) -> None:
    url, _ = server
    with pytest.raises(SeamlineError, match="has no catalogue 'nothing'; seamline catalogue push sends one there"):
        QdrantCatalogue(connect(url), "nothing", url)
    with pytest.raises(SeamlineError, match=r"http://127.0.0.1:9: the request to the Qdrant server failed"):
        QdrantCatalogue(connect("http://127.0.0.1:9"), "garments", "http://127.0.0.1:9")


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(SeamlineError, match="needs qdrant_client, which is not installed; the extra qdrant brings it"):
        connect("http://localhost:6333")


def test_nearly_the_same_pictures_are_one_answer(tmp_path: Path, server: tuple[str, Stored]) -> None:
    url, _ = server
    near = directions(1, seed=5)[0]
    copies = np.stack([near + 0.002 * directions(1, seed=number)[0] for number in range(6)])
    write(tmp_path / "copies", [entry("copies.jpg", copies), entry("far.jpg", directions(3, seed=8))])
    with open_catalogue(tmp_path / "copies") as own:
        push(connect(url), "copies", url, own)
        with QdrantCatalogue(connect(url), "copies", url) as remote:
            found, right = remote.search(near, 3)[0], own.search(near, 3)[0]
    assert len(found[0].duplicates) == len(right[0].duplicates) == 5
    assert [match.photo for match in found] == ["copies.jpg", "far.jpg", "far.jpg"]
