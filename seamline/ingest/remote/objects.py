"""What a store of objects is to the download: a listing, and bytes with what the store says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol


class RemoteObject(NamedTuple):
    """An object as a listing has it."""

    key: str  # below the source
    size: int | None  # in bytes; None where the server does not say
    etag: str  # changes when the object does; "" where the server has none


class Facts(NamedTuple):
    """What a store says of an object's content, beside its bytes."""

    version: str = ""
    etag_is_md5: bool = False  # or, of an object uploaded in parts, the MD5 of their MD5s
    part_bytes: Sequence[int] = ()  # of an object uploaded in parts: their sizes, where they are known
    checksums: Mapping[str, str] = {}  # of the whole object, in base64, by algorithm (crc64nvme, ...)


class Body(NamedTuple):
    """An answer whose bytes are still to come."""

    facts: Facts
    chunks: AsyncIterator[bytes]


class Store(Protocol):
    """A source's objects. Every method raises `Transient`, `Changed` or a SeamlineError, and nothing else."""

    shown: str  # the source's address as it may be shown
    in_parts: bool  # whether an object can be read from the middle

    async def page(self, token: str) -> tuple[list[RemoteObject], str]:
        """Some of the objects, and the token to ask for the next ones with; "" asks for the first, and ends it."""
        ...

    async def facts(self, item: RemoteObject, every_part: bool = False) -> Facts:
        """What only a question of its own brings to light; for large objects and those uploaded in parts.

        Args:
            every_part: ask for the size of each part, where one question would do if all but the last are as large.
        """
        ...

    def read(self, item: RemoteObject, start: int, stop: int | None) -> AbstractAsyncContextManager[Body]:
        """The bytes from `start` up to `stop`, or all of them where that is None."""
        ...

    def address(self, key: str) -> str:
        """As it may be shown."""
        ...


class Transient(Exception):
    """What may go well when it is tried again: a lost connection, an overloaded server, damaged bytes."""


class Unreachable(Transient):
    """No connection at all: a wrong address rather than a passing fault, where none has succeeded before."""


class Damaged(Transient):
    """Bytes that are not those of which the store has the size and the checksums."""


class Changed(Exception):
    """The object is not what the listing said: replaced or deleted in between."""
