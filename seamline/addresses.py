"""Addresses such as s3://bucket/prefix, as they may be shown: without what may be secret in them."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

SECRETS = re.compile(r"(?<=://)[^/\s@]*@|\?[^\s'\")]*")  # user and password, and a query, such as a signature
# Query arguments that give access: signed URLs of S3, Google and Azure, and what services call their keys.
ACCESS = re.compile(r"^x-(amz|goog)-|signature|token|secret|password|credential|access_?key|api_?key|^(sig|key)$", re.I)

MAX_REASON = 400  # characters


def is_remote(source: str) -> bool:
    return "://" in source


def shown(url: str) -> str:
    """An address without user, password and query; a local path as it is."""
    if not is_remote(url):
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def gives_access(url: str) -> bool:
    """Whether an address has something secret in it: user and password, or a signature or key in its query."""
    if not is_remote(url):
        return False
    parts = urlsplit(url)
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    return "@" in parts.netloc or any(ACCESS.search(name) for name in names)


def client_reason(error: BaseException) -> str:
    """What a client's error says, in a line, without what may be secret in the addresses it names."""
    text = " ".join(str(error).split())[:MAX_REASON]
    return SECRETS.sub("", f"{type(error).__name__}: {text}" if text else type(error).__name__)
