from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seamline.base.errors import SeamlineError
from seamline.ingest.manifest import Row
from seamline.ingest.remote import cache as kept
from seamline.ingest.remote.cache import ObjectCache, PartFile, locked
from seamline.ingest.remote.objects import RemoteObject
from tests.conftest import PROJECT
from tests.stages.test_stage import with_params

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # sha256 of abc, from its standard


def test_a_second_process_waits_and_is_then_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LOCK_WAIT_S", 1)
    with locked(tmp_path), pytest.raises(SeamlineError, match="another pull is at work in"):
        locked(tmp_path)
    locked(tmp_path).close()


@pytest.mark.slow
def test_a_second_pull_of_anything_leaves_the_first_alone(tmp_path: Path) -> None:
    """Also of a local archive, which is unpacked where others are, and never fetched."""
    with_params(tmp_path, {})
    scratch = tmp_path / ".seamline" / "pull"
    (scratch / "unpacked").mkdir(parents=True)
    (scratch / "unpacked" / "of the first").touch()
    source = PROJECT / "samples" / "garments.zip"
    command = [sys.executable, "-m", "stages.pull", "data/raw", "--source", str(source)]
    with locked(scratch):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == f"error: pull.source: another pull is at work in {scratch}; let it end first.\n"
    assert (scratch / "unpacked" / "of the first").exists()


def test_a_last_row_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    items = [RemoteObject("a", 3, "1"), RemoteObject("b/c", 3, "2")]
    objects = ObjectCache(tmp_path)
    for item in items:
        (tmp_path / "new").write_bytes(b"abc")
        objects.add(Row(item.key, 3, item.etag, "", ABC), tmp_path / "new")
    index = tmp_path / "kept.jsonl"
    index.write_bytes(index.read_bytes()[:-20])
    objects = ObjectCache(tmp_path)
    assert objects.missing(items) == items[1:]
    assert index.read_text().count("\n") == 1
    objects.make_room(items)
    assert not (tmp_path / "objects" / "b").exists()


@pytest.mark.parametrize("listed", [("a", 3, "2"), ("a", 4, "1"), ("b", 3, "1")])
def test_what_is_listed_otherwise_is_missing(tmp_path: Path, listed: tuple[str, int, str]) -> None:
    objects = ObjectCache(tmp_path)
    (tmp_path / "new").write_bytes(b"abc")
    objects.add(Row("a", 3, "1", "", ABC), tmp_path / "new")
    assert objects.missing([RemoteObject("a", 3, "1")]) == []
    assert objects.missing([RemoteObject(*listed)]) == [RemoteObject(*listed)]


def test_without_an_etag_nothing_says_that_it_is_the_same(tmp_path: Path) -> None:
    objects = ObjectCache(tmp_path)
    (tmp_path / "new").write_bytes(b"abc")
    objects.add(Row("a", 3, "", "", ABC), tmp_path / "new")
    objects.verified.clear()
    assert objects.missing([RemoteObject("a", 3, "")]) == [RemoteObject("a", 3, "")]


def test_parts_of_another_version_are_not_taken_over(tmp_path: Path) -> None:
    first = PartFile(tmp_path, RemoteObject("a", 25, "1"), 10)
    assert first.ranges == [(0, 10), (10, 20), (20, 25)]
    first.path.write_bytes(b"x" * 10 + b"abc" + bytes(12))
    first.finish(0, "9" * 64)
    assert PartFile(tmp_path, RemoteObject("a", 25, "1"), 10).missing() == [0, 1, 2]
    assert PartFile(tmp_path, RemoteObject("a", 25, "2"), 10).path != first.path


def test_parts_of_replaced_versions_are_removed(tmp_path: Path) -> None:
    objects, old, new = ObjectCache(tmp_path), RemoteObject("a", 25, "1"), RemoteObject("a", 25, "2")
    for item in (old, new):
        PartFile(objects.parts, item, 10).finish(0, "9" * 64)
    (objects.parts / "0123.whole").touch()
    assert len(list(objects.parts.iterdir())) == 5
    objects.keep_parts([new], 10)
    assert {path.stem for path in objects.parts.iterdir()} == {PartFile(objects.parts, new, 10).path.stem}


def test_what_is_kept_of_other_sources_is_dropped(tmp_path: Path) -> None:
    mine, other = ObjectCache(tmp_path / "mine"), ObjectCache(tmp_path / "other")
    for objects in (mine, other):
        (tmp_path / "new").write_bytes(b"abc")
        objects.add(Row("a", 3, "1", "", ABC), tmp_path / "new")
    (tmp_path / "unpacked").mkdir()
    mine.drop_others()
    assert mine.path("a").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "unpacked"]
