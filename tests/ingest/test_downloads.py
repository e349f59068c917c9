"""Objects fetched from a bucket through a network that fails: complete and right, or one clear sentence."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from seamline.base import files, progress
from seamline.base.errors import SeamlineError
from seamline.ingest.remote import downloads
from seamline.ingest.remote import retries as patience
from seamline.ingest.remote import s3 as s3_store
from seamline.ingest.remote.fetch import Fetched, fetch
from tests.conftest import PROJECT
from tests.ingest.test_archives import make_zip
from tests.s3 import (
    CREDENTIALS,
    Answer,
    Bucket,
    Fault,
    Handler,
    Request,
    Rule,
    edited,
    first,
    flipped,
    half_as_all,
    half_then_closed,
    half_then_reset,
    stalled,
    status,
)

pytestmark = pytest.mark.slow
PART = 1 << 20
SMALL = {f"data/photos/{number:02d}.jpg": bytes([number]) * (1000 + number) for number in range(10)}
LARGE = hashlib.shake_256(b"large").digest(5 * PART)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(patience, "LONGEST_DELAY_S", 0.05)
    monkeypatch.setattr(downloads, "PART_BYTES", PART)


@pytest.fixture
def full(bucket: Bucket) -> Bucket:
    """Ten small objects, a large one uploaded in one go, and one uploaded in parts."""
    bucket.put(SMALL | {"data/large.bin": LARGE, "other/x": b"x"})
    bucket.put_in_parts("data/parts.bin", [LARGE, LARGE[:PART]])
    return bucket


EXPECTED = {key.removeprefix("data/"): body for key, body in SMALL.items()} | {
    "large.bin": LARGE,
    "parts.bin": LARGE + LARGE[:PART],
}


def fetch_it(bucket: Bucket, tmp_path: Path) -> Fetched:
    return fetch(bucket.url("data"), tmp_path / "scratch")


def is_complete(fetched: Fetched, expected: Mapping[str, bytes] = EXPECTED) -> bool:
    """Files, and the rows about them, hold exactly this."""
    files = {
        path.relative_to(fetched.folder).as_posix(): path.read_bytes()
        for path in fetched.folder.rglob("*")
        if path.is_file()
    }
    rows = {row.key: (row.size, row.sha256) for row in fetched.rows}
    return files == expected and rows == {
        key: (len(body), hashlib.sha256(body).hexdigest()) for key, body in expected.items()
    }


def test_a_tree_is_fetched_and_then_only_what_is_new(
    full: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_complete(fetch_it(full, tmp_path))
    assert "fetched 12 objects, 11.5 MB; 0 were here already" in capsys.readouterr().out
    full.proxy.requests.clear()
    assert is_complete(fetch_it(full, tmp_path))
    assert not full.proxy.fetched()
    full.put({"data/photos/00.jpg": b"other", "data/photos/new/1.jpg": b"new"})
    full.delete("data/photos/01.jpg")
    changed = EXPECTED | {"photos/00.jpg": b"other", "photos/new/1.jpg": b"new"}
    del changed["photos/01.jpg"]
    assert is_complete(fetch_it(full, tmp_path), changed)
    assert full.proxy.fetched() == {"data/photos/00.jpg": 1, "data/photos/new/1.jpg": 1}


def test_etags_of_the_bucket_are_in_the_rows(full: Bucket, tmp_path: Path) -> None:
    full.client.put_bucket_versioning(Bucket=full.name, VersioningConfiguration={"Status": "Enabled"})
    full.put({"data/photos/00.jpg": b"second version"})
    rows = {row.key: row for row in fetch_it(full, tmp_path).rows}
    heads = {key: full.client.head_object(Bucket=full.name, Key=f"data/{key}") for key in rows}
    assert {key: row.etag for key, row in rows.items()} == {key: head["ETag"].strip('"') for key, head in heads.items()}
    assert rows["parts.bin"].etag.endswith("-2")
    assert rows["photos/00.jpg"].version == heads["photos/00.jpg"]["VersionId"] != ""


TRANSIENT: dict[str, Fault] = {
    "500": status(500, "InternalError"),
    "503": status(503, "SlowDown"),
    "reset in the middle": half_then_reset,
    "closed in the middle": half_then_closed,
    "cut short": half_as_all,
    "flipped bytes": flipped,
    "stall": stalled(2),
}
STALLING = ("data/photos/03.jpg", "data/photos/08.jpg", "data/large.bin")


@pytest.mark.parametrize("fault", TRANSIENT)
def test_what_passes_is_survived(full: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Every object fails at first, parts of large ones included, and answers of errors are given to listings too."""
    if fault == "stall":
        monkeypatch.setattr(s3_store, "READ_TIMEOUT_S", 0.5)
        full.proxy.rules = [first(1, TRANSIENT[fault], key) for key in STALLING]
    elif fault in ("500", "503"):
        full.proxy.rules = [first(2, TRANSIENT[fault]), first(1, TRANSIENT[fault], method="HEAD")]
    else:
        full.proxy.rules = [of_objects(first(1, TRANSIENT[fault]))]
    assert is_complete(fetch_it(full, tmp_path))
    times = full.proxy.fetched()
    assert times["data/photos/03.jpg"] >= 2
    if fault != "stall":  # whose short time limit may strike others as well on a busy machine
        assert times["data/photos/00.jpg"] == (3 if fault in ("500", "503") else 2)


def of_objects(rule: Rule) -> Rule:
    return lambda request: rule(request) if request.key else None


@pytest.mark.parametrize("fault", ["500", "reset in the middle", "stall"])
def test_a_lasting_fault_is_reported_and_what_came_is_kept(
    full: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    key = "data/photos/09.jpg"
    if fault == "stall":
        monkeypatch.setattr(s3_store, "READ_TIMEOUT_S", 0.5)
    full.proxy.rules = [first(1000, TRANSIENT[fault], key)]
    with pytest.raises(
        SeamlineError, match=rf"{full.url(key)} cannot be read: 8 attempts failed.* What was fetched is"
    ):
        fetch_it(full, tmp_path)
    full.proxy.rules.clear()
    full.proxy.requests.clear()
    assert is_complete(fetch_it(full, tmp_path))
    assert set(full.proxy.fetched()) == {key}


def test_a_large_object_that_was_damaged_somewhere_is_fetched_once_more(full: Bucket, tmp_path: Path) -> None:
    full.proxy.rules = [first(1, flipped, "data/large.bin"), first(1, flipped, "data/parts.bin")]
    assert is_complete(fetch_it(full, tmp_path))
    assert full.proxy.fetched()["data/large.bin"] == 2 * 5
    assert full.proxy.fetched()["data/parts.bin"] == 2 * 6


def test_parts_of_any_sizes_are_verified(bucket: Bucket, tmp_path: Path) -> None:
    """Of the first part's size alone, the ETag of such an object would seem wrong for ever."""
    body = (LARGE + LARGE[::-1] + LARGE)[: 14 * PART]
    for sizes in ((6, 5, 3), (5, 7, 2)):
        cuts = [PART * end for end in itertools.accumulate(sizes, initial=0)]
        bucket.put_in_parts(f"data/{sizes[0]}.bin", [body[start:stop] for start, stop in itertools.pairwise(cuts)])
    bucket.proxy.rules = [first(1, flipped, "data/6.bin")]
    fetched = fetch_it(bucket, tmp_path)
    assert is_complete(fetched, {"5.bin": body, "6.bin": body})
    assert all(row.proven for row in fetched.rows)
    assert bucket.proxy.fetched() == {"data/5.bin": 14, "data/6.bin": 2 * 14}


def test_a_disk_that_takes_less_than_it_is_given(full: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(file: int, data: bytes, position: int, write: Callable[..., int] = os.pwrite) -> int:
        return write(file, data[: len(data) // 2 + 1], position)

    monkeypatch.setattr(os, "pwrite", short)
    assert is_complete(fetch_it(full, tmp_path))


@pytest.mark.parametrize("key", ["data/photos/07.jpg", "data/large.bin", "data/parts.bin"])
def test_an_object_that_always_comes_damaged_is_refused_by_name(full: Bucket, tmp_path: Path, key: str) -> None:
    full.proxy.rules = [first(1000, flipped, key)]
    with pytest.raises(SeamlineError, match=rf"{full.url(key)} came 3 times with other bytes than the store has"):
        fetch_it(full, tmp_path)
    assert not (tmp_path / "scratch" / "objects" / key.removeprefix("data/")).exists()


@pytest.mark.parametrize(
    ("key", "prefix"), [("data/photos/07.jpg", "data"), ("data/large.bin", "data"), ("", "data"), ("", "a.zip")]
)
def test_access_denied_names_what_and_shows_no_secret(full: Bucket, tmp_path: Path, key: str, prefix: str) -> None:
    full.put({"a.zip": b"x"})
    method = "HEAD" if prefix == "a.zip" else "GET"
    denied = status(403, "AccessDenied")
    full.proxy.rules = [lambda request: denied if request.method == method and request.key in (key, prefix) else None]
    with pytest.raises(SeamlineError) as error:
        fetch(full.url(prefix), tmp_path / "scratch")
    assert f"access to {full.url(key or prefix)} is denied" in str(error.value)
    assert not any(secret in str(error.value) for secret in SECRETS)


SECRETS = (CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"])


@pytest.mark.parametrize("key", ["data/photos/07.jpg", "data/large.bin"])
def test_an_object_deleted_while_it_is_pulled_is_left_out(full: Bucket, tmp_path: Path, key: str) -> None:
    full.proxy.before = once(key, lambda: full.delete(key))
    expected = {name: body for name, body in EXPECTED.items() if f"data/{name}" != key}
    assert is_complete(fetch_it(full, tmp_path), expected)


@pytest.mark.parametrize("key", ["data/photos/07.jpg", "data/large.bin"])
def test_an_object_replaced_while_it_is_pulled_is_the_new_one(full: Bucket, tmp_path: Path, key: str) -> None:
    """Also one of the same size, of which a part came before."""
    name = key.removeprefix("data/")
    new = EXPECTED[name][::-1]
    full.proxy.before = once(key, lambda: full.put({key: new}), at=2 if name == "large.bin" else 1)
    assert is_complete(fetch_it(full, tmp_path), EXPECTED | {name: new})


def once(key: str, action: Callable[[], None], at: int = 1) -> Callable[[Request], None]:
    """Do something before the first, or another, request for an object is answered."""
    count = itertools.count(1)

    def before(request: Request) -> None:
        if request.method == "GET" and request.key == key and next(count) == at:
            action()

    return before


def test_an_object_that_is_listed_and_never_there_is_named(full: Bucket, tmp_path: Path) -> None:
    full.proxy.rules = [first(1000, status(404, "NoSuchKey"), "data/photos/07.jpg")]
    with pytest.raises(SeamlineError, match=rf"{full.url('data/photos/07.jpg')} keeps changing, or is listed and not"):
        fetch_it(full, tmp_path)


def test_changes_are_followed_as_long_as_less_is_missing(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each object is replaced just when it is fetched, one after the other."""
    monkeypatch.setattr(downloads, "CONNECTIONS", 1)
    names = [f"{number}.jpg" for number in range(6)]
    bucket.put({f"data/{name}": b"old" for name in names})
    hooks = [once(f"data/{name}", functools.partial(bucket.put, {f"data/{name}": b"new"})) for name in names]

    def before(request: Request) -> None:
        for hook in hooks:
            hook(request)

    bucket.proxy.before = before
    assert is_complete(fetch_it(bucket, tmp_path), dict.fromkeys(names, b"new"))


def test_a_range_that_is_not_there_any_more_is_looked_at_anew(full: Bucket, tmp_path: Path) -> None:
    full.proxy.rules = [first(1, status(416, "InvalidRange"), "data/large.bin")]
    assert is_complete(fetch_it(full, tmp_path))


def test_a_change_after_the_last_listing_is_noticed(full: Bucket, tmp_path: Path) -> None:
    fetched = fetch_it(full, tmp_path)
    fetched.check_unchanged()
    full.put({"data/photos/00.jpg": b"later"})
    with pytest.raises(SeamlineError, match="has changed while it was pulled"):
        fetched.check_unchanged()


def test_the_last_look_is_as_patient_as_the_pull(full: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours of pulling are not thrown away for a second without network."""
    fetched = fetch_it(full, tmp_path)
    with nobody_there(monkeypatch), pytest.raises(SeamlineError, match="8 attempts failed"):
        fetched.check_unchanged()


def test_one_source_is_kept_once_and_others_no_longer(full: Bucket, tmp_path: Path) -> None:
    fetch(full.url("other"), tmp_path / "scratch")
    fetch_it(full, tmp_path)
    full.proxy.requests.clear()
    fetched = fetch(full.url("data/").replace("s3", "S3", 1), tmp_path / "scratch")
    assert is_complete(fetched)
    assert not full.proxy.fetched()
    assert fetched.cache is not None
    fetched.cache.drop_others()
    assert [path.parent for path in (tmp_path / "scratch").glob("*/objects")] == [fetched.cache.folder]


def test_what_is_kept_is_not_believed(full: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fetch_it(full, tmp_path).folder
    damaged = {"photos/00.jpg": b"x" * 1000, "photos/01.jpg": b"short", "large.bin": LARGE[:-1] + b"x"}
    for name, body in damaged.items():
        (folder / name).write_bytes(body)
    (folder / "photos/02.jpg").unlink()
    (folder / "photos" / "stranger.jpg").write_bytes(b"1")
    full.proxy.requests.clear()
    assert is_complete(fetch_it(full, tmp_path))
    assert set(full.proxy.fetched()) == {f"data/{name}" for name in [*damaged, "photos/02.jpg"]}
    assert "fetched again 4: kept from an earlier pull, and damaged since" in capsys.readouterr().out


def test_a_large_object_resumes_where_it_was_cut(full: Bucket, tmp_path: Path) -> None:
    """Parts that were whole are not fetched again; one that was damaged on the disk since is."""
    served = itertools.count()

    def deny_when_the_others_are_written(handler: Handler, answer: Answer) -> None:
        while sum(path.read_text().count("\n") for path in tmp_path.rglob("*.journal")) < 3:
            time.sleep(0.01)
        status(403, "AccessDenied")(handler, answer)

    def deny_later(request: Request) -> Fault | None:
        if request.method == "HEAD" or not request.key.endswith(".bin"):
            return None
        later = request.key != "data/large.bin" or next(served) >= 3
        return deny_when_the_others_are_written if later else None

    full.proxy.rules = [deny_later]
    with pytest.raises(SeamlineError, match="denied"):
        fetch(full.url("data"), tmp_path / "scratch")
    (journal,) = [path for path in tmp_path.rglob("*.journal") if path.with_suffix(".part").stat().st_size == 5 * PART]
    done = [int(line.split()[0]) for line in journal.read_text().splitlines()]
    assert len(done) == 3  # what was under way when the error came is given up
    with journal.with_suffix(".part").open("r+b") as part:
        part.seek(done[0] * PART + 5)
        part.write(b"damage")
    with journal.open("a") as lines:
        lines.write("4 0123abc")  # as a kill leaves it
    full.proxy.rules.clear()
    full.proxy.requests.clear()
    assert is_complete(fetch_it(full, tmp_path))
    missing = set(range(5)) - set(done[1:])
    ranges = [request.range for request in full.proxy.requests if request.key == "data/large.bin" and request.range]
    assert sorted(ranges) == sorted(f"bytes={number * PART}-{(number + 1) * PART - 1}" for number in missing)
    assert not list((tmp_path / "scratch").rglob("*.part"))


def test_more_than_the_disk_holds_is_refused_before_anything_is_fetched(
    full: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(tmp_path)._replace(free=3_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(SeamlineError, match=r"11\.5 MB have to be fetched, and .* has room for 3\.0 MB"):
        fetch_it(full, tmp_path)
    assert not full.proxy.fetched()


def test_parts_of_a_replaced_version_are_no_space(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put({"data/large.bin": LARGE})
    last = f"bytes={4 * PART}-"
    bucket.proxy.rules = [lambda request: status(403, "AccessDenied") if request.range.startswith(last) else None]
    with pytest.raises(SeamlineError, match="denied"):
        fetch_it(bucket, tmp_path)
    bucket.put({"data/large.bin": LARGE[::-1]})
    room = shutil.disk_usage(tmp_path)._replace(free=5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(SeamlineError, match=r"5\.2 MB have to be fetched, and .* has room for 5\.0 MB"):
        fetch_it(bucket, tmp_path)
    assert not list(tmp_path.rglob("*.part"))


FULL_DISK = """
import shutil, sys
from pathlib import Path
from seamline.base.errors import SeamlineError
from seamline.ingest.remote.fetch import fetch
shutil.disk_usage = lambda _, real=shutil.disk_usage: real("/")._replace(free=10**12)  # others fill it meanwhile
try:
    fetch(sys.argv[1], Path(sys.argv[2]))
except SeamlineError as error:
    print(error)
"""
IN_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
CAN_MOUNT = (
    shutil.which("unshare") is not None
    and not subprocess.run([*IN_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode
)


@pytest.mark.skipif(not CAN_MOUNT, reason="small disks cannot be mounted here")
def test_a_full_disk_is_reported_and_leaves_what_came(full: Bucket, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    inner = (
        f"mount -t tmpfs -o size=4m tmpfs {tmp_path}/disk && {sys.executable} -c '{FULL_DISK}' {full.url('data')} "
        f"{tmp_path}/disk/scratch && find {tmp_path}/disk -name '*.jpg' | wc -l"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([*IN_NAMESPACE, "sh", "-c", inner], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "there is no space left in" in lines[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (["../out.jpg"], "the name '../out.jpg' leads outside"),
        (["/etc/passwd"], "the name '/etc/passwd' leads outside"),
        (["a//b.jpg"], "the key 'a//b.jpg' cannot be the name of a file"),
        (["./b.jpg"], "the key './b.jpg' cannot be the name of a file"),
        (["a", "a/b.jpg"], "the key 'a' would have to be a file, and the folder of 'a/b.jpg'"),
        (["a" * 256], "more than 255 bytes"),
    ],
)
def test_keys_that_are_no_file_names_are_refused_and_nothing_is_fetched(
    bucket: Bucket, tmp_path: Path, keys: list[str], sentence: str
) -> None:
    bucket.put({f"data/{key}": b"x" for key in [*keys, "good.jpg"]})
    with pytest.raises(SeamlineError, match=re.escape(sentence)):
        fetch_it(bucket, tmp_path)
    assert not bucket.proxy.fetched()


def test_keys_of_any_kind_become_files(bucket: Bucket, tmp_path: Path) -> None:
    names = ["ü ü/ß+#%20&'.jpg", "日本/1.jpg", "a b/c?d=e.jpg", "...", "x/.hidden"]
    objects = {f"data/{name}": name.encode() for name in names}
    bucket.put(objects | {"data/": b"", "data/empty folder/": b"", "data/nothing.txt": b"", "data2/no": b"no"})
    expected = {name: name.encode() for name in names} | {"nothing.txt": b""}
    assert is_complete(fetch_it(bucket, tmp_path), expected)


def test_more_objects_than_a_page_of_a_listing_has(
    full: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    assert is_complete(fetch_it(full, tmp_path))
    assert sum(request.key == "" for request in full.proxy.requests) >= 2 * 4


def test_a_listing_resumes_where_it_failed(full: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One page in five is refused, of six: from the start, none would ever come to its end."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    listings = itertools.count(1)
    refused = status(503, "SlowDown")
    full.proxy.rules = [lambda request: refused if request.key == "" and next(listings) % 5 == 0 else None]
    assert is_complete(fetch_it(full, tmp_path))


def test_a_listing_that_is_cut_is_refused(full: Bucket, tmp_path: Path) -> None:
    cut = edited(b"<IsTruncated>false", b"<IsTruncated>true")
    full.proxy.rules = [lambda request: cut if request.key == "" else None]
    with pytest.raises(SeamlineError, match="the server cuts its listing short, and does not send the rest"):
        fetch_it(full, tmp_path)


def test_listings_of_lesser_servers(bucket: Bucket, tmp_path: Path) -> None:
    """One that has a key twice, and once without an ETag."""
    bucket.put({"data/a": b"one", "data/large.bin": LARGE})
    twice = edited(b"</Contents>", b"</Contents><Contents><Key>data/a</Key><Size>3</Size></Contents>")
    bucket.proxy.rules = [lambda request: twice if request.key == "" else None]
    assert is_complete(fetch_it(bucket, tmp_path), {"a": b"one", "large.bin": LARGE})


@pytest.mark.parametrize("objects", [{"data": b""}, {"data": b"x", "data/a": b"x"}])
def test_a_prefix_that_is_an_object_too_is_refused(bucket: Bucket, tmp_path: Path, objects: dict[str, bytes]) -> None:
    """DVC takes it for a file, and would see no change below it."""
    bucket.put(objects)
    for prefix in ("data", "data/"):
        with pytest.raises(SeamlineError, match=f"{bucket.url(prefix)} is an object that is not an archive, and"):
            fetch(bucket.url(prefix), tmp_path / "scratch")


def test_a_prefix_that_became_a_folder_and_the_other_way_round(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put({"data/a": b"1", "data/b/c": b"2"})
    assert is_complete(fetch_it(bucket, tmp_path), {"a": b"1", "b/c": b"2"})
    for key in ("data/a", "data/b/c"):
        bucket.delete(key)
    bucket.put({"data/a/d": b"3", "data/b": b"4"})
    assert is_complete(fetch_it(bucket, tmp_path), {"a/d": b"3", "b": b"4"})


def test_an_archive_of_a_bucket_is_unpacked_and_kept(bucket: Bucket, tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x/1.txt": b"one"})
    bucket.put({"some/a.zip": archive.read_bytes(), "some/a.zip.md5": b"no"})
    for _ in range(2):
        fetched = fetch(bucket.url("some/a.zip"), tmp_path / "scratch")
        assert (fetched.folder / "x" / "1.txt").read_bytes() == b"one"
        assert [row.key for row in fetched.rows] == ["a.zip"]
    assert bucket.proxy.fetched() == {"some/a.zip": 1}


@pytest.mark.parametrize(
    ("prefix", "sentence"),
    [("nothing", "there is nothing at s3://"), ("nothing.zip", "there is nothing at s3://")],
)
def test_what_is_not_there_is_said(bucket: Bucket, tmp_path: Path, prefix: str, sentence: str) -> None:
    with pytest.raises(SeamlineError, match=sentence):
        fetch(bucket.url(prefix), tmp_path / "scratch")
    with pytest.raises(SeamlineError, match=r"no such bucket|nothing at"):
        fetch(f"s3://no-such-{bucket.name}/{prefix}", tmp_path / "scratch")


def test_a_bucket_that_cannot_be_reached_is_reported_soon_with_what_to_do(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = list[int]()

    class Counted(random.Random):
        def uniform(self, a: float, b: float) -> float:
            waits.append(1)
            return super().uniform(a, b)

    monkeypatch.setattr(random, "Random", Counted)  # each wait is as long as one of these says
    with (
        nobody_there(monkeypatch),
        pytest.raises(SeamlineError, match=r"cannot be reached .*dvc repro --downstream subset"),
    ):
        fetch_it(bucket, tmp_path)
    assert len(waits) == 1  # after seven it would be minutes


@contextlib.contextmanager
def nobody_there(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An endpoint that is bound and does not listen: connections are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        yield


def test_missing_credentials_are_reported(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SeamlineError, match=r"no AWS credentials were found .*AWS_PROFILE"):
        fetch_it(bucket, tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SeamlineError, match="nobody"):
        fetch_it(bucket, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "nonsense"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:99999"),
        ("AWS_DEFAULT_REGION", "x y"),
    ],
)
def test_a_bad_configuration_is_one_sentence(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SeamlineError, match=re.escape(value)):
        fetch_it(bucket, tmp_path)


@pytest.mark.parametrize(("name", "value"), [("AWS_ACCESS_KEY_ID", "AKID\n"), ("AWS_CA_BUNDLE", "/nowhere.pem")])
def test_what_will_not_pass_is_not_tried_again(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    if name == "AWS_CA_BUNDLE":
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.proxy.endpoint.replace("http", "https"))
    monkeypatch.setenv(name, value)
    with pytest.raises(SeamlineError, match=r"cannot be read \(HTTPClientError: .*(control character|No such file)"):
        fetch_it(bucket, tmp_path)


@pytest.mark.parametrize(("number", "code"), [(400, "ExpiredToken"), (403, "InvalidAccessKeyId")])
def test_the_reason_is_reported_of_an_archive_too(bucket: Bucket, tmp_path: Path, number: int, code: str) -> None:
    """Which is asked for by HEAD, whose answers have no body that would say."""
    bucket.proxy.rules = [lambda request: status(number, code)]
    with pytest.raises(SeamlineError, match=code):
        fetch(bucket.url("a.zip"), tmp_path / "scratch")


@pytest.mark.parametrize("name", ["Bad_Bucket!", ""])
def test_a_bad_bucket_name_is_one_sentence(bucket: Bucket, tmp_path: Path, name: str) -> None:
    with pytest.raises(SeamlineError, match="ucket"):
        fetch(f"s3://{name}/x", tmp_path / "scratch")


MEASURED = """
import sys
from pathlib import Path
from seamline.ingest.remote.fetch import fetch
from seamline.benchmark.machine import peak_rss_mb
fetch(sys.argv[1], Path(sys.argv[2]))
print(peak_rss_mb())
"""


def test_keys_that_would_be_one_file_are_refused_before_one_is_fetched(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "tells_case", lambda folder: False)
    bucket.put({"data/A.jpg": b"1", "data/a.jpg": b"2"})
    with pytest.raises(SeamlineError, match=r"^pull\.source: .*'A\.jpg' and 'a\.jpg' are one file on this disk"):
        fetch(bucket.url("data"), tmp_path)
    assert list(tmp_path.rglob("*.jpg")) == []


def test_memory_does_not_grow_with_the_object(bucket: Bucket, tmp_path: Path) -> None:
    parts = [bytes([number]) * (8 << 20) for number in range(12)]
    bucket.put_in_parts("small/a.bin", parts[:1])
    bucket.put_in_parts("large/a.bin", parts)
    peaks_mb = {}
    for prefix in ("small", "large"):
        command = [sys.executable, "-c", MEASURED, bucket.url(prefix), str(tmp_path / prefix)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks_mb[prefix] = float(done.stdout.splitlines()[-1])
    assert peaks_mb["large"] < peaks_mb["small"] + 16  # 92 MB more were fetched


def test_a_log_gets_lines_and_a_terminal_a_bar(full: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        fetch_it(full, tmp_path)
    assert re.search(r"fetched \d+ of 12 objects, [\d.]+ MB of 11\.5 MB", out.getvalue())
