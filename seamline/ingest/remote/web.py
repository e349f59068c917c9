"""A file behind https:// (or http://), fetched in parts where the server allows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import unquote, urlsplit

import aiohttp

from seamline.base.errors import SeamlineError
from seamline.base.urls import client_reason, shown
from seamline.ingest.archives import SUFFIXES
from seamline.ingest.remote.objects import Body, Changed, Facts, RemoteObject, Transient, Unreachable

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30  # without a byte
CHUNK_BYTES = 1 << 18
NO_HEAD = (403, 405, 501)  # what servers answer that know GET only
OVERLOADED = (408, 425, 429)


class WebStore:
    """The one file at an address."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self.shown = url, shown(url)
        self.session = session
        self.in_parts = False
        self.ranges_fail = False  # what it said of itself was found untrue
        self.name = unquote(urlsplit(url).path).rpartition("/")[2]

    def address(self, key: str) -> str:
        return self.shown

    async def page(self, token: str) -> tuple[list[RemoteObject], str]:
        with translated(self.shown):
            async with self.session.head(self.url, allow_redirects=True) as answer:
                if answer.status not in NO_HEAD:
                    return [self.answer_to_object(answer)], ""
            async with self.session.get(self.url) as answer:  # closed before its body is read
                return [self.answer_to_object(answer)], ""

    def answer_to_object(self, answer: aiohttp.ClientResponse) -> RemoteObject:
        check_status(answer, self.shown, None)
        check_secure(answer, self.url)
        # Only a strong ETag says whose parts they are.
        strong = answer.headers.get("ETag", "").startswith('"')
        self.in_parts = strong and answer.headers.get("Accept-Ranges") == "bytes" and not self.ranges_fail
        return RemoteObject(self.name, answer.content_length, headers_to_etag(answer))

    async def facts(self, item: RemoteObject, every_part: bool = False) -> Facts:
        return Facts()

    @asynccontextmanager
    async def read(self, item: RemoteObject, start: int, stop: int | None) -> AsyncIterator[Body]:
        headers = {} if stop is None else {"Range": f"bytes={start}-{stop - 1}", "If-Range": f'"{item.etag}"'}
        with translated(self.shown):
            async with self.session.get(self.url, headers=headers) as answer:
                check_status(answer, self.shown, item)
                check_secure(answer, self.url)
                if headers_to_etag(answer) != item.etag:
                    raise Changed(self.shown)
                if stop is not None and not is_part(answer, start, stop):
                    self.ranges_fail = True
                    raise Changed(self.shown)  # looked at anew, it is fetched in one go
                chunked = "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
                if item.size is None and answer.content_length is None and not chunked:
                    raise SeamlineError(
                        f"pull.source: {self.shown}: the server says nowhere how long it is, so that nobody can tell "
                        "whether all of it has come; fetch it with another tool, and name the file."
                    )
                yield Body(Facts(), answer.content.iter_chunked(CHUNK_BYTES))


def is_part(answer: aiohttp.ClientResponse, start: int, stop: int) -> bool:
    """Whether it is the part that was asked for, and not the whole file or another part."""
    return answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-{stop - 1}/")


def headers_to_etag(answer: aiohttp.ClientResponse) -> str:
    """What changes when the file does: its ETag, or when it was changed last."""
    return answer.headers.get("ETag", "").removeprefix("W/").strip('"') or answer.headers.get("Last-Modified", "")


@asynccontextmanager
async def open_web(url: str, connections: int) -> AsyncIterator[WebStore]:
    """A store for one archive.

    Raises:
        SeamlineError: when the address is not that of one.
    """
    async with open_session(connections) as session:
        store = WebStore(url, session)
        if not store.name.lower().endswith(SUFFIXES):
            raise SeamlineError(
                f"pull.source: {store.shown!r} is not an archive; what is read from the web ends in "
                f"{', '.join(SUFFIXES)}."
            )
        yield store


@asynccontextmanager
async def open_session(connections: int) -> AsyncIterator[aiohttp.ClientSession]:
    """What stores read with; proxies and passwords come from the environment and ~/.netrc."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=connections)
    as_it_is = {"Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=as_it_is, auto_decompress=False, trust_env=True
    ) as session:
        yield session


@contextmanager
def translated(address: str) -> Iterator[None]:
    """What a client raises, as what the download knows: Transient, Unreachable, or a sentence for the user."""
    try:
        yield
    except aiohttp.NonHttpUrlRedirectClientError:
        raise SeamlineError(
            f"pull.source: {address} leads away from the web; allowed are https:// and http://."
        ) from None
    except aiohttp.InvalidURL:
        raise SeamlineError(f"pull.source: {address!r} is not an address.") from None
    except aiohttp.TooManyRedirects:
        raise SeamlineError(f"pull.source: {address} leads from one redirect to the next, and to no file.") from None
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreachable(client_reason(error)) from None
    except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
        raise Transient(client_reason(error)) from None


def check_secure(answer: aiohttp.ClientResponse, url: str) -> None:
    """Raises SeamlineError where a redirect took us from https to http, and anybody on the way may change the data."""
    if url.lower().startswith("https:") and any(one.url.scheme != "https" for one in (*answer.history, answer)):
        raise SeamlineError(f"pull.source: {shown(url)} leads from https to http; fetch it with another tool.")


def check_status(answer: aiohttp.ClientResponse, address: str, item: RemoteObject | None) -> None:
    status = answer.status
    if status >= 500 or status in OVERLOADED:
        raise Transient(f"the server answered {status} {answer.reason}")
    if status in (404, 410, 416) and item is not None:  # 416: shorter than it was
        raise Changed(address)
    if status in (404, 410):
        raise SeamlineError(f"pull.source: there is nothing at {address}.")
    if status in (401, 403):
        raise SeamlineError(f"pull.source: access to {address} is denied ({status} {answer.reason}).")
    if status not in (200, 206):
        raise SeamlineError(f"pull.source: {address} cannot be read ({status} {answer.reason}).")
