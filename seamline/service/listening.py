"""Where the service listens and who may ask, judged before a model is opened, which takes a while."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NamedTuple

from seamline.base.errors import SeamlineError
from seamline.service.hosts import is_loopback
from seamline.service.keys import Keys, read_keys

BACKLOG = 2048  # connections that the system keeps until they are accepted


class Address(NamedTuple):
    listening: socket.socket
    is_local: bool  # this machine alone reaches it
    keys: Keys | None  # None: nobody needs one


def open_address(host: str, port: int, keys_file: Path | None, without_keys: bool) -> Address:
    """
    Raises:
        SeamlineError: when the address is taken or not this machine's, a public one has no keys, or a key is bad.
    """
    keys = None if keys_file is None else Keys(read_keys(keys_file))
    if keys is None and not (without_keys or is_loopback(host)):
        raise SeamlineError(
            f"--host {host}: others could reach the service without a key; name a file of keys with "
            "--keys, or give --no-keys if something in front of it decides who may use it."
        )
    return Address(listen(host, port), is_loopback(host), keys)


def listen(host: str, port: int) -> socket.socket:
    """A socket at the address, before anything that takes long.

    Raises:
        SeamlineError: when that cannot be.
    """
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # With its protocol named: asyncio then sends each write at once, where TCP would wait for the one before it.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)  # who connects before the model is open waits, and is not refused
    except OSError as error:
        raise SeamlineError(
            f"{host}:{port}: cannot listen there ({error.strerror}); --host and --port name another address."
        ) from None
    listening.setblocking(False)
    return listening
