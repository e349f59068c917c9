"""A catalogue of one's own: what is added is there, what is removed is not, and nothing in between is ever seen."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import msgspec
import pytest

from seamline.base.errors import SeamlineError
from seamline.photos.remote import Remote
from seamline.search.building import open_journal
from seamline.search.catalogue import open_catalogue
from seamline.search.changing import Added, add, check_makers, remove, tools_to_makers
from seamline.search.entries import Entry
from seamline.search.sources import csv_to_listing, words_to_listing
from tests.search.made import HalvesDetector, tools, write_photo, write_photos
from tests.search.process import SHA256
from tests.search.test_building import files_of, start


def add_photos(folder: Path, *words: Path) -> Added:
    return add(folder, words_to_listing([str(word) for word in words], Remote()), tools(), SHA256, None)


def photos_of(folder: Path) -> list[str]:
    with open_catalogue(folder) as catalogue:
        return [Path(name).name for _, name, *_ in catalogue.table.photos()]


def answers_of(folder: Path) -> list[tuple[str, float]]:
    with open_catalogue(folder) as catalogue:
        [found] = catalogue.search(catalogue.vectors_of([0]), 1000, duplicates=None)
        return [(match.id, match.similarity) for match in found]


def vectors_by_id(folder: Path) -> dict[str, list[float]]:
    with open_catalogue(folder) as catalogue:
        rows = catalogue.table.rows_at(range(catalogue.facts.garments))
        return {row.id: catalogue.stored[row.row].tolist() for row in rows}


def test_photos_are_added_and_removed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    write_photos(tmp_path / "a", 4)
    added = add_photos(own, tmp_path / "a")
    assert (added.new, added.changed, added.there, added.facts.garments) == (4, 0, 0, 8)
    write_photos(tmp_path / "b", 3, first=10)
    added = add_photos(own, tmp_path / "a", tmp_path / "b")
    assert (added.new, added.changed, added.there, added.facts.photos) == (3, 0, 4, 7)
    gone, facts = remove(own, [str(tmp_path / "a" / "002.png"), f"{tmp_path / 'b' / '010.png'}#2"])
    assert (gone, facts.photos, facts.garments) == (3, 6, 11)
    assert "002.png" not in photos_of(own)
    with open_catalogue(own) as catalogue:
        [row] = catalogue.rows_with_id(f"{tmp_path / 'b' / '010.png'}")
        assert catalogue.search(catalogue.vectors_of([row.row]), 1)[0][0].id == row.id
        assert row.number == 1
        assert catalogue.crop(row.id)[:2] == b"\xff\xd8"


def test_what_is_there_already_is_not_looked_at_again_and_what_changed_is(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "a", 5)
    add_photos(tmp_path / "own", tmp_path / "a")
    write_photo(photos[2], 77)
    ours = tools()
    added = add(tmp_path / "own", words_to_listing([str(tmp_path / "a")], Remote()), ours, SHA256, None)
    assert isinstance(ours.detector, HalvesDetector)
    assert ours.detector.looked_at == 1
    assert (added.new, added.changed, added.there) == (0, 1, 4)
    write_photos(tmp_path / "fresh", 5)
    write_photo(tmp_path / "fresh" / "002.png", 77)
    add_photos(tmp_path / "other", tmp_path / "fresh")
    similar = [score for _, score in answers_of(tmp_path / "own")]
    assert similar == pytest.approx([score for _, score in answers_of(tmp_path / "other")])


def test_the_order_of_adding_does_not_change_the_answers(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 6)
    write_photos(tmp_path / "b", 6, first=20)
    add_photos(tmp_path / "one", tmp_path / "a", tmp_path / "b")
    add_photos(tmp_path / "two", tmp_path / "a")
    add_photos(tmp_path / "two", tmp_path / "b")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_columns_come_from_tables_and_are_changed_without_looking_at_photos(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 3)
    table = tmp_path / "items.csv"
    table.write_text("photo,colour\na/000.png,red\na/001.png,blue\n")
    add(tmp_path / "own", csv_to_listing(table, None, Remote()), tools(), SHA256, None)
    table.write_text("photo,price,colour\na/001.png,12,green\na/002.png,9,\n")
    ours = tools()
    added = add(tmp_path / "own", csv_to_listing(table, None, Remote()), ours, SHA256, None)
    assert isinstance(ours.detector, HalvesDetector)
    assert (added.new, added.there, ours.detector.looked_at) == (1, 1, 1)
    with open_catalogue(tmp_path / "own") as catalogue:
        values = {name: own for _, name, _, _, own in catalogue.table.photos()}
        assert catalogue.columns == ["colour", "price"]
        assert values == {"a/000.png": ("red", None), "a/001.png": ("green", "12"), "a/002.png": (None, "9")}


def test_a_photo_that_could_not_be_used_is_tried_again(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 2)
    (tmp_path / "a" / "z.png").write_bytes(b"not yet")
    assert [Path(name).name for name, _ in add_photos(tmp_path / "own", tmp_path / "a").unusable] == ["z.png"]
    write_photo(tmp_path / "a" / "z.png", 5)
    added = add_photos(tmp_path / "own", tmp_path / "a")
    assert (added.new, added.there, added.unusable, added.facts.unusable) == (1, 2, [], 0)


def test_what_could_not_be_used_can_be_removed_from_the_list(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 1)
    (tmp_path / "a" / "z.png").write_bytes(b"not yet")
    assert add_photos(tmp_path / "own", tmp_path / "a").facts.unusable == 1
    assert remove(tmp_path / "own", [str(tmp_path / "a" / "z.png")])[1].unusable == 0


def test_a_photo_that_is_gone_or_broken_keeps_what_the_catalogue_has_of_it(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 3)
    table = tmp_path / "items.csv"
    table.write_text("photo,colour\na/000.png,red\na/001.png,blue\na/002.png,green\n")
    add(tmp_path / "own", csv_to_listing(table, None, Remote()), tools(), SHA256, None)
    before = vectors_by_id(tmp_path / "own")
    (tmp_path / "a" / "000.png").unlink()
    (tmp_path / "a" / "001.png").write_bytes(b"torn")
    write_photo(tmp_path / "a" / "002.png", 2)  # saved again as it was
    table.write_text("photo,colour\na/000.png,pink\na/001.png,blue\na/002.png,green\na/003.png,white\n")
    for _ in range(2):
        added = add(tmp_path / "own", csv_to_listing(table, None, Remote()), tools(), SHA256, None)
        assert [name for name, _ in added.unusable] == ["a/000.png", "a/001.png", "a/003.png"]
        assert (added.new, added.facts.photos, added.facts.unusable) == (0, 3, 1)
        assert vectors_by_id(tmp_path / "own") == before
        with open_catalogue(tmp_path / "own") as catalogue:
            assert [name for name, _ in catalogue.table.unusable()] == ["a/003.png"]
            assert {name: own for _, name, _, _, own in catalogue.table.photos()}["a/000.png"] == ("pink",)


def test_what_is_not_there_cannot_be_removed_and_all_stays(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 2)
    add_photos(tmp_path / "own", tmp_path / "a")
    before = files_of(tmp_path / "own")
    with pytest.raises(SeamlineError, match="has no photo or garment called nothing; nothing was removed"):
        remove(tmp_path / "own", [str(tmp_path / "a" / "000.png"), "nothing"])
    assert files_of(tmp_path / "own") == before


def test_all_photos_may_go(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "a", 2)
    add_photos(tmp_path / "own", tmp_path / "a")
    assert remove(tmp_path / "own", [str(path) for path in photos])[1].garments == 0
    assert add_photos(tmp_path / "own", tmp_path / "a").facts.garments == 4


def test_all_photos_of_a_graph_may_go(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "a", 2)
    listing = words_to_listing([str(tmp_path / "a")], Remote())
    assert add(tmp_path / "own", listing, tools(), SHA256, 1).facts.index == "hnsw"
    assert remove(tmp_path / "own", [str(photos[0])])[1].index == "hnsw"
    assert remove(tmp_path / "own", [str(photos[1])])[1].index == "exact"
    with open_catalogue(tmp_path / "own") as catalogue:
        assert catalogue.search([1.0] * 24, 3) == [[]]


def test_what_is_refused_leaves_nothing_and_removing_lets_an_unfinished_add_resume(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 3)
    add_photos(tmp_path / "own", tmp_path / "a")
    with pytest.raises(SeamlineError, match="which cannot be compared"):
        add(tmp_path / "own", words_to_listing([str(tmp_path / "a")], Remote()), tools(seed=1), SHA256, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "own"]
    with pytest.raises(KeyboardInterrupt), open_journal(tmp_path / ".own.unfinished", tmp_path / "own", "k") as journal:
        journal.add(Entry("key", "stamp", "b.png"))
        raise KeyboardInterrupt
    remove(tmp_path / "own", [str(tmp_path / "a" / "001.png")])
    with open_journal(tmp_path / ".own.unfinished", tmp_path / "own", "k") as journal:
        assert list(journal.known()) == ["key"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "own"]


def test_another_model_or_embedder_is_refused(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 2)
    add_photos(tmp_path / "own", tmp_path / "a")
    listing = words_to_listing([str(tmp_path / "a")], Remote())
    with pytest.raises(SeamlineError, match="which cannot be compared"):
        add(tmp_path / "own", listing, tools(seed=1), SHA256, None)
    with pytest.raises(SeamlineError, match=r"found with another model \(cccccccccccc, not dddddddddddd\)"):
        add(tmp_path / "own", listing, tools(), "d" * 64, None)


def test_people_who_were_found_in_another_way_are_refused(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 1)
    facts = add_photos(tmp_path / "own", tmp_path / "a").facts
    own = tools_to_makers(tools(), SHA256, None)
    with_people = [own._replace(detector={**own.detector, "people_first": True, "people": one}) for one in "ab"]
    check_makers(facts, own, tmp_path)
    made = msgspec.structs.replace(facts, detector=with_people[0].detector)
    check_makers(made, with_people[0], tmp_path)
    with pytest.raises(SeamlineError, match="were found with another choice of --people"):
        check_makers(made, own, tmp_path)
    with pytest.raises(SeamlineError, match="were found with another model of people, or looked for in another way"):
        check_makers(made, with_people[1], tmp_path)


def test_attributes_and_confidence_are_as_when_it_was_made(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 1)
    facts = add_photos(tmp_path / "own", tmp_path / "a").facts
    own = tools_to_makers(tools(), SHA256, None)
    described = own._replace(detector={**own.detector, "attributes": "a"})
    with pytest.raises(SeamlineError, match="its garments have no attributes; use --attributes as when"):
        check_makers(facts, described, tmp_path)
    made = msgspec.structs.replace(facts, detector=described.detector)
    check_makers(made, described, tmp_path)
    with pytest.raises(SeamlineError, match="its garments have attributes of another model"):
        check_makers(made, own, tmp_path)
    with pytest.raises(SeamlineError, match=r"found with another score threshold \(0.25, not 0.5\)"):
        check_makers(facts, own._replace(detector={**own.detector, "confidence": 0.5}), tmp_path)


def test_a_photo_that_is_gone_is_said_to_be_though_nothing_says_when_it_was_looked_at(tmp_path: Path) -> None:
    """As of a catalogue that the stage has made: it has no stamps."""
    write_photos(tmp_path / "a", 2)
    table = tmp_path / "items.csv"
    table.write_text("photo\na/000.png\na/001.png\n")
    add(tmp_path / "own", csv_to_listing(table, None, Remote()), tools(), SHA256, None)
    connection = sqlite3.connect(tmp_path / "own" / "garments.sqlite")
    connection.execute("UPDATE photos SET stamp = ''")
    connection.commit()
    connection.close()
    (tmp_path / "a" / "000.png").unlink()
    added = add(tmp_path / "own", csv_to_listing(table, None, Remote()), tools(), SHA256, None)
    assert [name for name, _ in added.unusable] == ["a/000.png"]
    assert (added.there, added.changed, added.facts.photos) == (0, 1, 2)


def test_what_dvc_keeps_is_never_changed(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 2)
    project = tmp_path / "project"
    add_photos(project / "data" / "catalogue", tmp_path / "a")
    lock = "stages:\n  catalogue:\n    deps:\n    - path: data/raw\n    outs:\n    - path: data/catalogue\n"
    (project / "dvc.lock").write_text(lock)
    with pytest.raises(SeamlineError, match="data/catalogue: is an output of DVC"):
        add_photos(project / "data" / "catalogue", tmp_path / "a")
    with pytest.raises(SeamlineError, match="is an output of DVC"):
        remove(project / "data" / "catalogue", ["000.png"])
    for out in ("data", "'data/catalogue'"):
        (project / "dvc.lock").write_text(lock.replace("- path: data/catalogue", f"- path: {out}"))
        with pytest.raises(SeamlineError, match="data/catalogue: is an output of DVC"):
            remove(project / "data" / "catalogue", ["000.png"])
    shutil.copytree(project / "data" / "catalogue", project / "mine")
    (project / "link").symlink_to(project / "mine")
    with pytest.raises(SeamlineError, match="link: is an output of DVC"):
        add_photos(project / "link", tmp_path / "a")
    (project / "mine.dvc").touch()
    with pytest.raises(SeamlineError, match="mine: is an output of DVC"):
        add_photos(project / "mine", tmp_path / "a")
    (project / "mine.dvc").unlink()
    assert add_photos(project / "mine", tmp_path / "a").there == 2
    for path in (project / "mine").iterdir():
        path.chmod(0o444)  # as DVC's hard links are
    with pytest.raises(SeamlineError, match="mine: is an output of DVC"):
        add_photos(project / "mine", tmp_path / "a")


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 2)
    with pytest.raises(SeamlineError, match=r"has '000.png', which this stage has not made"):
        add_photos(tmp_path / "a", tmp_path / "a")
    assert len(list((tmp_path / "a").iterdir())) == 2


@pytest.mark.parametrize("cuts", [3, pytest.param(12, marks=pytest.mark.thorough)])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_one(tmp_path: Path, cuts: int) -> None:
    own = tmp_path / "own"
    write_photos(tmp_path / "a", 20)
    write_photos(tmp_path / "b", 60, first=50)
    add_photos(tmp_path / "new", tmp_path / "a")
    shutil.copytree(tmp_path / "new", own)
    old = photos_of(own)
    add_photos(tmp_path / "new", tmp_path / "b")
    new, drawn, kills = photos_of(tmp_path / "new"), random.Random(1), 0
    for attempt in range(40):
        process = start("add", tmp_path / "b", own)
        try:
            process.wait(timeout=drawn.uniform(0.01, 0.2) if attempt < cuts else 60)
            if photos_of(own) == new:
                break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        assert photos_of(own) in (old, new)
    assert kills >= 2
    assert photos_of(own) == new
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "new", "own"]


def test_two_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    """One of them is refused, or both are there."""
    own = tmp_path / "own"
    for name, first in (("a", 0), ("b", 100)):
        write_photos(tmp_path / name, 40, first=first)
    processes = [start("add", tmp_path / name, own) for name in ("a", "b")]
    refused = 0
    for process in processes:
        _, said = process.communicate(timeout=60)
        refused += process.returncode != 0
        assert process.returncode == 0 or b"is at work there; let it end." in said
    assert refused < 2
    assert len(photos_of(own)) == 40 * (2 - refused)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_full_disk_leaves_the_old_one(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        write_photos(tmp_path / "a", 3)
        write_photos(tmp_path / "b", 120, first=10)
        add_photos(disk / "own", tmp_path / "a")
        before = files_of(disk / "own")
        with pytest.raises((OSError, SeamlineError), match=r"No space left|full"):
            add_photos(disk / "own", tmp_path / "b")
        assert files_of(disk / "own") == before
        assert photos_of(disk / "own") == ["000.png", "001.png", "002.png"]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
