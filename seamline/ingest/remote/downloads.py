"""A store's objects, fetched many at once into the folder where they are kept: tried again, resumed, verified.

An object is taken over when its bytes have been held against the listing's size and the store's checksums. Large ones
come in parts, several at once; no more than a chunk of each is in memory.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from seamline.base.errors import SeamlineError
from seamline.base.files import refuse_alike
from seamline.base.progress import ByteProgress, size_text
from seamline.ingest.manifest import Row
from seamline.ingest.remote.cache import ObjectCache, PartFile, check_keys, is_full
from seamline.ingest.remote.checksums import WRONG_ETAG, Digests, etag_parts
from seamline.ingest.remote.objects import Changed, Damaged, Facts, RemoteObject, Store, Transient
from seamline.ingest.remote.retries import RUN_AGAIN, Retries

CONNECTIONS = 16
PART_BYTES = 32 << 20
CHUNK_BYTES = 1 << 20
STUCK_LISTINGS = 3  # after one another, none with less to fetch than any before


class PartJob(NamedTuple):
    item: RemoteObject
    number: int
    part_file: PartFile


async def listed(store: Store, retries: Retries) -> list[RemoteObject]:
    """What is there now, in the order of the keys.

    Raises:
        SeamlineError: when it is nothing, cannot be read, or cannot all be files below one folder.
    """
    found, token = await retries.with_(functools.partial(store.page, ""), store.shown)
    while token:
        page, token = await retries.with_(functools.partial(store.page, token), store.shown)
        found += page
    items = sorted({item.key: item for item in found}.values())
    check_keys(items, store.shown)
    if not items:
        raise SeamlineError(f"pull.source: there is nothing at {store.shown}.")
    return items


class Download:
    """A pull from a store into the folder where its objects are kept."""

    def __init__(self, store: Store, cache: ObjectCache) -> None:
        self.store, self.cache = store, cache
        self.retries = Retries()
        self.fetched = Counter[str]()

    async def run(self) -> list[RemoteObject]:
        """Fetch what is missing until a listing has nothing new; returns that listing."""
        changed = ""
        least: float = math.inf
        stuck = 0
        while True:
            items = await listed(self.store, self.retries)
            refuse_alike([item.key for item in items], self.cache.objects, f"pull.source: {self.store.shown}")
            missing = await asyncio.to_thread(self.cache.missing, items)
            await asyncio.to_thread(self.cache.make_room, items)
            self.cache.keep_parts(missing, PART_BYTES)
            if not missing:
                return items
            stuck = 0 if len(missing) < least else stuck + 1
            least = min(least, len(missing))
            if stuck == STUCK_LISTINGS:
                raise SeamlineError(
                    f"pull.source: {changed or self.store.shown} keeps changing, or is listed and not there; pull "
                    f"again when nobody writes there. {RUN_AGAIN}."
                )
            check_space(missing, self.cache.folder, self.cache.parts)
            try:
                await self.fetch(missing)
            except Changed as error:
                changed = str(error)

    async def fetch(self, items: Sequence[RemoteObject]) -> None:
        """Raises Changed for an object that is not as listed, once nothing is under way any more."""
        with closing(ByteProgress(len(items), sum(item.size or 0 for item in items))) as progress:
            part_files = await asyncio.to_thread(self.part_files, items)
            progress.add(sum(part_file.bytes_done() for part_file in part_files.values()))
            jobs = items_to_jobs(items, part_files)
            workers = [asyncio.create_task(self.work(jobs, progress)) for _ in range(CONNECTIONS)]
            try:
                await asyncio.gather(*workers)
            except OSError as error:
                if is_full(error):
                    raise SeamlineError(
                        f"pull.source: there is no space left in {self.cache.folder} for {self.store.shown}. "
                        f"{RUN_AGAIN}."
                    ) from None
                raise
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    def part_files(self, items: Sequence[RemoteObject]) -> dict[str, PartFile]:
        """By their keys, the large objects: those that come in parts, which nothing but an ETag holds together."""
        return {
            item.key: PartFile(self.cache.parts, item, PART_BYTES)
            for item in items
            if self.store.in_parts and item.etag and (item.size or 0) > PART_BYTES
        }

    async def work(self, jobs: Iterator[RemoteObject | PartJob], progress: ByteProgress) -> None:
        for job in jobs:
            if isinstance(job, PartJob):
                action, key = functools.partial(self.fetch_part, job, progress), job.item.key
            else:
                action, key = functools.partial(self.fetch_whole, job, progress), job.key
            await self.retries.with_(action, self.store.address(key))

    async def fetch_whole(self, item: RemoteObject, progress: ByteProgress) -> None:
        facts = await self.store.facts(item) if (etag_parts(item.etag) or 1) > 1 else None
        file = self.cache.parts / f"{hashlib.sha256(item.key.encode()).hexdigest()[:32]}.whole"
        with counting(progress) as count:
            async with self.store.read(item, 0, None) as body:
                digests = Digests(facts or body.facts)
                with file.open("wb") as stream:
                    async for data in body.chunks:
                        stream.write(data)
                        digests.update(data)
                        count(len(data))
            await self.take_over(item, file, digests, progress)

    async def fetch_part(self, job: PartJob, progress: ByteProgress) -> None:
        """Fetch a part; after the last one the whole object is verified and taken over.

        Of a damaged object nobody can tell which part it is: whoever came last then fetches all of them once more.
        """
        item, part_file = job.item, job.part_file
        for number in part_file.missing() if part_file.was_damaged else [job.number]:
            if number not in part_file.done:
                await self.fetch_range(item, part_file, number, progress)
        if part_file.missing():
            return
        facts = await self.store.facts(item)
        digests = await asyncio.to_thread(file_to_digests, part_file.path, facts)
        try:
            await self.take_over(item, part_file.path, digests, progress)
        except Damaged:
            progress.add(-digests.size)
            part_file.start_over()
            raise

    async def fetch_range(self, item: RemoteObject, part_file: PartFile, number: int, progress: ByteProgress) -> None:
        start, stop = part_file.ranges[number]
        digest, position = hashlib.sha256(), start
        with counting(progress) as count, part_file.path.open("r+b") as stream:
            async with self.store.read(item, start, stop) as body:
                async for data in body.chunks:
                    if position + len(data) > stop:
                        raise Transient("more bytes came than were asked for")
                    write_at(stream.fileno(), data, position)
                    digest.update(data)
                    position += len(data)
                    count(len(data))
            if position < stop:
                raise Transient(f"{position - start:,} bytes came in place of {stop - start:,}")
        part_file.finish(number, digest.hexdigest())

    async def take_over(self, item: RemoteObject, file: Path, digests: Digests, progress: ByteProgress) -> None:
        """Make a whole file an object that is kept; raises Damaged where its bytes are not the store's."""
        contradiction = digests.contradiction(item)
        if contradiction == WRONG_ETAG and digests.part_ends:  # perhaps its parts are not as large as one another
            facts = await self.store.facts(item, every_part=True)
            digests = await asyncio.to_thread(file_to_digests, file, facts)
            contradiction = digests.contradiction(item)
        if contradiction:
            raise Damaged(contradiction)
        sha256, proven = digests.sha256.hexdigest(), digests.proves_content(item)
        self.cache.add(Row(item.key, digests.size, item.etag, digests.facts.version, sha256, proven), file)
        self.fetched.update(objects=1, bytes=digests.size)
        progress.object_done()


def items_to_jobs(
    items: Sequence[RemoteObject], part_files: Mapping[str, PartFile]
) -> Iterator[RemoteObject | PartJob]:
    """Small objects, and the missing parts of large ones."""
    for item in items:
        part_file = part_files.get(item.key)
        if part_file is None:
            yield item
            continue
        for number in part_file.missing() or [0]:  # one for a process that was killed after the last part
            yield PartJob(item, number, part_file)


def write_at(file: int, data: bytes, position: int) -> None:
    """All of it: the system may write less than it is given, as on a disk that is nearly full."""
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, position)
        left, position = left[written:], position + written


@contextmanager
def counting(progress: ByteProgress) -> Iterator[Callable[[int], None]]:
    """Count bytes as they come, and take them back when the attempt fails."""
    counted = 0

    def count(size: int) -> None:
        nonlocal counted
        counted += size
        progress.add(size)

    try:
        yield count
    except BaseException:
        progress.add(-counted)
        raise


def file_to_digests(path: Path, facts: Facts) -> Digests:
    digests = Digests(facts)
    with path.open("rb") as stream:
        while data := stream.read(CHUNK_BYTES):
            digests.update(data)
    return digests


def check_space(items: Sequence[RemoteObject], folder: Path, parts: Path) -> None:
    """Raises a SeamlineError before anything is fetched in vain."""
    here = sum(path.stat().st_blocks * 512 for path in parts.iterdir())
    needed, free = sum(item.size or 0 for item in items) - here, shutil.disk_usage(folder).free
    if needed > free:
        raise SeamlineError(
            f"pull.source: {size_text(needed)} have to be fetched, and {folder} has room for {size_text(free)}."
        )
