"""Addresses such as s3://bucket/prefix, and how they are shown: without what may be secret in them."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

# User and password, which may have a slash in it; and a query, such as a signature.
SECRETS = re.compile(r"(?<=://)\S*@|\?[^\s'\")]*")
# Arguments of a query that are known to open nothing. Those that do have too many names to know them all.
HARMLESS = {"alt", "dl", "download", "format", "inline", "raw", "ref", "rev", "v", "version", "versionid"}

MAX_REASON = 400  # characters


def is_remote(source: str) -> bool:
    return "://" in source


def shown(url: str) -> str:
    """An address without user, password and query; a local path as it is."""
    if not is_remote(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # it is not an address
        return SECRETS.sub("", url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def gives_access(url: str) -> bool:
    """Whether an address may have something secret in it: user and password, or a signature or key in its query.

    Raises:
        ValueError: when it is not an address.
    """
    if not is_remote(url):
        return False
    parts = urlsplit(url)
    names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    behind = "=" in parts.fragment and parts.scheme != "s3"  # where a # may be part of a key
    return "@" in parts.netloc or bool(names - HARMLESS) or behind


def client_reason(error: BaseException) -> str:
    """What a client's error says, in a line, without what may be secret in the addresses it names."""
    text = SECRETS.sub("", " ".join(str(error).split()))[:MAX_REASON]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
