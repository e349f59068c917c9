"""Sources brought here from folders, archives and the web; tests/ingest/test_downloads.py has those of buckets."""

from __future__ import annotations

import errno
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pyzipper

from seamline.base.errors import SeamlineError
from seamline.ingest import archives
from seamline.ingest.archives import PASSWORD_VARIABLE
from seamline.ingest.remote import downloads
from seamline.ingest.remote import fetch as fetch_module
from seamline.ingest.remote import retries as patience
from seamline.ingest.remote.fetch import fetch
from tests.ingest.test_archives import make_zip


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
    with pytest.raises(SeamlineError, match="is neither a folder nor an archive"):
        fetch(str(tmp_path / "a.rar"), tmp_path / "scratch")


def test_a_source_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match="does not exist"):
        fetch(str(tmp_path / "nothing"), tmp_path / "scratch")
    with pytest.raises(SeamlineError, match=r"'nosuch://x/y' cannot be read; allowed are s3://, https:// and http://"):
        fetch("nosuch://x/y", tmp_path / "scratch")


class Web(http.server.ThreadingHTTPServer):
    """One file at /a.zip and /a.tar; `ranges` says how parts of it can be had, `faults` how many bodies are cut."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), WebHandler)
        self.body, self.etag, self.head, self.faults = body, '"1"', True, 0
        self.ranges = "right"  # or "none", "said" and not kept, or "others"
        self.length = "sized"  # or "chunked", or "closed" at the end
        self.before: Callable[[], None] = lambda: None
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/a.zip"


class WebHandler(http.server.BaseHTTPRequestHandler):
    server: Web
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        if self.path == "/secret/a.zip":
            self.send_error(401)
        elif self.path == "/circle.zip":
            self.server.asked.append("")
            self.send_response(302)
            self.send_header("Location", "/circle.zip")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.partition("?")[0] not in ("/a.zip", "/a.tar"):
            self.send_error(404)
        elif self.server.head:
            self.answer(200, self.server.body)
        else:
            self.send_error(405)

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append(asked)
        self.server.before()
        body = self.server.body
        same = self.headers.get("If-Range", self.server.etag) == self.server.etag
        if asked and same and self.server.ranges in ("right", "others"):
            start, stop = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            if self.server.ranges == "others":
                start, stop = 0, stop - start
            self.answer(206, body[start : stop + 1], f"bytes {start}-{stop}/{len(body)}")
        else:
            self.answer(200, body)

    def answer(self, status: int, body: bytes, content_range: str = "") -> None:
        self.send_response(status)
        headers = {"ETag": self.server.etag, "Content-Range": content_range, "Connection": "close"}
        headers |= {"Accept-Ranges": "bytes" if self.server.ranges != "none" else ""}
        headers |= {"Content-Length": str(len(body)) if self.server.length == "sized" else ""}
        headers |= {"Transfer-Encoding": "chunked" if self.server.length == "chunked" else ""}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            cut = self.server.faults > 0
            self.server.faults -= cut
            if self.server.length == "chunked":
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
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


@pytest.mark.parametrize(
    ("name", "value"),
    [("ranges", "none"), ("ranges", "said"), ("ranges", "others"), ("head", False), ("length", "chunked"),
     ("etag", 'W/"1"'), ("etag", "")],
)  # fmt: skip
def test_servers_that_know_less_are_read_all_the_same(web: Web, tmp_path: Path, name: str, value: object) -> None:
    """Also those that say more than they keep, or have no ETag by which parts of one file are known: in one go."""
    setattr(web, name, value)
    assert fetched_text(web, tmp_path) == b"one"
    assert web.asked[-1] == "" or name == "head"
    assert name != "etag" or web.asked == [""]


def test_a_body_that_is_cut_is_noticed_or_refused(web: Web, tmp_path: Path) -> None:
    web.length, web.faults = "chunked", 1
    assert fetched_text(web, tmp_path) == b"one"
    assert web.asked == ["", ""]
    web.length, web.etag = "closed", '"2"'
    with pytest.raises(SeamlineError, match="nobody can tell whether all of it has come"):
        fetch(web.url, tmp_path / "scratch")


def test_a_file_replaced_between_its_parts_is_the_new_one(web: Web, tmp_path: Path) -> None:
    noise = hashlib.shake_256(b"other noise").digest(200_000)
    old, new = web.body, make_zip(tmp_path / "b.zip", {"x/1.txt": b"two", "noise": noise}).read_bytes()

    def replace() -> None:
        if len(web.asked) == 3:
            web.body, web.etag = new, '"2"'

    assert len(old) == len(new)
    web.before = replace
    assert fetched_text(web, tmp_path) == b"two"


@pytest.mark.parametrize("members", [3, 20])
def test_a_tar_that_was_cut_between_its_members_is_refused(web: Web, tmp_path: Path, members: int) -> None:
    """tarfile takes that for its end."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for number in range(20):
            member = tarfile.TarInfo(f"{number}.txt")
            member.size = 512
            archive.addfile(member, io.BytesIO(b"x" * 512))
    web.body = stream.getvalue()[: members * 1024]
    url = web.url.replace(".zip", ".tar")
    with pytest.raises(SeamlineError, match="it is cut off"):
        fetch(url, tmp_path / "scratch")
    web.body = stream.getvalue()
    assert len(list(fetch(url, tmp_path / "scratch").folder.iterdir())) == 20


def test_an_archive_that_came_damaged_is_not_kept(web: Web, tmp_path: Path) -> None:
    """The web has no checksums; that a file is damaged is seen when it is unpacked."""
    whole = web.body
    web.body = whole[:1000] + bytes(1000) + whole[2000:]
    with pytest.raises(SeamlineError, match="is not a readable archive"):
        fetch(web.url, tmp_path / "scratch")
    web.body = whole
    assert fetched_text(web, tmp_path) == b"one"


def test_a_damaged_archive_that_was_kept_is_not_believed_for_ever(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between fetching and unpacking: the second pull finds it damaged, the third fetches it."""
    whole = web.body
    web.body = whole[:1000] + bytes(1000) + whole[2000:]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fetch_module, "unpacked", killed)
        fetch(web.url, tmp_path / "scratch")
    web.body = whole
    with pytest.raises(SeamlineError, match="is not a readable archive"):
        fetch(web.url, tmp_path / "scratch")
    assert fetched_text(web, tmp_path) == b"one"


def killed(source: Path, scratch: Path) -> Path:
    raise KeyboardInterrupt


def test_an_archive_that_is_whole_is_kept_whatever_else_is_wrong(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = io.BytesIO()
    with pyzipper.AESZipFile(packed, "w", encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(b"right")
        archive.writestr("x/1.txt", b"one")
    web.body = packed.getvalue()
    for password in ("", "wrong"):
        monkeypatch.setenv(PASSWORD_VARIABLE, password)
        with pytest.raises(SeamlineError, match=r"is protected by a password|does not open it"):
            fetch(web.url, tmp_path / "scratch")
    monkeypatch.setenv(PASSWORD_VARIABLE, "right")
    with monkeypatch.context() as patch, pytest.raises(SeamlineError, match="no space left"):
        patch.setattr(archives, "write_member", full_disk)
        fetch(web.url, tmp_path / "scratch")
    assert fetched_text(web, tmp_path) == b"one"
    assert web.asked == [""]


def full_disk(stream: object, path: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_the_web_does_not_give_is_one_sentence(web: Web, tmp_path: Path) -> None:
    base = web.url.removesuffix("/a.zip")
    for address, sentence in (
        (f"{base}/nothing.zip", "there is nothing at"),
        (f"{base}/secret/a.zip", "is denied"),
        (f"{base}/folder", "is not an archive"),
        (f"{base}/circle.zip", "leads from one redirect to the next"),
    ):
        with pytest.raises(SeamlineError, match=sentence):
            fetch(address, tmp_path / "scratch")
