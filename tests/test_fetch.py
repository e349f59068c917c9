from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path

import pytest

from seamline.errors import SeamlineError
from seamline.fetch import fetch
from tests.test_archives import make_zip


def test_a_folder_is_used_where_it_is(tmp_path: Path) -> None:
    assert fetch(str(tmp_path), tmp_path / "scratch") == tmp_path


def test_an_archive_is_unpacked(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x/1.txt": b"one"})
    assert (fetch(str(archive), tmp_path / "scratch") / "x" / "1.txt").read_bytes() == b"one"
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(SeamlineError, match="is no folder and no archive"):
        fetch(str(tmp_path / "a.rar"), tmp_path / "scratch")


def test_a_source_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match="does not exist"):
        fetch(str(tmp_path / "nothing"), tmp_path / "scratch")
    with pytest.raises(SeamlineError, match="cannot read 'nosuch://x/y'"):
        fetch("nosuch://x/y", tmp_path / "scratch")


def test_an_archive_on_the_web_is_fetched(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"x/1.txt": b"one"})
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        folder = fetch(f"{address}/a.zip", tmp_path / "scratch")
        assert (folder / "x" / "1.txt").read_bytes() == b"one"
        with pytest.raises(SeamlineError, match=r"there is nothing at .*nothing\.zip"):
            fetch(f"{address}/nothing.zip", tmp_path / "other")
        server.shutdown()


def test_a_tree_behind_a_url_is_fetched(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/data/a.json": b"1", "/bucket/data/photos/b.jpg": b"2", "/bucket/other/c": b"3"})
    folder = fetch("memory://bucket/data", tmp_path / "scratch")
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == ["a.json", "photos/b.jpg"]
