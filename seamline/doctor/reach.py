"""Whether a source can be read, and how large it is, within seconds and without fetching it."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from seamline.base.errors import SeamlineError
from seamline.base.process import SCRATCH
from seamline.base.urls import is_remote, shown
from seamline.ingest.archives import PASSWORD_VARIABLE, first_line, folder_of, is_archive, password, walked
from seamline.ingest.remote.fetch import fetch, opened

LIMIT_S = 10.0  # for an answer over the network
LISTING_S = 4.0  # for counting; then the result is "at least"


class Size(NamedTuple):
    """The size of a source."""

    files: int
    bytes: int  # unpacked
    archive_bytes: int = 0  # of an archive that is kept beside the unpacked files
    whole: bool = True  # False: the time was too short to see all of it


def look(source: str, limit_s: float = LIMIT_S) -> Size:
    """Reach a source as pull does; returns its size.

    Raises:
        SeamlineError: pull's own sentence when it does not exist or cannot be read; or that no answer came in time.
    """
    try:
        return look_remotely(source, limit_s) if is_remote(source) else look_locally(Path(source))
    except OSError as error:
        raise SeamlineError(f"pull.source: {shown(source)!r} cannot be read ({error.strerror or error}).") from None


def look_locally(source: Path) -> Size:
    if not source.is_dir() and not is_archive(source):
        fetch(str(source), SCRATCH / "pull")  # raises pull's error before anything is written
    if source.is_dir():
        return size_of(walked(source), time.monotonic() + LISTING_S)
    return archive_size(source)


def size_of(paths: Iterator[Path], until_s: float) -> Size:
    """Files and bytes, with archives counted as their contents; stops at that time."""
    files = size = 0
    for path in paths:
        if time.monotonic() > until_s:
            return Size(files, size, whole=False)
        if is_archive(path) and not folder_of(path).is_dir():  # otherwise it is unpacked there already
            inside = archive_size(path)
            files, size = files + inside.files, size + inside.bytes
        elif path.is_file():
            files, size = files + 1, size + path.stat().st_size
    return Size(files, size)


def archive_size(path: Path) -> Size:
    """The contents of an archive; of a tar, which has no directory, the size of the file: photos hardly shrink."""
    if not path.name.lower().endswith(".zip"):
        return Size(1, path.stat().st_size)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise SeamlineError(f"{path.name}: is not a readable archive ({first_line(error)}).") from None
    if any(member.flag_bits & 0x1 for member in members) and not password():
        raise SeamlineError(
            f"{path.name}: is protected by a password; put it into the environment variable {PASSWORD_VARIABLE}."
        )
    return Size(len(members), sum(member.file_size for member in members))


def bytes_below(folder: Path) -> int:
    """On the disk; 0 for a missing folder; stops when counting takes too long."""
    until_s, size = time.monotonic() + LISTING_S, 0
    for path in walked(folder):
        if time.monotonic() > until_s:
            break
        size += path.lstat().st_size
    return size


def look_remotely(url: str, limit_s: float) -> Size:
    """In a process of its own, which can be ended: a name server that does not answer would block a thread."""
    from seamline.ingest.remote.retries import REPRO_RESUMES

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return pool.apply_async(listed_size, (url,)).get(limit_s)
        except multiprocessing.TimeoutError:
            raise SeamlineError(
                f"pull.source: {shown(url)} cannot be reached (no answer within {limit_s:g} s); {REPRO_RESUMES}."
            ) from None


def listed_size(url: str) -> Size:
    return asyncio.run(first_listing(url))


async def first_listing(url: str) -> Size:
    from seamline.ingest.remote.downloads import listed
    from seamline.ingest.remote.retries import Retries
    from seamline.ingest.remote.s3 import S3Store

    async with opened(url) as store:
        if isinstance(store, S3Store) and not store.single:
            await Retries().with_(store.check_prefix, store.shown)
            return await bucket_size(store, time.monotonic() + LISTING_S)
        [archive] = await listed(store, Retries())
        return Size(1, archive.size or 0, archive_bytes=archive.size or 0)


async def bucket_size(store: Any, until_s: float) -> Size:
    """Page by page, so that it can stop; store.listed() lists everything."""
    from seamline.ingest.remote.retries import Retries
    from seamline.ingest.remote.s3 import translated

    retries = Retries()
    asked = {"Bucket": store.bucket, "Prefix": store.prefix}

    async def page() -> Any:
        with translated(store.shown):
            return await store.client.list_objects_v2(**asked)

    files = size = 0
    while True:
        answer = await retries.with_(page, store.shown)
        sizes = [entry["Size"] for entry in answer.get("Contents", []) if entry["Size"]]
        files, size = files + len(sizes), size + sum(sizes)
        if not answer.get("IsTruncated") or not answer.get("NextContinuationToken"):
            break
        if time.monotonic() > until_s:
            return Size(files, size, whole=False)
        asked["ContinuationToken"] = answer["NextContinuationToken"]
    if not files:
        raise SeamlineError(f"pull.source: there is nothing at {store.shown}.")
    return Size(files, size)
