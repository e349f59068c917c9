"""What the service allows: limits on bodies, photos, pixels and time, each small enough to be safe as it is."""

from __future__ import annotations

import msgspec

MEGABYTE = 2**20


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits; seconds are of one request."""

    body_bytes: int = 32 * MEGABYTE
    photos: int = 32  # in a request
    pixels: int = 50_000_000  # of a photo
    queue: int = 64  # photos under way at once, from all requests; what comes beyond that is refused at once
    bodies_bytes: int = 256 * MEGABYTE  # of all requests that are being read or answered
    header_seconds: float = 10
    body_seconds: float = 60
    answer_seconds: float = 60
    connections: int = 1000
    hosts: tuple[str, ...] = ()  # names that it may be asked under, beside its own; see hosts.py
    fetch_urls: bool = False
    fetch_seconds: float = 10  # for a photo that is fetched
    fetches: int = 8  # photos that are fetched at the same time
    access_log: bool = False
