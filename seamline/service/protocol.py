"""uvicorn's HTTP with limits on what it leaves open: endless headers, and the number and age of connections.

What cannot be read as HTTP is answered here, with problem details; everything else by the application.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from seamline.service.problems import MEDIA_TYPE, Problem, overloaded, problem_to_json
from seamline.service.settings import Settings

MOST_HEADER_BYTES = 32 * 1024  # of the address and all headers of a request; of what stands around a body's chunks too
MOST_PIPELINED = 16  # requests that a client sends before it has the answer to the first
REFUSED = 4  # times as many connections as are served are answered that there are too many; others are cut
UNREAD_SECONDS = 30  # for a client to take the rest of an answer before its connection is cut
ENDING_SECONDS, ENDING_BYTES = 5, 64 * 2**20  # that a client may still send after its last answer
UNREADABLE = "The request is not HTTP that can be read."
VERSIONS = ("1.0", "1.1")


def limited_protocol(settings: Settings, count_refusal: Callable[[str], None]) -> type[HttpToolsProtocol]:
    """The protocol's class, as uvicorn takes it.

    Args:
        count_refusal: is given the reason of each refusal of a request that does not reach the application.
    """

    class Limited(LimitedProtocol):
        limits = settings
        refused = staticmethod(count_refusal)

    return Limited


class LimitedProtocol(HttpToolsProtocol):
    limits: Settings
    refused: Callable[[str], None]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._beside_body = 0  # bytes that were received since the last request's end and belong to no body
        self._in_headers = True
        self._is_ended = False  # what comes now is thrown away
        self._deadline: asyncio.TimerHandle | None = None  # for the headers, or for the rest of a body nobody reads
        self._cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > REFUSED * self.limits.connections:
            transport.abort()
        elif len(self.connections) > self.limits.connections:
            self._end_with(overloaded(1, "connections_full"))
        else:
            self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """No timer may outlive its connection, nor may what it has read: all of it would stay in memory."""
        self._stop_deadline()
        self._unset_keepalive_if_required()  # uvicorn does so only where the connection was closed in order
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)
        self.pipeline.clear()  # requests that nobody waits for
        self.cycle = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._beside_body += len(data)
        if self._is_ended:
            if self._beside_body > ENDING_BYTES:
                self.transport.abort()
        elif not self.transport.is_closing():
            self._unset_keepalive_if_required()
            if self._in_headers and self._deadline is None:
                self._start_deadline()
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._feed_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__  # what a callback below has raised
            self._end_with(cause if isinstance(cause, Problem) else Problem(400, UNREADABLE))
        else:
            if self._beside_body > MOST_HEADER_BYTES and not self.transport.is_closing():
                self._end_with(too_large_headers())

    def _feed_without_upgrade(self, rest: bytes) -> None:
        """Read a request as if it had not offered another protocol, such as Java's client does with h2c.

        The parser would take its body for that protocol, and uvicorn would answer as if it had none.
        """
        line = b" ".join([self.parser.get_method(), self.url, b"HTTP/" + self.parser.get_http_version().encode()])
        headers = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._feed(b"\r\n".join([line, *headers, b"\r\n"]) + rest)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        close = weakref.WeakMethod(self._close_at_once)  # a connection and its request do not hold each other
        self.scope["seamline.close"] = lambda: (method := close()) and method()  # type: ignore[typeddict-unknown-key]

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:  # what comes behind a body's chunks could name another host or key
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """What is raised here ends the connection; see _feed()."""
        check_head(self.parser.get_http_version(), self.url, self.headers)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Problem(405, "This method is not allowed here.", {"Allow": "GET, POST"})
            return
        if len(self.pipeline) >= MOST_PIPELINED:
            raise Problem(400, UNREADABLE)
        self._in_headers = False
        self._stop_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._beside_body = max(0, self._beside_body - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self._in_headers, self._beside_body = True, 0
            self._stop_deadline()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._cut_in(UNREAD_SECONDS)
        elif self.cycle.response_complete and self.cycle.more_body:  # nobody reads, or times, the rest of the body
            self._start_deadline()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one whose client does not take what it was sent is cut."""
        super().timeout_keep_alive_handler()
        self._cut_in(UNREAD_SECONDS)

    def _start_deadline(self) -> None:
        self._stop_deadline()
        self._deadline = self.loop.call_later(self.limits.header_seconds, self._is_late)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_late(self) -> None:
        self._deadline = None
        if self._in_headers and self._beside_body:
            self._end_with(Problem(408, "The headers arrived too slowly."))
        else:  # browsers open connections that they may need, and take an answer there for that to a later request
            self.transport.close()

    def _close_at_once(self) -> None:
        if not self._is_ended:
            self.transport.abort()

    def _cut_in(self, seconds: float) -> None:
        if self._cut is None and self in self.connections:  # an answer may end after its connection
            self._cut = self.loop.call_later(seconds, self.transport.abort)

    def _end_with(self, problem: Problem) -> None:
        """Answer what cannot be read, and read no further; requests that came before it are answered."""
        self.refused(problem.reason)
        self._is_ended = True
        self._stop_deadline()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._answer_last(problem)
        elif not cycle.more_body:
            cycle.keep_alive = False
        elif cycle.response_started or self.pipeline:
            self.transport.abort()
        else:
            cycle.disconnected = True  # so the application knows that nobody waits for its answer
            cycle.message_event.set()
            self._answer_last(problem)

    def _answer_last(self, problem: Problem) -> None:
        """Closed at once, the connection would be reset while the client sends, and the answer lost with it."""
        body = problem_to_json(problem, "unread")
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": len(body), "Connection": "close", **problem.headers}
        lines = [f"{name.lower()}: {value}\r\n".encode("latin-1") for name, value in headers.items()]
        self.transport.write(b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", body]))
        with contextlib.suppress(OSError):  # of a client that has closed its side, to whom nothing can be written
            self.transport.write_eof()
        self.flow.resume_reading()
        self._cut_in(ENDING_SECONDS)


def check_head(version: str, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raise Problem where HTTP/1.1 does not allow a request's first line or headers."""
    if version not in VERSIONS:
        raise Problem(505, "This service speaks HTTP/1.1.")
    if len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > MOST_HEADER_BYTES:
        raise too_large_headers()
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise Problem(400, "The request has to name its host once.")


def too_large_headers() -> Problem:
    return Problem(431, f"The headers are too large; at most {MOST_HEADER_BYTES:,} bytes are read.")
