"""`seamline serve` in a process of its own, and a client that sends what it is told to, byte for byte."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

SECONDS = 30  # for what takes a moment, on a machine that is busy


@dataclass
class Address:
    """Where a service listens."""

    host: str
    port: int

    def connect(self, seconds: float = SECONDS) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        made = socket.socket(family)
        made.settimeout(seconds)
        made.connect((self.host, self.port))
        return made

    def ask(self, data: bytes) -> Reply:
        """The answer to a request on a connection of its own."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_reply(connection)


@dataclass
class Served(Address):
    """A service in a process of its own."""

    process: subprocess.Popen[str]
    log: Path  # what it writes to stderr

    def memory(self) -> int:
        """Bytes that it has in memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def open_files(self) -> int:
        return psutil.Process(self.process.pid).num_fds()

    def stop(self, signal_number: int | None = None) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal_number) if signal_number else self.process.terminate()
        return self.process.wait(SECONDS)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def detail(self) -> str:
        """The sentence of a refusal, which has to be one."""
        assert self.headers["content-type"] == "application/problem+json"
        problem = json.loads(self.body)
        assert sorted(problem) == ["detail", "instance", "status", "title", "type"]
        assert problem["status"] == self.status
        return str(problem["detail"])


@contextlib.contextmanager
def served(model: Path, folder: Path, *options: str, **environment: str) -> Iterator[Served]:
    """A service at a free port, with `folder` to work in."""
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "seamline", "serve", str(model), "--port", "0", "--threads", "1", *options],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.fullmatch(r"ready on http://(.+):(\d+) .*\n", line)
        assert address, line + log.read_text()
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[1].strip("[]"), address[1].strip("[]"))
        yield Served(host, int(address[2]), process, log)
    finally:
        process.kill()
        process.wait()


def request(
    method: str = "GET",
    path: str = "/v1/about",
    headers: Mapping[str, str | None] | None = None,
    body: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """A request as text; Host and Content-Length are added where they are not given; None leaves a header out."""
    sent: dict[str, Any] = {"Host": "localhost"}
    if body is not None:
        sent["Content-Length"] = len(body)
    sent |= headers or {}
    lines = [f"{name}: {value}" for name, value in sent.items() if value is not None]
    head = "\r\n".join([f"{method} {path} HTTP/{version}", *lines, "", ""])
    return head.encode("latin-1") + (body or b"")


def photo_request(photo: bytes, path: str = "/v1/predict", headers: Mapping[str, str] | None = None) -> bytes:
    return request("POST", path, {"Content-Type": "application/octet-stream", **(headers or {})}, photo)


def read_reply(connection: socket.socket, with_body: bool = True) -> Reply:
    """The next answer on a connection; raises ConnectionError where it ends before that."""
    stream = connection.makefile("rb", buffering=0)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (byte := stream.read(1)):
            raise ConnectionError(f"no answer, but {head!r}")
        head += byte
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    status = int(first.split(" ")[1])
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if status == 100:
        return Reply(status, headers, b"")
    body = b""
    while with_body and len(body) < int(headers["content-length"]):
        if not (piece := stream.read(int(headers["content-length"]) - len(body))):
            raise ConnectionError(f"an answer of {status} that is cut short")
        body += piece
    return Reply(status, headers, body)


def has_ended(connection: socket.socket) -> bool:
    """Whether the other side closes the connection, orderly, with nothing more to say."""
    return connection.recv(1) == b""
