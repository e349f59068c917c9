"""Photos in buckets and on the web, read as pull reads them: the same clients, credentials, limits and retries.

They are never written to disk.
"""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.urls import is_remote, shown
from seamline.images.files import MAX_PIXELS
from seamline.photos.listing import Photo, key_of
from seamline.photos.suffixes import check_named, is_wanted, suffix_of

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from seamline.ingest.remote.objects import Facts, RemoteObject, Store
    from seamline.ingest.remote.retries import Retries
    from seamline.ingest.remote.s3 import S3Store

CONNECTIONS = 16
CHUNK_BYTES = 1 << 20
SCHEMES = ("s3", "https", "http")
# What the largest photo takes that is read at all, without any compression: an object is held in memory.
MAX_BYTES = 3 * MAX_PIXELS
WEB_PAGE = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)

T = TypeVar("T")


class Unread(Exception):
    """A photo that could not be fetched; a network may be there another time, what is too large stays so."""

    def __init__(self, reason: str, again: bool) -> None:
        super().__init__(reason)
        self.reason, self.again = reason, again


class Remote:
    """For any number of threads; the stores' clients live in an event loop, which the first call starts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._session: ClientSession | None = None

    def close(self) -> None:
        """End what is under way; a later call starts anew."""
        with self._lock:
            if self._thread is not None:
                asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._thread = None

    def photos(self, address: str, passed_over: Counter[tuple[str, str]]) -> Iterator[Photo]:
        """The one photo at an address; in a bucket also what lies below it, or matches its *.

        Raises:
            SeamlineError: when a bucket cannot be listed.
        """
        scheme, _, rest = address.partition("://")
        if scheme.lower() != "s3":
            place = f"{scheme.lower()}://{rest}"
            check_address(place)
            check_named(shown(place))
            yield Photo(shown(place), place, "", None, key_of(place))
            return
        bucket, _, key = rest.partition("/")
        if not bucket or "@" in bucket:
            raise SeamlineError(f"{shown(address)}: has to be s3://BUCKET/KEY, without a user or password in it.")
        before_star, star, _ = key.partition("*")
        exact = None if star or not key.rstrip("/") or key.endswith("/") else self._at(bucket, key)
        if exact is not None:
            check_named(key)
            yield object_to_photo(bucket, exact)
        prefix = before_star if star or not key else f"{key.rstrip('/')}/"
        pattern = star_to_pattern(key) if star else None
        for item in self._below(bucket, prefix):
            if pattern is None or pattern.fullmatch(item.key):
                asked = {suffix_of(key)} - {""} if star else ()
                if is_wanted(item.key.rpartition("/")[2], passed_over, asked):
                    yield object_to_photo(bucket, item)

    def read(self, photo: Photo) -> tuple[bytes, str]:
        """A photo's bytes, and the stamp that they had.

        Raises:
            Unread: with the reason.
        """
        from seamline.ingest.remote.objects import Changed
        from seamline.ingest.remote.retries import GaveUp

        try:
            data, stamp = self._run(self._read(photo), photo.name)
        except Changed:
            raise Unread("has changed since it was found.", again=True) from None
        except GaveUp as error:
            raise Unread(f"{error.reason}.", again=True) from None
        except SeamlineError as error:
            raise Unread(str(error).replace(f" at {photo.name}", " at this address"), again=True) from None
        if urlsplit(photo.place).scheme != "s3" and WEB_PAGE.match(data):
            raise Unread("is a web page, and not a photo.", again=False)
        return data, stamp

    def stamp(self, photo: Photo) -> str:
        """What a photo on the web is like now; "" where nobody can tell."""
        from seamline.ingest.remote.objects import Changed

        try:
            return self._run(self._web_item(photo), photo.name)[1].etag
        except (SeamlineError, Changed):
            return ""

    def _at(self, bucket: str, key: str) -> RemoteObject | None:
        async def look() -> RemoteObject | None:
            store = await self._bucket(bucket)
            return await self._retries[bucket].with_(functools.partial(store.object_at, key), store.address(key))

        return self._listed(look(), f"s3://{bucket}/{key}")

    def _below(self, bucket: str, prefix: str) -> Iterator[RemoteObject]:
        """A page at a time: there may be hundreds of thousands."""

        async def page(token: str) -> tuple[list[RemoteObject], str]:
            store = await self._bucket(bucket)
            return await self._retries[bucket].with_(functools.partial(store.entries, prefix, token), store.shown)

        items, token = self._listed(page(""), f"s3://{bucket}/{prefix}")
        yield from items
        while token:
            items, token = self._listed(page(token), f"s3://{bucket}/{prefix}")
            yield from items

    def _listed(self, work: Coroutine[Any, Any, T], address: str) -> T:
        """Raises a SeamlineError without the advice for those who pull."""
        from seamline.ingest.remote.retries import GaveUp

        try:
            return self._run(work, address)
        except GaveUp as error:
            raise SeamlineError(f"{address} {error.reason}.") from None

    async def _read(self, photo: Photo) -> tuple[bytes, str]:
        from seamline.ingest.remote.objects import RemoteObject

        if photo.place.startswith("s3://"):
            bucket, _, key = photo.place.removeprefix("s3://").partition("/")
            store: Store = await self._bucket(bucket)
            retries, item = self._retries[bucket], RemoteObject(key, photo.size, photo.stamp)
        else:
            store, item, retries = await self._web_item(photo)
        return await retries.with_(functools.partial(whole, store, item), photo.name), item.etag

    async def _web_item(self, photo: Photo) -> tuple[Store, RemoteObject, Retries]:
        from seamline.ingest.remote.web import WebStore

        store = WebStore(photo.place, await self._web())
        retries = self._retries[urlsplit(photo.place).netloc]
        [item], _ = await retries.with_(functools.partial(store.page, ""), photo.name)
        return store, item, retries

    async def _bucket(self, name: str) -> S3Store:
        from seamline.ingest.remote.s3 import open_s3

        async with self._opening:
            if name not in self._buckets:
                store = await self._open.enter_async_context(open_s3(f"s3://{name}", CONNECTIONS))
                self._buckets[name] = store
        return self._buckets[name]

    async def _web(self) -> ClientSession:
        from seamline.ingest.remote.web import open_session

        async with self._opening:
            if self._session is None:
                self._session = await self._open.enter_async_context(open_session(CONNECTIONS))
        return self._session

    def _run(self, work: Coroutine[Any, Any, T], address: str) -> T:
        """Raises SeamlineError without the name of pull's parameter, and for a package that is not there."""
        with self._lock:
            if self._thread is None:
                self._start()
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except ModuleNotFoundError as error:
            raise not_installed(address, error) from None
        except SeamlineError as error:
            if str(error).startswith("pull.source: ") and not hasattr(error, "reason"):
                raise SeamlineError(str(error).removeprefix("pull.source: ")) from None
            raise

    def _start(self) -> None:
        from seamline.ingest.remote.retries import Retries

        self._loop = asyncio.new_event_loop()
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._buckets: dict[str, S3Store] = {}
        self._session = None
        self._retries: defaultdict[str, Retries] = defaultdict(Retries)  # by bucket and by host
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="remote")
        self._thread.start()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._open.aclose()


def check_scheme(address: str) -> None:
    """Raise a SeamlineError for an address of another kind, such as file://, or zip:// of another address."""
    if is_remote(address) and address.partition("://")[0].lower() not in SCHEMES:
        raise SeamlineError(f"{shown(address)}: cannot be read; addresses begin with s3://, https:// or http://.")


def check_address(address: str) -> None:
    """Raise a SeamlineError for one on the web that names no host, before the first photo is read."""
    try:
        parts = urlsplit(address)
        host = parts.hostname if parts.port != 0 else None
    except ValueError:  # a bracket that is not closed, a port that is not a number
        host = None
    if not host:
        raise SeamlineError(f"{shown(address)}: is not an address; one is https://HOST/PATH.")


def object_to_photo(bucket: str, item: RemoteObject) -> Photo:
    place = f"s3://{bucket}/{item.key}"
    return Photo(place, place, item.etag, item.size, key_of(place))


def star_to_pattern(key: str) -> re.Pattern[str]:
    """* within one part of the key, ** across parts; nothing else has a meaning of its own in a key."""
    parts = re.split(r"(\*\*/|\*\*|\*)", key)
    meant = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(meant.get(part) or re.escape(part) for part in parts), re.DOTALL)


async def whole(store: Store, item: RemoteObject) -> bytes:
    """An object's bytes, held against what the store says of them.

    Raises:
        Unread: when there are too many.
        Transient, Changed, SeamlineError: as the store does.
    """
    from seamline.ingest.remote.checksums import WRONG_ETAG, etag_parts
    from seamline.ingest.remote.objects import Damaged

    check_size(item.size or 0)
    facts = await store.facts(item) if (etag_parts(item.etag) or 1) > 1 else None
    data = bytearray()
    async with store.read(item, 0, None) as body:
        facts = facts or body.facts
        async for chunk in body.chunks:
            data += chunk
            check_size(len(data))
    contradiction = await asyncio.to_thread(contradiction_of, data, facts, item)
    if contradiction == WRONG_ETAG and facts.part_bytes:  # perhaps its parts are not as large as one another
        facts = await store.facts(item, every_part=True)
        contradiction = await asyncio.to_thread(contradiction_of, data, facts, item)
    if contradiction:
        raise Damaged(contradiction)
    return bytes(data)


def contradiction_of(data: bytearray, facts: Facts, item: RemoteObject) -> str:
    from seamline.ingest.remote.checksums import Digests

    digests = Digests(facts)
    for start in range(0, len(data), CHUNK_BYTES):
        digests.update(bytes(data[start : start + CHUNK_BYTES]))
    return digests.contradiction(item)


def check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise Unread(f"has more than {MAX_BYTES // 1_000_000} MB, which is too much for a photo.", again=False)
