"""Bring a source to this machine: a folder or archive, local, on S3 or on the web."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from seamline.base.errors import SeamlineError
from seamline.base.progress import size_text
from seamline.base.urls import is_remote, shown
from seamline.ingest.archives import SUFFIXES, DamagedArchive, files_below, is_archive, unpacked
from seamline.ingest.manifest import Row, files_to_rows
from seamline.ingest.remote.cache import ObjectCache
from seamline.ingest.remote.objects import RemoteObject, Store


class Fetched(msgspec.Struct):
    """A source that is on this machine."""

    folder: Path  # unpacked
    rows: Sequence[Row]  # its objects or files, as they came
    url: str | None = None  # where it is remote
    listing: Sequence[RemoteObject] = ()
    cache: ObjectCache | None = None

    def check_unchanged(self) -> None:
        """Look at a remote source once more, when its data have become the stage's output.

        DVC notes what the source is like after the stage has ended (dvc_hint/ sees to it that it looks again):
        what changed in the meantime would never be pulled. From here to there it is a second.

        Raises:
            SeamlineError: when its objects are no longer those that were fetched.
        """
        if self.url is not None and asyncio.run(listed_again(self.url)) != self.listing:
            raise SeamlineError(
                f"pull.source: {shown(self.url)} has changed while it was pulled; run the same command again, which "
                "fetches only what is new."
            )


def fetch(source: str, scratch: Path) -> Fetched:
    """A local folder with the source's files, unpacked below `scratch` where it is or has archives.

    What is fetched is kept below `scratch`, and taken from there when the source is pulled again.

    Raises:
        SeamlineError: when the source does not exist, cannot be reached, or is neither a folder nor an archive.
    """
    if is_remote(source):
        return fetch_remote(source, scratch)
    local = Path(source)
    if not local.exists():
        raise SeamlineError(f"pull.source: {source!r} does not exist; it has to be a folder, an archive or a URL.")
    if not local.is_dir() and not is_archive(local):
        raise SeamlineError(
            f"pull.source: {source!r} is neither a folder nor an archive; archives end in {', '.join(SUFFIXES)}."
        )
    files = [(path.relative_to(local).as_posix(), path) for path in files_below(local)] if local.is_dir() else []
    return Fetched(unpacked(local, scratch), files_to_rows(files or [(local.name, local)]))


def fetch_remote(url: str, scratch: Path) -> Fetched:
    from seamline.ingest.remote.downloads import Download  # takes a while, and local sources do not need it

    cache = ObjectCache(scratch / cache_name(url))

    async def download() -> tuple[list[RemoteObject], Download]:
        async with opened(url) as store:
            work = Download(store, cache)
            return await work.run(), work

    listing, work = asyncio.run(download())
    rows = [cache.rows[item.key] for item in listing]
    print(
        f"fetched {work.fetched['objects']:,} objects, {size_text(work.fetched['bytes'])}; "
        f"{len(rows) - work.fetched['objects']:,} were here already and have been verified"
    )
    if cache.damaged:
        print(f"fetched again {cache.damaged:,}: kept from an earlier pull, and damaged since")
    unproven = [row.key for row in rows if not row.proven]
    if unproven:
        print(f"not held against a checksum {len(unproven):,}: the store has none, only sizes were compared")
    archive = cache.path(listing[0].key) if len(listing) == 1 else None
    try:
        folder = unpacked(archive if archive is not None and is_archive(archive) else cache.objects, scratch)
    except DamagedArchive:
        for key in unproven:  # it may have come damaged: not to be taken from here again
            if is_archive(cache.path(key)):
                cache.forget(key)
        raise
    return Fetched(folder, rows, url, listing, cache)


def cache_name(url: str) -> str:
    """Of the folder where a source is kept; one for s3://bucket/photos and S3://bucket/photos/, as they are for DVC."""
    scheme, _, rest = url.partition("://")
    return hashlib.sha256(f"{scheme.lower()}://{rest.rstrip('/')}".encode()).hexdigest()[:16]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """The store behind an address.

    Raises:
        SeamlineError: for an address of another kind.
    """
    from seamline.ingest.remote.downloads import CONNECTIONS

    scheme = urlsplit(url).scheme
    if scheme == "s3":
        from seamline.ingest.remote.s3 import open_s3

        async with open_s3(url, CONNECTIONS) as bucket:
            yield bucket
    elif scheme in ("https", "http"):
        from seamline.ingest.remote.web import open_web

        async with open_web(url, CONNECTIONS) as web:
            yield web
    else:
        raise SeamlineError(f"pull.source: {shown(url)!r} cannot be read; allowed are s3://, https:// and http://.")


async def listed_again(url: str) -> list[RemoteObject]:
    from seamline.ingest.remote.downloads import listed
    from seamline.ingest.remote.retries import Retries

    async with opened(url) as store:
        return await listed(store, Retries(reached=True))
