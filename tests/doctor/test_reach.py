"""Sources looked at before they are pulled: folders, archives, buckets and the web, well and not."""

from __future__ import annotations

import asyncio
import socket
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import pyzipper

from seamline.base.errors import SeamlineError
from seamline.doctor import reach
from seamline.doctor.reach import Size, look
from seamline.ingest import archives
from tests.ingest.test_archives import make_zip
from tests.ingest.test_fetch import Web
from tests.s3 import Bucket


def test_a_folder_is_its_files_and_what_is_in_its_archives(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "1.jpg").write_bytes(b"x" * 10)
    assert look(str(tmp_path)) == Size(1, 10)
    make_zip(tmp_path / "train.zip", {"2.jpg": b"x" * 100, "3.jpg": b"x" * 100})
    assert look(str(tmp_path)) == Size(3, 210)
    (tmp_path / "train").mkdir()  # where it has been unpacked to, so that pull leaves it alone
    assert look(str(tmp_path)) == Size(2, 10 + (tmp_path / "train.zip").stat().st_size)


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"x" * 10)
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "gone").symlink_to(tmp_path / "nothing")
    assert look(str(tmp_path)) == Size(1, 10)


def test_archives_are_what_is_in_them(tmp_path: Path) -> None:
    packed = make_zip(tmp_path / "a.zip", {"1.json": b"0" * 100_000})
    assert look(str(packed)) == Size(1, 100_000)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(packed)
    assert look(str(tmp_path / "a.tar")) == Size(1, (tmp_path / "a.tar").stat().st_size)


def test_sources_that_pull_would_refuse_are_refused_with_its_sentences(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match="does not exist; it has to be a folder, an archive or a URL"):
        look(str(tmp_path / "nothing"))
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(SeamlineError, match="is neither a folder nor an archive"):
        look(str(tmp_path / "a.rar"))
    (tmp_path / "a.zip").write_bytes(b"this is no zip")
    with pytest.raises(SeamlineError, match=r"a\.zip: is not a readable archive"):
        look(str(tmp_path / "a.zip"))
    with pytest.raises(SeamlineError, match="allowed are s3://, https:// and http://"):
        look("nosuch://x/y")


def test_an_archive_with_a_password_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(archives.PASSWORD_VARIABLE, raising=False)
    packed = tmp_path / "a.zip"
    with pyzipper.AESZipFile(packed, "w", encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(b"secret")
        archive.writestr("1.txt", b"one")
    with pytest.raises(SeamlineError, match="is protected by a password"):
        look(str(packed))
    monkeypatch.setenv(archives.PASSWORD_VARIABLE, "secret")
    assert look(str(packed)) == Size(1, 3)


def test_a_folder_that_takes_too_long_is_at_least_what_was_seen(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"x")
    assert reach.size_of(archives.walked(tmp_path), time.monotonic() - 1) == Size(0, 0, whole=False)
    assert reach.size_of(archives.walked(tmp_path), time.monotonic() + 900) == Size(1, 1)


def test_bytes_below_a_folder(tmp_path: Path) -> None:
    assert reach.bytes_below(tmp_path / "nothing") == 0
    (tmp_path / "a.zip").write_bytes(b"no zip")  # as it lies there
    assert reach.bytes_below(tmp_path) == 6


def test_buckets(bucket: Bucket) -> None:
    bucket.put({"garments/a.jpg": b"x" * 10, "garments/b/c.jpg": b"x" * 20, "garments/b/": b"", "other": b"x"})
    bucket.put({"all.zip": b"x" * 50})
    assert look(bucket.url("garments")) == Size(2, 30)
    assert look(bucket.url("all.zip")) == Size(1, 50, archive_bytes=50)
    with pytest.raises(SeamlineError, match=f"there is nothing at {bucket.url('nothing')}"):
        look(bucket.url("nothing"))
    with pytest.raises(SeamlineError, match="there is no such bucket"):
        look("s3://no-such-bucket/garments")


class Pages:
    """A client of a bucket of as many pages, and the store around it."""

    bucket, prefix, shown = "b", "p/", "s3://b/p"

    def __init__(self, count: int) -> None:
        self.client, self.count, self.asked = self, count, 0

    async def list_objects_v2(self, **asked: str) -> dict[str, Any]:
        assert asked.get("ContinuationToken", "0") == str(self.asked)
        self.asked += 1
        page = {"Contents": [{"Size": 5}, {"Size": 0}], "IsTruncated": self.asked < self.count}
        return {**page, "NextContinuationToken": str(self.asked)}


def test_a_bucket_is_counted_to_its_end_or_as_far_as_there_is_time() -> None:
    assert asyncio.run(reach.bucket_size(Pages(3), time.monotonic() + 900)) == Size(3, 15)
    assert asyncio.run(reach.bucket_size(Pages(3), time.monotonic() - 1)) == Size(1, 5, whole=False)
    assert asyncio.run(reach.bucket_size(Pages(1), time.monotonic() - 1)) == Size(1, 5)


def test_the_web() -> None:
    web = Web(b"x" * 70)
    assert look(web.url) == Size(1, 70, archive_bytes=70)
    with pytest.raises(SeamlineError, match=f"there is nothing at {web.url}.nothing.zip"):
        look(f"{web.url}.nothing.zip")
    web.shutdown()
    web.server_close()
    with pytest.raises(SeamlineError, match="cannot be reached"):
        look(web.url)


def test_a_server_that_never_answers_is_not_waited_for() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        begun = time.monotonic()
        with pytest.raises(SeamlineError, match=r"cannot be reached \(no answer within 2 s\)"):
            look(f"http://127.0.0.1:{server.getsockname()[1]}/a.zip", limit_s=2)
        assert 2 <= time.monotonic() - begun < 60  # not until the other side gives up, which is never
