"""uvicorn's HTTP with limits on what it leaves open: headers without an end, connections without number or end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from seamline.service.problems import MEDIA_TYPE, Problem, overloaded, problem_to_json
from seamline.service.settings import Settings

MOST_HEADER_BYTES = 32 * 1024  # of the address and all headers of a request, give or take what one read brings
UNREAD_SECONDS = 30  # for a client to take the rest of an answer before its connection is cut


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
        self._header_bytes = 0
        self._in_headers = True
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._end_with(overloaded(1, "connections_full"))
        else:
            self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_timer is None:
                self._start_header_timer()
        super().data_received(data)
        if self._in_headers and self._header_bytes > MOST_HEADER_BYTES and not self.transport.is_closing():
            self._end_with(Problem(431, f"The headers are too large; at most {MOST_HEADER_BYTES:,} bytes are read."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers, self._header_bytes = True, 0
        self.scope["seamline.close"] = self.transport.abort  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._stop_header_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_headers, self._header_bytes = True, 0

    def send_400_response(self, msg: str) -> None:
        self._end_with(Problem(400, "The request is not HTTP that can be read."))

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one whose client does not take what it was sent is cut."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def _start_header_timer(self) -> None:
        self._header_timer = self.loop.call_later(self.limits.header_seconds, self._headers_are_late)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _headers_are_late(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self._end_with(Problem(408, "The headers came too slowly."))

    def _end_with(self, problem: Problem) -> None:
        self.refused(problem.reason)
        body = problem_to_json(problem, "unread")
        lines = [STATUS_LINE[problem.status]]
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": len(body), "Connection": "close", **problem.headers}
        lines += [f"{name.lower()}: {value}\r\n".encode("latin-1") for name, value in headers.items()]
        self.transport.write(b"".join([*lines, b"\r\n", body]))
        self.transport.close()
        self.loop.call_later(UNREAD_SECONDS, self.transport.abort)
