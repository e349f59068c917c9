"""Photos in buckets and on the web: found a page at a time, read as pull reads, and nothing of them on the disk."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import json
import pickle
import re
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from seamline.base.errors import SeamlineError
from seamline.ingest.remote import retries as patience
from seamline.ingest.remote.objects import Body, Facts, RemoteObject, Store
from seamline.photos import remote as remote_module
from seamline.photos.finding import find_photos, words
from seamline.photos.listing import Photo
from seamline.photos.remote import Remote, Unread, star_to_pattern, whole
from tests.photos.test_predicting import file_names, predict, rows_of
from tests.s3 import Bucket, Request, first, flipped, half_then_reset, status
from tests.untrained import Untrained


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(patience, "LONGEST_DELAY_S", 0.02)


@pytest.fixture
def remote() -> Iterator[Remote]:
    made = Remote()
    yield made
    made.close()


class Web(http.server.ThreadingHTTPServer):
    """Files by their paths; /moved/x leads to /x, and /none/x is what the server itself fails at."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.files: dict[str, bytes] = {}
        self.asked = Counter[str]()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Page(http.server.BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked[f"{self.command} {path}"] += 1
        body = self.server.files.get(path, b"")
        if path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", path.removeprefix("/moved"))
        elif path.startswith("/none/"):
            self.send_response(503)
        elif path not in self.server.files:
            self.send_response(404)
        else:
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.shutdown()
    server.server_close()


def found(remote: Remote, *arguments: str) -> list[Photo]:
    return list(find_photos(words(list(arguments), []), Path("predictions"), remote))


def names(remote: Remote, *arguments: str) -> list[str]:
    return [photo.name for photo in found(remote, *arguments)]


def test_what_a_bucket_has(bucket: Bucket, remote: Remote) -> None:
    bucket.put(
        dict.fromkeys(["a.JPG", "b c.jpg", "deep/er/ü#1.jpg", "deep/x.jpg", "notes.txt", "._a.jpg", "v.mov"], b"1")
    )
    bucket.put({"p.jpg": b"1", "p.jpg/a.jpg": b"2", "p.jpg/n.txt": b"3", "q*.jpg": b"4"})
    url = bucket.url()
    assert names(remote, url) == [
        url + key for key in ("a.JPG", "b c.jpg", "deep/er/ü#1.jpg", "deep/x.jpg", "p.jpg", "p.jpg/a.jpg", "q*.jpg")
    ]
    assert names(remote, url.replace("s3", "S3", 1) + "deep") == [url + "deep/er/ü#1.jpg", url + "deep/x.jpg"]
    assert names(remote, url + "deep/") == names(remote, url + "deep")
    assert names(remote, url + "p.jpg") == [url + "p.jpg", url + "p.jpg/a.jpg"]
    assert names(remote, url + "notes.txt") == [url + "notes.txt"]
    assert names(remote, url + "*.jpg") == [url + "b c.jpg", url + "p.jpg", url + "q*.jpg"]
    assert names(remote, url + "**/x*.jpg", url + "deep") == [url + "deep/x.jpg", url + "deep/er/ü#1.jpg"]
    for nothing in ("none", "dee", "none/*.jpg"):
        with pytest.raises(SeamlineError, match="there is no image there"):
            names(remote, url + nothing)
    with pytest.raises(SeamlineError, match=r"s3://no-such-bucket-here: there is no such bucket\.$"):
        names(remote, "s3://no-such-bucket-here/photos")


def test_a_bucket_is_listed_a_page_at_a_time(bucket: Bucket, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what passes on the way is tried again."""
    keys = [f"x/{number:04d}.jpg" for number in range(30)]
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "12")  # a page has 1,000 elsewhere
    bucket.put(dict.fromkeys(keys, b"1"))
    bucket.proxy.rules = [first(2, status(503, "SlowDown"), "")]
    listed = remote.photos(bucket.url("x"), Counter())
    assert next(listed).name == bucket.url(keys[0])
    before = len(bucket.proxy.requests)
    assert [photo.name for photo in listed] == [bucket.url(key) for key in keys[1:]]
    assert len(bucket.proxy.requests) == before + 2


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("a/*.jpg", "a/b.jpg", True),
        ("a/*.jpg", "a/b/c.jpg", False),
        ("a/**/*.jpg", "a/c.jpg", True),
        ("a/**/*.jpg", "a/b/c/d.jpg", True),
        ("a/**", "a/b/c.jpg", True),
        ("a[1]*.jpg", "a[1]x.jpg", True),
        ("a?*.jpg", "abx.jpg", False),
    ],
)
def test_only_stars_have_a_meaning_in_a_key(pattern: str, key: str, matches: bool) -> None:
    assert (star_to_pattern(pattern).fullmatch(key) is not None) == matches


def test_photos_of_a_bucket_are_predicted_as_files_are(
    untrained: Untrained, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """One whose bytes come damaged, one whose connection breaks, one that is refused, one that is half there."""
    model, local = untrained.models()["onnx"], untrained.images()[:3]
    keys = ["p/0.jpg", "p/1.jpg", "p/2.jpg"]
    bucket.put({key: path.read_bytes() for key, path in zip(keys, local, strict=True)})
    bucket.put({"p/half.jpg": local[0].read_bytes()[:700], "p/refused.jpg": b"1", "p/v.mov": b"2"})
    bucket.proxy.rules = [
        first(1, flipped, keys[0]),
        first(2, half_then_reset, keys[1]),
        first(9, status(403, "AccessDenied"), "p/refused.jpg"),
    ]
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(tempfile, "tempdir", str(work))
    with pytest.raises(SystemExit, match="1"):
        predict(model, bucket.url("p"), "--out", tmp_path / "remote", "--crops")
    assert not list(work.iterdir()), "something of a photo was written to disk"
    assert file_names(tmp_path / "remote") == [bucket.url(key) for key in keys]
    predict(model, *local, "--out", tmp_path / "local", "--crops")
    ours, theirs = ((tmp_path / name / "results.json").read_bytes() for name in ("remote", "local"))
    assert ours == theirs
    assert len(json.loads(ours)) > 10
    half, refused = rows_of(tmp_path / "remote" / "errors.csv")
    assert half["reason"].startswith("is not an image that can be decoded")
    assert refused["reason"].startswith(f"access to {bucket.url('p/refused.jpg')} is denied (AccessDenied)")
    assert "pull" not in refused["reason"]
    said = capsys.readouterr()
    assert re.search(r"^1 file was passed over: 1 \.mov \(.*video", said.out, re.MULTILINE)
    assert "1 of them could not be read; the same command tries those again" in said.err

    bucket.put({"p/refused.jpg": local[0].read_bytes()})
    bucket.proxy.rules, bucket.proxy.requests = [], []
    with pytest.raises(SystemExit, match="1"):
        predict(model, bucket.url("p"), "--out", tmp_path / "remote", "--crops", "--overlays", "0")
    assert bucket.proxy.fetched() == {"p/refused.jpg": 1}, "what was done, or is damaged, was fetched again"
    assert [row["file_name"] for row in rows_of(tmp_path / "remote" / "errors.csv")] == [bucket.url("p/half.jpg")]
    assert len(file_names(tmp_path / "remote")) == 4
    assert not (tmp_path / "remote" / "unfinished").exists()


def test_an_object_that_changes_is_not_mixed(bucket: Bucket, remote: Remote) -> None:
    bucket.put({"a.jpg": b"1"})
    [photo] = found(remote, bucket.url("a.jpg"))
    bucket.put({"a.jpg": b"2"})
    with pytest.raises(Unread, match=r"has changed since it was found\.") as raised:
        remote.read(photo)
    assert raised.value.again


def test_an_object_that_came_in_parts_is_checked(bucket: Bucket, remote: Remote) -> None:
    bucket.put_in_parts("a.jpg", [b"1" * (5 << 20), b"2" * 1000])
    [photo] = found(remote, bucket.url("a.jpg"))
    bucket.proxy.rules = [first(1, flipped, "a.jpg")]
    assert remote.read(photo) == (b"1" * (5 << 20) + b"2" * 1000, photo.stamp)


def test_too_large_an_object_is_not_fetched(bucket: Bucket, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put({"a.jpg": b"1" * 2000})
    [photo] = found(remote, bucket.url("a.jpg"))
    monkeypatch.setattr(remote_module, "MAX_BYTES", 1000)
    with pytest.raises(Unread, match="too much for a photo") as raised:
        remote.read(photo)
    assert not raised.value.again
    assert not bucket.proxy.fetched()


def test_what_nobody_said_the_size_of_is_read_no_further_than_a_photo_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []

    class Endless:
        @asynccontextmanager
        async def read(self, item: RemoteObject, start: int, stop: int | None) -> AsyncIterator[Body]:
            async def chunks() -> AsyncIterator[bytes]:
                while len(given) < 100:
                    given.append(b"1" * 400)
                    yield given[-1]

            yield Body(Facts(), chunks())

    monkeypatch.setattr(remote_module, "MAX_BYTES", 1000)
    with pytest.raises(Unread, match="too much for a photo"):
        asyncio.run(whole(cast(Store, Endless()), RemoteObject("a.jpg", None, "")))
    assert len(given) == 3


@pytest.mark.parametrize("address", ["s3://me:secret@bucket/a.jpg", "s3:///a.jpg"])
def test_an_address_of_no_bucket_is_one_sentence_without_secrets(remote: Remote, address: str) -> None:
    with pytest.raises(SeamlineError, match="has to be s3://BUCKET/KEY, without a user or password in it") as error:
        names(remote, address)
    assert "secret" not in str(error.value)


def test_nobody_there_is_said_once(bucket: Bucket, remote: Remote) -> None:
    def down(request: Request) -> Any:
        return status(503, "SlowDown")

    bucket.put({"a.jpg": b"1"})
    [photo] = found(remote, bucket.url("a.jpg"))
    bucket.proxy.rules = [down]
    with pytest.raises(SeamlineError, match=f"^{bucket.url('a.jpg')} cannot be read: 8 attempts .*\\.$") as refused:
        names(remote, bucket.url("a.jpg"))
    assert "dvc" not in str(refused.value)
    with pytest.raises(Unread, match="cannot be read: 8 attempts failed, the last with ") as raised:
        remote.read(photo)
    assert "dvc" not in raised.value.reason
    assert raised.value.again


def test_a_reason_comes_back_from_another_process() -> None:
    error = patience.gave_up("s3://a", "cannot be reached (down)", "; wait.")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason) == ("pull.source: s3://a cannot be reached (down); wait.", error.reason)


def test_photos_on_the_web(untrained: Untrained, tmp_path: Path, web: Web) -> None:
    """Each costs itself alone; of addresses nothing secret is written down; those that changed are predicted again."""
    model, local = untrained.models()["onnx"], untrained.images()[:3]
    web.files = {f"/{number}.jpg": path.read_bytes() for number, path in enumerate(local)}
    web.files["/index"] = b"<!DOCTYPE html><p>photos"
    signed = web.url("/0.jpg?signature=hidden").replace("//", "//user:secret@")
    addresses = [signed, web.url("/moved/1.jpg"), web.url("/index"), web.url("/404.jpg"), web.url("/none/a.jpg")]
    with pytest.raises(SystemExit, match="1"):
        predict(model, *addresses, "--out", tmp_path / "out", "--overlays", "0")
    assert file_names(tmp_path / "out") == [web.url("/0.jpg"), web.url("/moved/1.jpg")]
    reasons = {row["file_name"]: row["reason"] for row in rows_of(tmp_path / "out" / "errors.csv")}
    assert reasons[web.url("/index")] == "is a web page, and not a photo."
    assert reasons[web.url("/404.jpg")] == "there is nothing at this address."
    assert reasons[web.url("/none/a.jpg")].startswith("cannot be read: 8 attempts failed")
    for path in tmp_path.rglob("*.*"):
        assert path.is_dir() or not any(secret in path.read_bytes() for secret in (b"secret", b"hidden"))
    first_of_all = json.loads((tmp_path / "out" / "results.json").read_text())
    predict(model, *local[:2], "--out", tmp_path / "local")
    assert first_of_all == json.loads((tmp_path / "local" / "results.json").read_text())

    web.files["/1.jpg"] = web.files["/2.jpg"]
    web.asked.clear()
    with pytest.raises(SystemExit, match="1"):
        predict(model, *addresses[:3], "--out", tmp_path / "out", "--overlays", "0")
    assert web.asked["GET /0.jpg"] == 0
    assert web.asked["GET /1.jpg"] == 1
    assert web.asked["GET /index"] == 1  # it has failed for good, and nothing says that it is still the same

    second = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [record for record in second if record["image_id"] == 1] == [
        record for record in first_of_all if record["image_id"] == 1
    ]
    assert second != first_of_all


def test_what_is_missing_is_named(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(SeamlineError, match=r"^s3://bucket/a\.jpg: needs s3fs, which is not installed"):
        names(remote, "s3://bucket/a.jpg")
