"""A catalogue is searched exactly, whatever its classes and columns are called; nothing in its folder is written."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamline.base.errors import SeamlineError
from seamline.search.catalogue import Catalogue, open_catalogue
from seamline.search.catalogue_facts import CatalogueFacts
from seamline.search.filters import Filters
from seamline.search.table import Table
from tests.search.made import directions, entry, write
from tests.search.stand_in import StandIn

ODD = ["id", "photo", "row", "c1", 'na"me', "x'); DROP TABLE garments; --", "farbe größe", "Row"]


@pytest.fixture
def catalogue(tmp_path: Path) -> Any:
    """60 photos with two garments each; columns of odd names."""
    vectors = directions(120)
    classes = ["top", "trousers'; --"]
    entries = [
        entry(
            f"{number:02d}.jpg",
            vectors[2 * number : 2 * number + 2],
            classes,
            [f"{name}={number % 3}" for name in ODD],
            split=["train", "val", None][number % 3],
        )
        for number in range(60)
    ]
    detector = {"sha256": "b", "names": [*classes, "skirt"], "confidence": 0.25, "people_first": False}
    write(tmp_path / "catalogue", entries, ODD, detector=detector)
    with open_catalogue(tmp_path / "catalogue", threads=2) as opened:
        yield opened


def by_hand(catalogue: Catalogue, query: Any, keep: Any, k: int) -> list[str]:
    """Ids by a product of all vectors."""
    rows = [row for row in catalogue.table.rows_at(list(range(120))) if keep(row)]
    products = catalogue.vectors_of([row.row for row in rows]) @ query.astype(np.float16).astype(np.float32)
    return [rows[index].id for index in np.argsort(-products, kind="stable")[:k]]


def test_answers_are_the_most_similar_garments(catalogue: Catalogue) -> None:
    for query in directions(10, seed=1):
        [found] = catalogue.search(query, 7, duplicates=None)
        assert [match.id for match in found] == by_hand(catalogue, query, lambda row: True, 7)
        assert all(one.similarity >= other.similarity for one, other in itertools.pairwise(found))


@pytest.mark.parametrize("column", range(len(ODD)))
def test_filters_are_exact_whatever_columns_are_called(catalogue: Catalogue, column: int) -> None:
    name, query = ODD[column], directions(1, seed=2)[0]
    value = f"{name}=2"
    [found] = catalogue.search(query, 100, Filters(columns={name: {value}}), duplicates=None)
    assert [match.id for match in found] == by_hand(catalogue, query, lambda row: row.values[column] == value, 100)
    assert len(found) == 40
    assert {match.columns[name] for match in found} == {value}


def test_conditions_hold_together_and_values_are_alternatives(catalogue: Catalogue) -> None:
    query = directions(1, seed=3)[0]
    filters = Filters({"trousers'; --"}, {"split": {"train", "val"}, "farbe größe": {"farbe größe=1", "nothing"}})
    [found] = catalogue.search(query, 100, filters, duplicates=None)
    assert len(found) == 20
    assert {(match.class_name, match.split) for match in found} == {("trousers'; --", "val")}
    assert catalogue.search(query, 5, Filters({"skirt"})) == [[]]


def test_attributes_are_filtered_by_name_and_value(tmp_path: Path) -> None:
    entries = [entry(f"{number}.jpg", directions(1, seed=number)) for number in range(6)]
    for number, one in enumerate(entries):
        one.garments[0].attributes = {"neck": "v" if number % 2 else "round", "sleeve": "v"}
    write(tmp_path / "catalogue", entries)
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        [found] = catalogue.search(directions(1)[0], 10, Filters(attributes={"neck": {"v"}}))
        assert sorted(match.photo for match in found) == ["1.jpg", "3.jpg", "5.jpg"]
        assert found[0].attributes == {"neck": "v", "sleeve": "v"}


def test_a_class_or_column_that_is_not_there_is_said(catalogue: Catalogue) -> None:
    with pytest.raises(SeamlineError, match="the catalogue has no class 'hat'; it has skirt, top, trousers'; --"):
        catalogue.search(directions(1), 3, Filters({"hat"}))
    with pytest.raises(
        SeamlineError, match="the catalogue has no column 'price'; it has id, photo, row, c1 and 5 more"
    ):
        catalogue.search(directions(1), 3, Filters(columns={"price": {"1"}}))
    with pytest.raises(SeamlineError, match="the catalogue has no attribute 'neck'; it has none"):
        catalogue.search(directions(1), 3, Filters(attributes={"neck": {"round"}}))


def test_a_text_is_one_value_and_what_is_not_text_is_refused(catalogue: Catalogue) -> None:
    one, many = Filters("top", {"id": "id=1"}), Filters({"top"}, {"id": {"id=1"}})
    assert catalogue.search(directions(1), 50, one) == catalogue.search(directions(1), 50, many) != [[]]
    assert Filters(columns={"a": {"b", "a"}}).columns == {"a": ("a", "b")}
    with pytest.raises(SeamlineError, match="the filter sku: 17 is not text, and a catalogue's values are; write '17'"):
        Filters(columns={"sku": [17, "18"]})  # type: ignore[list-item]
    with pytest.raises(SeamlineError, match="the filters have 10,001 values; at most 10,000"):
        Filters(columns={"a": map(str, range(6000)), "b": map(str, range(4001))})  # type: ignore[dict-item]
    most = Filters(columns={"id": list(map(str, range(4999))), "c1": list(map(str, range(5000)))}, classes={"top"})
    assert catalogue.search(directions(1), 3, most) == [[]]


def test_words_that_are_not_unicode_are_refused(catalogue: Catalogue) -> None:
    """As a command line has them."""
    for ask in (
        lambda: catalogue.crop("\udcff"),
        lambda: catalogue.rows_with_id("\udcff"),
        lambda: catalogue.search(directions(1), 3, Filters(columns={"id": {"\udcff"}})),
    ):
        with pytest.raises(SeamlineError, match=r"'\\udcff' is not Unicode, so nothing in a catalogue is called that"):
            ask()


def test_k_and_the_lowest_similarity(catalogue: Catalogue) -> None:
    query = directions(1, seed=4)[0]
    assert len(catalogue.search(query, 5000, duplicates=None)[0]) == 120
    [every] = catalogue.search(query, 120, duplicates=None)
    limit = every[10].similarity
    [found] = catalogue.search(query, 120, min_score=limit - 1e-6, duplicates=None)
    assert [match.id for match in found] == [match.id for match in every[:11]]
    for k in (0, -1, 10_001):
        with pytest.raises(SeamlineError, match="from 1 to 10,000"):
            catalogue.search(query, k)


def test_vectors_without_a_direction_and_of_another_length_are_refused(catalogue: Catalogue) -> None:
    with pytest.raises(SeamlineError, match="no direction"):
        catalogue.search([[float("nan")] * 8], 3)
    with pytest.raises(SeamlineError, match="8 numbers are needed"):
        catalogue.search(np.ones((1, 9)), 3)
    with pytest.raises(SeamlineError, match="cannot be read as vectors of 8 numbers"):
        catalogue.search([[1.0] * 8, [1.0]], 3)
    assert catalogue.search(np.zeros((0, 8)), 3) == []


def test_a_similarity_is_at_most_1(tmp_path: Path) -> None:
    vectors = directions(50, 8)
    write(tmp_path / "catalogue", [entry("a.jpg", vectors)])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        own = catalogue.stored.astype(np.float32)
        assert (own**2).sum(axis=1).max() > 1.00001  # rounding made them longer
        found = [catalogue.search(vector, 1)[0][0].similarity for vector in own]
        assert max(found) == 1.0 and min(found) > 0.999
        [opposite] = catalogue.search(-own[0], 50, duplicates=None)
        similar = [match.similarity for match in opposite]
        assert similar == pytest.approx(sorted(-own @ own[0], reverse=True), abs=1e-3)
        assert similar[-1] >= -1


def test_limits_are_reached_by_what_is_equal_to_them(tmp_path: Path) -> None:
    axes = np.eye(8, dtype=np.float32)
    write(tmp_path / "catalogue", [entry("a.jpg", axes[[0, 0, 1]])])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        [found] = catalogue.search(axes[0], 3, min_score=1.0, duplicates=1.0)
        assert [(match.id, match.duplicates) for match in found] == [("a.jpg#1", ["a.jpg#2"])]


def test_what_is_like_a_duplicate_alone_is_an_answer(tmp_path: Path) -> None:
    """Three in a row, each nearly the one before it, are not one picture."""
    angles = np.array([0.0, 0.15, 0.3])
    row = np.zeros((3, 8), np.float32)
    row[:, 0], row[:, 1] = np.cos(angles), np.sin(angles)
    write(tmp_path / "catalogue", [entry("a.jpg", row)])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        [found] = catalogue.search(row[0], 3)
        assert [(match.id, match.duplicates) for match in found] == [("a.jpg#1", ["a.jpg#2"]), ("a.jpg#3", [])]


def test_facts_vectors_and_table_are_of_one_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although another takes its place between them."""
    folder = tmp_path / "catalogue"
    swapped: list[CatalogueFacts] = []
    write(folder, [entry("old.jpg", directions(3))])

    def open_late(path: Path, columns: list[str]) -> Table:
        if not swapped:
            swapped.append(write(folder, [entry("new.jpg", directions(3, seed=1))]))
        return Table(path, columns)

    monkeypatch.setattr("seamline.search.catalogue.Table", open_late)
    with open_catalogue(folder) as catalogue:
        assert [catalogue.facts] == swapped


def test_nearly_the_same_pictures_are_one_answer(tmp_path: Path) -> None:
    far, near = directions(30), directions(1, seed=9)[0]
    copies = [near + 0.002 * directions(1, seed=number)[0] for number in range(40)]
    entries = [entry(f"copy{number:02d}.jpg", one[None]) for number, one in enumerate(copies)]
    entries += [entry(f"far{number:02d}.jpg", one[None]) for number, one in enumerate(far)]
    write(tmp_path / "catalogue", entries)
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        [found] = catalogue.search(near, 4)
        assert len(found) == 4
        assert found[0].photo.startswith("copy")
        assert not any(match.photo.startswith("copy") for match in found[1:])
        assert len(found[0].duplicates) == 39
        assert {one[:4] for one in found[0].duplicates} == {"copy"}
        assert len([match for match in catalogue.search(near, 41, duplicates=None)[0] if "copy" in match.id]) == 40


def test_photos_can_be_left_out(catalogue: Catalogue) -> None:
    [row] = catalogue.rows_with_id("07.jpg#1")
    query = catalogue.vectors_of([row.row])
    assert catalogue.search(query, 1)[0][0].id == "07.jpg#1"
    [found] = catalogue.search(query, 120, duplicates=None, without_photos=["07.jpg"])
    assert len(found) == 118
    assert "07.jpg" not in {match.photo for match in found}
    [found] = catalogue.search(query, 120, Filters("top"), duplicates=None, without_photos=["07.jpg"])
    assert len(found) == 59
    assert {match.class_name for match in found} == {"top"}


def test_a_photos_name_is_not_the_id_of_a_picture(tmp_path: Path) -> None:
    made = entry("a.jpg", directions(2))
    made.garments[0].crop = b"jpeg"
    write(tmp_path / "catalogue", [made])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        assert [catalogue.crop(name) for name in ("a.jpg#1", "a.jpg#2", "a.jpg#3", "a.jpg")] == [b"jpeg", b"", b"", b""]


def test_an_empty_catalogue_has_no_answer(tmp_path: Path) -> None:
    write(tmp_path / "catalogue", [entry("a.jpg", np.zeros((0, 8)))])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        assert catalogue.search(directions(2), 3) == [[], []]
        assert catalogue.search(directions(1), 3, Filters({"top"})) == [[]]
        assert (catalogue.facts.photos, catalogue.facts.garments) == (1, 0)


def test_threads_get_what_one_gets(catalogue: Catalogue) -> None:
    queries = directions(64, seed=5)
    filters = [None, Filters({"top"}), Filters(columns={"id": {"id=1"}})]

    def ask(index: int) -> list[str]:
        [found] = catalogue.search(queries[index], 5, filters[index % 3])
        return [match.id for match in found]

    alone = [ask(index) for index in range(64)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(64))) == alone


def test_links_to_read_only_files_are_opened_and_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path / "cache", [entry("a.jpg", directions(3))])
    linked = tmp_path / "data" / "cata?logue #1%41"
    linked.mkdir(parents=True)
    for path in (tmp_path / "cache").iterdir():
        path.chmod(0o444)
        (linked / path.name).symlink_to(path)
    linked.chmod(0o555)
    before = {path.name: path.stat().st_mtime_ns for path in linked.iterdir()}
    with open_catalogue(linked) as catalogue:
        assert len(catalogue.search(directions(1), 3, Filters({"top"}))[0]) == 3
    assert {path.name: path.stat().st_mtime_ns for path in linked.iterdir()} == before


def test_another_embedder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    embedder = StandIn(8)
    write(tmp_path / "catalogue", [entry("a.jpg", directions(1))], embedder_identity=embedder.identity)
    open_catalogue(tmp_path / "catalogue", embedder).close()
    with pytest.raises(SeamlineError, match=r"its vectors are of the embedder stand-in .* which cannot be compared"):
        open_catalogue(tmp_path / "catalogue", StandIn(8, seed=1))


def test_what_is_not_a_catalogue_is_said(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match=r"has no catalogue\.json"):
        open_catalogue(tmp_path / "nothing")
    folder = tmp_path / "catalogue"
    write(folder, [entry("a.jpg", directions(1))])
    (folder / "garments.sqlite").write_bytes(b"not SQLite" * 100)
    with pytest.raises(SeamlineError, match="cannot be read as the table of a catalogue"):
        open_catalogue(folder)
    (folder / "catalogue.json").write_text("{}")
    with pytest.raises(SeamlineError, match="does not describe a catalogue"):
        open_catalogue(folder)
    (folder / "catalogue.json").write_text('{"version": 7, "garments": "what will be"}')
    with pytest.raises(SeamlineError, match="is of version 7, and this Seamline reads version 1"):
        open_catalogue(folder)
    (folder / "catalogue.json").unlink()
    (folder / "catalogue.json").mkdir()
    with pytest.raises(SeamlineError, match=r"catalogue\.json: cannot be read"):
        open_catalogue(folder)


def test_a_table_of_another_catalogue_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one", [entry("a.jpg", directions(3))])
    for name, change in {
        "fewer": "DELETE FROM garments WHERE row = 2",
        "more": "INSERT INTO garments SELECT row + 1, id || 'x', photo, 9, class, 0, 0, 9, 9, 1, NULL, NULL "
        "FROM garments WHERE row = 2",
        "other rows": "UPDATE garments SET row = 7 WHERE row = 2",
    }.items():
        shutil.copytree(tmp_path / "one", tmp_path / name)
        connection = sqlite3.connect(tmp_path / name / "garments.sqlite")
        connection.execute(change)
        connection.commit()
        connection.close()
        with pytest.raises(SeamlineError, match=r"has \d garments, and the catalogue says 3; it is damaged"):
            open_catalogue(tmp_path / name)
    connection = sqlite3.connect(tmp_path / "one" / "garments.sqlite")
    connection.execute("DELETE FROM photos")
    connection.commit()
    connection.close()
    with (
        open_catalogue(tmp_path / "one") as catalogue,
        pytest.raises(SeamlineError, match=r"has no row \d; the catalogue is damaged"),
    ):
        catalogue.search(directions(1), 3)


def test_a_catalogue_stays_what_it_was_when_another_takes_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "catalogue"
    write(folder, [entry("old.jpg", directions(2))])
    with open_catalogue(folder) as catalogue:
        write(folder, [entry("new.jpg", directions(5, seed=1))])
        assert {match.photo for match in catalogue.search(directions(1), 9)[0]} == {"old.jpg"}
    with open_catalogue(folder) as catalogue:
        assert {match.photo for match in catalogue.search(directions(1), 9)[0]} == {"new.jpg"}


def test_after_close_and_in_a_fork_it_is_refused(catalogue: Catalogue) -> None:
    child = os.fork()
    if child == 0:
        try:
            catalogue.search(directions(1), 1)
        except SeamlineError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    catalogue.close()
    with pytest.raises(SeamlineError, match="the catalogue is closed"):
        catalogue.search(directions(1), 1)


def test_the_same_entries_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, [entry("a.jpg", directions(3), values=["x"])], ["colour"])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_large_catalogue_is_searched_by_its_graph_and_filtered_exactly(tmp_path: Path) -> None:
    vectors = directions(2000, 8)
    entries = [
        entry(f"{number}.jpg", one[None], ["top" if number % 50 else "skirt"]) for number, one in enumerate(vectors)
    ]
    detector = {"sha256": "b", "names": ["top", "skirt"], "confidence": 0.25, "people_first": False}
    facts = write(tmp_path / "graph", entries, hnsw_from=2000, detector=detector)
    assert facts.index == "hnsw"
    assert write(tmp_path / "exact", entries, hnsw_from=2001, detector=detector).index == "exact"
    with open_catalogue(tmp_path / "graph") as graph, open_catalogue(tmp_path / "exact") as exact:
        same = 0
        for query in directions(50, seed=7):
            [found], [right] = graph.search(query, 10), exact.search(query, 10)
            same += len({match.id for match in found} & {match.id for match in right})
            assert graph.search(query, 3, Filters({"skirt"})) == exact.search(query, 3, Filters({"skirt"}))
        assert same > 490


def test_a_graph_that_reaches_too_few_is_not_relied_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of many equal vectors may."""
    write(tmp_path / "graph", [entry("a.jpg", directions(300, 8))], hnsw_from=1)
    with open_catalogue(tmp_path / "graph") as catalogue:
        right = catalogue.search(directions(1, 8, 3), 40, duplicates=None)
        monkeypatch.setattr(catalogue.graph, "candidates", lambda query, count: np.arange(count - 1))
        assert catalogue.search(directions(1, 8, 3), 40, duplicates=None) == right


def test_what_is_written_comes_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where photos are added to a catalogue all that it has is written anew. Here some rows at a time."""
    monkeypatch.setattr("seamline.search.table.AT_ONCE", 3)
    whole = directions(1, seed=8)[0].astype(np.float16).tobytes()
    one = entry("a.jpg", directions(8), values=["red", None], split="val", vector=whole)
    for number, garment in enumerate(one.garments):
        garment.box, garment.score = (1.0, 2.0, 3.5, 9.0 + number), 0.25
        garment.mask, garment.person, garment.crop = f"mask {number}", number, b"jpeg %d" % number
        garment.attributes = {"neck": "v", "hem": str(number)}
    broken = entry("b.jpg", directions(2), reason="its vector is all zeros.")  # after its garments were found
    last = entry("c.jpg", directions(1, seed=3), values=[None, "x"])
    facts = write(tmp_path / "catalogue", [one, broken, last], ["c", "d"])
    assert facts.classes == {"top": 9, "trousers": 0}
    for name, said in (("vectors.npy", facts.vectors_sha256), ("garments.sqlite", facts.table_sha256)):
        assert said == hashlib.sha256((tmp_path / "catalogue" / name).read_bytes()).hexdigest()
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        found = list(catalogue.table.entries(catalogue.stored))
        assert found[:2] == [one, last]
        assert [(other.name, other.reason) for other in found[2:]] == [("b.jpg", broken.reason)]
        assert [row.attributes["hem"] for row in catalogue.rows_with_id("a.jpg")] == list("01234567")
        assert [row.row for row in catalogue.table.rows_at([5, 0, 8, 2])] == [5, 0, 8, 2]
        [match] = catalogue.search(directions(8)[4], 1)[0]
        assert (match.box, match.person, match.attributes) == ((1.0, 2.0, 3.5, 13.0), 4, {"neck": "v", "hem": "4"})


def test_two_photos_of_one_name_are_both_there(tmp_path: Path) -> None:
    first, other = entry("a.jpg", directions(1)), entry("a.jpg", directions(1, seed=1))
    other.photo = "0123456789"
    write(tmp_path / "catalogue", [first, other])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        [found] = catalogue.search(directions(1)[0], 2)
        assert sorted(match.id for match in found) == ["a.jpg (01234567)#1", "a.jpg#1"]
