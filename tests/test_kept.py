from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from seamline import kept
from seamline.errors import SeamlineError
from seamline.kept import KeptObjects, PartFile
from seamline.manifest import Row
from seamline.stores.objects import RemoteObject

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # sha256 of abc, from its standard


def test_a_second_process_waits_and_is_then_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LOCK_WAIT_S", 1)
    with closing(KeptObjects(tmp_path)), pytest.raises(SeamlineError, match="another pull of the same source"):
        KeptObjects(tmp_path)
    KeptObjects(tmp_path).close()


def test_a_last_row_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    items = [RemoteObject("a", 3, "1"), RemoteObject("b/c", 3, "2")]
    with closing(KeptObjects(tmp_path)) as objects:
        for item in items:
            (tmp_path / "new").write_bytes(b"abc")
            objects.add(Row(item.key, 3, item.etag, "", ABC), tmp_path / "new")
    index = tmp_path / "kept.jsonl"
    index.write_bytes(index.read_bytes()[:-20])
    with closing(KeptObjects(tmp_path)) as objects:
        assert objects.missing(items) == items[1:]
        assert index.read_text().count("\n") == 1
        objects.make_room(items)
        assert not (tmp_path / "objects" / "b").exists()


@pytest.mark.parametrize("listed", [("a", 3, "2"), ("a", 4, "1"), ("b", 3, "1")])
def test_what_is_listed_otherwise_is_missing(tmp_path: Path, listed: tuple[str, int, str]) -> None:
    with closing(KeptObjects(tmp_path)) as objects:
        (tmp_path / "new").write_bytes(b"abc")
        objects.add(Row("a", 3, "1", "", ABC), tmp_path / "new")
        assert objects.missing([RemoteObject("a", 3, "1")]) == []
        assert objects.missing([RemoteObject(*listed)]) == [RemoteObject(*listed)]


def test_without_an_etag_nothing_says_that_it_is_the_same(tmp_path: Path) -> None:
    with closing(KeptObjects(tmp_path)) as objects:
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
