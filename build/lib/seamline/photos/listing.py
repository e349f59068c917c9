"""The list of a run's photos: in a temporary file, since there may be hundreds of thousands of them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

BLOCK_BYTES = 1 << 16


class Photo(NamedTuple):
    name: str  # as it is shown and written down: nothing secret, and text
    place: str  # its path or address
    stamp: str  # another one when the file has changed; "" where nobody can tell
    size: int | None  # in bytes; None where nobody has said
    key: str  # one for each photo, however it is named


def key_of(identity: str) -> str:
    return hashlib.blake2b(os.fsencode(identity), digest_size=12).hexdigest()


class PhotoList:
    """Photos in the order in which they were named, none twice.

    Attributes:
        passed_over: how many files below folders look like photos or films and cannot be read, by suffix and reason.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (gone with this object)
        self._seen: set[str] = set()
        self.passed_over = Counter[tuple[str, str]]()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, photo: Photo) -> None:
        if photo.key not in self._seen:
            self._seen.add(photo.key)
            self._file.write(json.dumps(photo).encode() + b"\n")  # in ASCII: names need not be UTF-8

    def __iter__(self) -> Iterator[Photo]:
        """May be gone through several times at once."""
        self._file.flush()
        at, rest = 0, b""
        while block := os.pread(self._file.fileno(), BLOCK_BYTES, at):
            at += len(block)
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield Photo(*json.loads(line))
