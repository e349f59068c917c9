"""Sources brought here from folders, archives and the web; tests/test_downloads.py has those of buckets."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seamline import downloads, patience
from seamline.errors import SeamlineError
from seamline.fetch import fetch
from tests.test_archives import make_zip


def test_a_folder_is_used_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "source" / "x").mkdir(parents=True)
    (tmp_path / "source" / "x" / "1.txt").write_bytes(b"one")
    fetched = fetch(str(tmp_path / "source"), tmp_path / "scratch")
    assert fetched.folder == tmp_path / "source"
    assert [(row.key, row.size, row.etag, row.version) for row in fetched.rows] == [("x/1.txt", 3, "", "")]
    assert fetched.rows[0].sha256 == hashlib.sha256(b"one").hexdigest()
    fetched.check_unchanged()


def test_an_archive_is_unpacked(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x/1.txt": b"one"})
    fetched = fetch(str(archive), tmp_path / "scratch")
    assert (fetched.folder / "x" / "1.txt").read_bytes() == b"one"
    assert [(row.key, row.size) for row in fetched.rows] == [("a.zip", archive.stat().st_size)]
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(SeamlineError, match="is no folder and no archive"):
        fetch(str(tmp_path / "a.rar"), tmp_path / "scratch")


def test_a_source_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match="does not exist"):
        fetch(str(tmp_path / "nothing"), tmp_path / "scratch")
    with pytest.raises(SeamlineError, match=r"'nosuch://x/y' cannot be read; allowed are s3://, https:// and http://"):
        fetch("nosuch://x/y", tmp_path / "scratch")


class Web(http.server.ThreadingHTTPServer):
    """One file at /a.zip; `ranges` says whether parts of it can be had, `faults` how many bodies are cut."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), WebHandler)
        self.body, self.etag, self.ranges, self.head, self.sized, self.faults = body, '"1"', True, True, True, 0
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/a.zip"


class WebHandler(http.server.BaseHTTPRequestHandler):
    server: Web

    def do_HEAD(self) -> None:
        if self.path == "/secret/a.zip":
            self.send_error(401)
        elif self.path.partition("?")[0] != "/a.zip":
            self.send_error(404)
        elif self.server.head:
            self.answer(200, self.server.body)
        else:
            self.send_error(405)

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append(asked)
        body = self.server.body
        if asked and self.server.ranges:
            start, stop = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            self.answer(206, body[start : stop + 1])
        else:
            self.answer(200, body)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("ETag", self.server.etag)
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if self.server.sized:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            cut = self.server.faults > 0
            self.server.faults -= cut
            self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(patience, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(downloads, "PART_BYTES", 1 << 16)
    noise = hashlib.shake_256(b"noise").digest(200_000)
    server = Web(make_zip(tmp_path / "made.zip", {"x/1.txt": b"one", "noise": noise}).read_bytes())
    yield server
    server.shutdown()
    server.server_close()


def fetched_text(web: Web, tmp_path: Path) -> bytes:
    return (fetch(web.url, tmp_path / "scratch").folder / "x" / "1.txt").read_bytes()


def test_an_archive_on_the_web_is_fetched_in_parts_and_kept(web: Web, tmp_path: Path) -> None:
    web.faults = 2
    assert fetched_text(web, tmp_path) == b"one"
    assert len(web.asked) == 4 + 2
    web.asked.clear()
    assert fetched_text(web, tmp_path) == b"one"
    assert web.asked == []
    fetched = fetch(f"{web.url}?download=1", tmp_path / "scratch")
    assert [(row.key, row.size, row.etag) for row in fetched.rows] == [("a.zip", len(web.body), "1")]
    web.etag = '"2"'
    with pytest.raises(SeamlineError, match="has changed while it was pulled"):
        fetched.check_unchanged()


@pytest.mark.parametrize("lacks", ["ranges", "head", "sized"])
def test_servers_that_know_less_are_read_all_the_same(web: Web, tmp_path: Path, lacks: str) -> None:
    setattr(web, lacks, False)
    assert fetched_text(web, tmp_path) == b"one"


def test_an_archive_that_came_damaged_is_not_kept(web: Web, tmp_path: Path) -> None:
    """The web has no checksums; that a file is damaged is seen when it is unpacked."""
    whole = web.body
    web.body = whole[:1000] + bytes(1000) + whole[2000:]
    with pytest.raises(SeamlineError, match="is not a readable archive"):
        fetch(web.url, tmp_path / "scratch")
    web.body = whole
    assert fetched_text(web, tmp_path) == b"one"


def test_what_the_web_does_not_give_is_one_sentence(web: Web, tmp_path: Path) -> None:
    base = web.url.removesuffix("/a.zip")
    for address, sentence in (
        (f"{base}/nothing.zip", "there is nothing at"),
        (f"{base}/secret/a.zip", "is denied"),
        (f"{base}/folder", "is no archive"),
    ):
        with pytest.raises(SeamlineError, match=sentence):
            fetch(address, tmp_path / "scratch")
