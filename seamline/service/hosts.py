"""Under which names the service may be asked: a page of another site must not reach one that is local.

A browser sends the Host of the address that it was given, whatever the name leads to (DNS rebinding), and with a
request of a page that page's Origin.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from seamline.service.problems import Problem

NETLOC = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/\s]+))(?::[0-9]*)?")


def is_loopback(host: str) -> bool:
    """Whether an address, or the name of one, leads to this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def name_of(netloc: str) -> str:
    """The name or address in a Host header or behind the scheme of an Origin, without its port; "" for what is none."""
    parts = NETLOC.fullmatch(netloc)
    return (parts[1] or parts[2]).rstrip(".").lower() if parts else ""


def check_host(host: str, origin: str | None, allowed: Collection[str], only_local: bool) -> None:
    """Raise Problem where a request was sent to another name, or by a page of another site.

    Args:
        host: the Host header.
        origin: the Origin header, which a browser sends with a page's requests.
        allowed: names that were named to the service.
        only_local: whether it is bound to this machine alone; else any Host may lead to it.
    """
    name = name_of(host)
    if only_local and not is_loopback(name) and name not in allowed:
        raise Problem(421, "This service does not answer under that name; --allow-host adds names.")
    if origin is not None:
        scheme, _, netloc = origin.partition("://")
        same = netloc.lower() == host.lower() or name_of(netloc) in allowed
        if not (scheme.lower() in ("http", "https") and same):
            raise Problem(403, "A page of another site may not use this service; --allow-host adds names.")
