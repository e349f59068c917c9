from __future__ import annotations

import functools
import http.server
import io
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from seamline.errors import SeamlineError
from seamline.fetch import fetch


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return path


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_is_unpacked(tmp_path: Path, make: object) -> None:
    name = "a.zip" if make is make_zip else "a.tar.gz"
    maker = make_zip if make is make_zip else make_tar
    archive = maker(tmp_path / name, {"x/1.txt": b"one", "2.txt": b"two"})
    folder = fetch(str(archive), tmp_path / "scratch")
    assert (folder / "x" / "1.txt").read_bytes() == b"one"
    assert (folder / "2.txt").read_bytes() == b"two"


def test_a_folder_is_used_where_it_is(tmp_path: Path) -> None:
    assert fetch(str(tmp_path), tmp_path / "scratch") == tmp_path


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "c:\\out.txt"])
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_member_that_leads_outside_is_refused(tmp_path: Path, name: str, suffix: str) -> None:
    maker = make_zip if suffix == ".zip" else make_tar
    archive = maker(tmp_path / f"a{suffix}", {"good.txt": b"1", name: b"bad"})
    with pytest.raises(SeamlineError, match="leads outside"):
        fetch(str(archive), tmp_path / "scratch")
    assert not list((tmp_path / "scratch").rglob("*.txt"))  # not even the good one


def test_a_link_is_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar.gz", {"good.txt": b"1"}, link="/etc/passwd")
    with pytest.raises(SeamlineError, match="'link' is a link"):
        fetch(str(archive), tmp_path / "scratch")
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(SeamlineError, match="'link' is a link"):
        fetch(str(tmp_path / "a.zip"), tmp_path / "scratch")


def test_an_archive_that_unpacks_to_an_absurd_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamline.fetch.MIN_EXPANSION_BYTES", 1000)
    monkeypatch.setattr("seamline.fetch.MAX_EXPANSION", 100)
    archive = make_zip(tmp_path / "a.zip", {"zeros": bytes(1_000_000)})
    with pytest.raises(SeamlineError, match=r"unpacks to 1,000,000 bytes"):
        fetch(str(archive), tmp_path / "scratch")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.zip", b"no zip", "is not a readable archive"),
        ("a.tar.gz", b"no tar", "is not a readable archive"),
        ("a.zip", b"", "is not a readable archive"),
        ("a.rar", b"x", "is no folder and no archive"),
    ],
)
def test_what_is_no_archive_is_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeamlineError, match=sentence):
        fetch(str(tmp_path / name), tmp_path / "scratch")


def test_a_damaged_zip_is_one_sentence(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.txt": bytes(range(256)) * 100})
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(SeamlineError, match="is not a readable archive"):
        fetch(str(archive), tmp_path / "scratch")


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
