"""Fetched bytes held against what the store says of them: size, ETag where it is made of MD5s, and CRCs."""

from __future__ import annotations

import base64
import hashlib
import itertools
import zlib
from collections.abc import Callable, Mapping

from awscrt import checksums as crt

from seamline.ingest.remote.objects import Facts, RemoteObject

# Width in bytes, and the checksum of more bytes from that of those before. What S3 computes itself is crc64nvme.
CRCS: Mapping[str, tuple[int, Callable[[bytes, int], int]]] = {
    "crc32": (4, zlib.crc32),
    "crc32c": (4, crt.crc32c),
    "crc64nvme": (8, crt.crc64nvme),
}
HASHES = ("sha1", "sha256")
WRONG_ETAG = "its MD5 is not the one in its ETag"


class Digests:
    """The digests that an object's facts ask for, of its bytes as they come, in order."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.sha1 = hashlib.sha1(usedforsecurity=False) if "sha1" in facts.checksums else None
        self.crcs = dict.fromkeys(CRCS.keys() & facts.checksums.keys(), 0)
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.part_ends = list(itertools.accumulate(facts.part_bytes))
        self.part_md5s: list[bytes] = []

    def update(self, data: bytes) -> None:
        self.sha256.update(data)
        if self.sha1 is not None:
            self.sha1.update(data)
        for algorithm in self.crcs:
            self.crcs[algorithm] = CRCS[algorithm][1](data, self.crcs[algorithm])
        if self.facts.etag_is_md5:
            self.update_md5(data)
        self.size += len(data)

    def update_md5(self, data: bytes) -> None:
        """A new MD5 at the end of each part."""
        done = self.size
        for end in self.part_ends[len(self.part_md5s) :]:
            if end > done + len(data):
                break
            self.md5.update(data[: end - done])
            self.part_md5s.append(self.md5.digest())
            self.md5 = hashlib.md5(usedforsecurity=False)
            data, done = data[end - done :], end
        self.md5.update(data)

    def etag(self, parts: int | None) -> str:
        """As S3 makes it: the MD5 in hexadecimal, or for an upload in parts the MD5 of their MD5s, and their number."""
        if parts is None:
            return self.md5.hexdigest()
        md5s = b"".join(self.part_md5s or [self.md5.digest()])
        return f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{parts}"

    def checksum(self, algorithm: str) -> str:
        """In base64, as S3 writes it."""
        if algorithm in CRCS:
            digest = self.crcs[algorithm].to_bytes(CRCS[algorithm][0], "big")
        elif self.sha1 is not None and algorithm == "sha1":
            digest = self.sha1.digest()
        else:
            digest = self.sha256.digest()
        return base64.b64encode(digest).decode()

    def contradiction(self, item: RemoteObject) -> str:
        """What of the object is not as the store says; empty where nothing is."""
        if item.size is not None and self.size != item.size:
            return f"{self.size:,} bytes came in place of {item.size:,}"
        for algorithm, expected in self.facts.checksums.items():
            if self.checksum(algorithm) != expected:
                return f"its {algorithm.upper()} is not the one that the store has of it"
        # A checksum of the whole object says more than an ETag, which is an MD5 only by custom.
        if not self.facts.checksums and self.etag_is_known(item) and self.etag(etag_parts(item.etag)) != item.etag:
            return WRONG_ETAG
        return ""

    def etag_is_known(self, item: RemoteObject) -> bool:
        """Whether the bytes say what the ETag has to be."""
        parts = etag_parts(item.etag)
        return item.etag != "" and self.facts.etag_is_md5 and (parts in (None, 1) or len(self.part_ends) == parts)

    def proves_content(self, item: RemoteObject) -> bool:
        """Whether there is more than the size to hold the bytes against."""
        return bool(self.facts.checksums) or self.etag_is_known(item)


def known_checksums(found: Mapping[str, str]) -> dict[str, str]:
    """Those of them that can be computed here."""
    return {name: value for name, value in found.items() if name in CRCS or name in HASHES}


def etag_parts(etag: str) -> int | None:
    """In how many parts an object was uploaded, as its ETag says; None where in one go."""
    _, dash, parts = etag.partition("-")
    return int(parts) if dash and parts.isdigit() else None
