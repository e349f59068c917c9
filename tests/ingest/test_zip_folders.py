"""Folders of zips that Windows' tools write as if they were files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from seamline.base.errors import SeamlineError
from seamline.ingest.archives import unpacked


def packed(folder: Path, members: list[tuple[str, int, bytes]]) -> Path:
    """A zip of names as they are, with external attributes and content."""
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, attributes, data in members:
            info = zipfile.ZipInfo("x")
            info.filename = name  # ZipInfo itself would cut or turn separators
            info.external_attr = attributes
            archive.writestr(info, data)
    return path


@pytest.mark.parametrize(("name", "attributes"), [("photos\\", 0), ("photos", 0x10)])
def test_an_empty_folder_is_not_a_file(tmp_path: Path, name: str, attributes: int) -> None:
    """No file lies in it, so that nothing but its end, or DOS' flag, tells."""
    found = unpacked(packed(tmp_path, [(name, attributes, b""), ("a.json", 0, b"{}")]), tmp_path / "scratch")
    assert [path.name for path in found.rglob("*") if path.is_file()] == ["a.json"]


def test_a_file_of_the_name_of_a_folder_is_refused_where_it_holds_something(tmp_path: Path) -> None:
    """An empty one is how a tool writes a folder; of another nobody can say which is meant."""
    found = unpacked(packed(tmp_path, [("photos", 0, b""), ("photos/1.jpg", 0, b"1")]), tmp_path / "scratch")
    assert (found / "photos" / "1.jpg").read_bytes() == b"1"
    with pytest.raises(SeamlineError, match=r"a\.zip: is not a readable archive"):
        unpacked(packed(tmp_path, [("photos", 0, b"x"), ("photos/1.jpg", 0, b"1")]), tmp_path / "scratch")
