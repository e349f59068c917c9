"""API keys: who may ask, where the service is not only for this machine."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from seamline.base.errors import SeamlineError

LEAST_CHARACTERS = 16


def read_keys(path: Path) -> list[str]:
    """Keys from a file, one a line; empty lines and those that begin with # are left out.

    Raises:
        SeamlineError: when it cannot be read, has none, or one is short or has other characters than a header can hold.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SeamlineError(f"{path}: the keys cannot be read ({reason}).") from None
    found = []
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if len(key) < LEAST_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
            raise SeamlineError(
                f"{path}: the key in line {number} cannot be used; a key has at least {LEAST_CHARACTERS} letters, "
                "digits and signs of ASCII, without spaces."
            )
        found.append(key)
    if not found:
        raise SeamlineError(f"{path}: there is no key; write one on each line.")
    return found


class Keys:
    """The keys that are known, as digests, which have one length."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [digest_of(key.encode()) for key in keys]

    def knows(self, authorization: bytes | None, api_key: bytes | None) -> bool:
        """Whether the headers Authorization (Bearer) or X-API-Key have a key; takes as long for any wrong one."""
        given = [] if api_key is None else [api_key]
        if authorization is not None and authorization[:7].lower() == b"bearer ":
            given.append(authorization[7:].strip())
        digests = [digest_of(key) for key in given]
        known = [hmac.compare_digest(one, other) for one in digests for other in self._digests]  # all of them, always
        return any(known)


def digest_of(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
