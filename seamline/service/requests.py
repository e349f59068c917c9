"""One HTTP exchange: its headers, how much of its body has been read, and an answer that always arrives."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from seamline.service.problems import Problem, problem_to_body

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
OWN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# What a client still sends after a refusal is read and thrown away, so that it reads the refusal and not a reset.
LINGER_SECONDS, LINGER_BYTES = 10, 64 * 2**20
SEND_SECONDS = 60


class ClientGone(Exception):
    """The other side has gone, or takes nothing of what it asked for."""


class Exchange:
    """A request and its answer."""

    def __init__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        own = self.text("x-request-id") or ""
        self.id = own if OWN_ID.fullmatch(own) else secrets.token_hex(8)
        self.body_is_read = False
        self.status = 0  # once the answer has begun
        self.route = "other"

    @property
    def query(self) -> str:
        """Not by way of Starlette's URL, which Host is a part of, and which raises for some of them."""
        query: bytes = self.scope["query_string"]
        return query.decode("latin-1")

    def text(self, name: str) -> str | None:
        value = self.headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    async def receive(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.body_is_read = True
        return message

    async def send(self, message: Any) -> None:
        """Raises ClientGone where the other side does not take what it asked for."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self.id.encode())]
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(message)
        except (ConnectionError, TimeoutError):
            raise ClientGone from None

    async def refuse(self, problem: Problem) -> None:
        """Send the refusal at once, and then let the client finish sending: a reset would take the refusal from it."""
        if not self.body_is_read and self.text("expect") is not None:  # it may never send what it asked about
            problem.headers["Connection"] = "close"
        if await self._send_all_but_end(problem):
            if not self.body_is_read and not await self._all_was_read():
                self.scope["seamline.close"]()
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def end(self, problem: Problem) -> None:
        """Send the refusal, and close the connection, whatever the client still sends."""
        problem.headers["Connection"] = "close"
        if await self._send_all_but_end(problem):
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all_but_end(self, problem: Problem) -> bool:
        """Whether that could be: where another answer has begun, the connection is cut instead."""
        if self.status:
            self.scope["seamline.close"]()
            return False
        body, media_type = problem_to_body(problem, self.id, self.scope["path"])
        headers = {"Content-Type": media_type, "Content-Length": str(len(body)), **problem.headers}
        lines = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": lines})
        await self.send({"type": "http.response.body", "body": body, "more_body": True})
        return True

    async def _all_was_read(self) -> bool:
        size = 0
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.body_is_read and size < LINGER_BYTES:
                    size += len((await self.receive()).get("body", b""))
        except TimeoutError:
            return False
        return self.body_is_read
