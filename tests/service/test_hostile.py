"""Thousands of hostile requests: the service answers the others meanwhile, and is afterwards as it was before."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.held import until
from tests.service.hostile import attack
from tests.service.served import Served, photo_request, read_reply, request, served

THREADS = 4
QUEUE = 16
# glibc gives freed memory back at once, so that what grows is what is kept; other systems do not know these names.
ALLOCATION = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
BODIES = 8  # of the largest size that find room at once


@pytest.fixture
def service(untrained: Any, tmp_path: Path) -> Iterator[Served]:
    folders = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "cwd")}
    for folder in folders.values():
        folder.mkdir()
    environment = {name: str(folder) for name, folder in folders.items() if name.isupper()} | ALLOCATION
    options = ("--queue", str(QUEUE), "--photos", str(QUEUE), "--body-mb", "1")
    with served(untrained.models()["openvino"], folders["cwd"], *options, **environment) as service:
        yield service


@pytest.fixture
def good(untrained: Any) -> bytes:
    data: bytes = untrained.images()[1].read_bytes()
    return data


def test_three_hundred_hostile_requests(service: Served, good: bytes, tmp_path: Path) -> None:
    attacked(service, good, tmp_path, 300, spare_memory=64 << 20)


@pytest.mark.thorough
def test_ten_thousand_hostile_requests(service: Served, good: bytes, tmp_path: Path) -> None:
    attacked(service, good, tmp_path, 10_000, spare_memory=24 << 20)


def attacked(service: Served, good: bytes, folder: Path, count: int, spare_memory: int) -> None:
    idle_files, before = service.open_files(), instances_of(service, good)
    warm = count // 4
    seen, _ = attack_and_ask(service, good, 1000, warm)
    assert_nothing_is_under_way(service, good)
    memory, tree = service.memory(), sorted(folder.rglob("*"))
    more, seconds = attack_and_ask(service, good, 2000, count - warm)
    seen += more

    assert seen.total() >= count
    statuses = {status for _, status in seen}
    assert {0, 200, 400, 404, 405, 413, 415, 422, 431} <= statuses
    assert 500 not in statuses
    assert len(seconds) > 10
    assert seconds[int(0.99 * len(seconds))] < 5
    assert instances_of(service, good) == before
    assert_nothing_is_under_way(service, good)
    until(lambda: service.open_files() <= idle_files)
    assert service.memory() < 1.05 * memory + spare_memory
    assert sorted(folder.rglob("*")) == tree
    assert noteworthy(service) == []
    assert service.stop() == 0


def noteworthy(service: Served) -> list[str]:
    """Lines of the log, but for those that the decoders' own code in C writes about broken photos."""
    decoders = re.compile(r"libpng |Corrupt JPEG data|Premature end of JPEG|Invalid |Unsupported |Bogus |Warning: ")
    return [line for line in service.log.read_text().splitlines() if line and not decoders.match(line)]


def attack_and_ask(service: Served, good: bytes, seed: int, count: int) -> tuple[Counter[tuple[str, int]], list[float]]:
    """How hostile requests were answered, and the seconds that each of a good client's took meanwhile, sorted."""
    seen: Counter[tuple[str, int]] = Counter()
    wrong: list[str] = []
    seconds: list[float] = []
    done = threading.Event()

    def send(number: int) -> None:
        for attacker in attack(service, good, range(number, number + 1), -(-count // THREADS)):
            seen.update(attacker.seen)
            wrong.extend(attacker.wrong)

    def ask() -> None:
        while not done.wait(0.01):
            begun = time.monotonic()
            reply = service.ask(photo_request(good))
            seconds.append(time.monotonic() - begun)
            if reply.status not in (200, 503):
                wrong.append(f"{reply.status} to a good request: {reply.body[:300]!r}")

    threads = [threading.Thread(target=send, args=(seed + number,)) for number in range(THREADS)]
    client = threading.Thread(target=ask)
    for thread in (*threads, client):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    client.join()
    assert wrong == []
    return seen, sorted(seconds)


def instances_of(service: Served, photo: bytes) -> object:
    reply = service.ask(photo_request(photo))
    assert reply.status == 200
    return json.loads(reply.body)["images"]


def assert_nothing_is_under_way(service: Served, good: bytes) -> None:
    """As many photos as there are places find room at once, and as many bytes as bodies may have.

    Polygons are the largest answers: what they take of memory is in what is measured next, and so is not growth.
    """
    images = [{"base64": base64.b64encode(good).decode()}] * QUEUE
    body = json.dumps({"images": images, "masks": "polygon"}).encode()
    ask = request("POST", "/v1/predict", {"Content-Type": "application/json"}, body)
    until(lambda: service.ask(ask).status == 200)
    connections = [service.connect() for _ in range(BODIES)]
    for connection in connections:
        connection.sendall(photo_request(b"x" * (1 << 20))[:-1])
    time.sleep(0.5)
    for connection in connections:
        connection.sendall(b"x")
        assert read_reply(connection).status == 422
        connection.close()


@pytest.mark.thorough
def test_two_thousand_idle_connections_shut_nobody_out_for_long(service: Served) -> None:
    """The first thousand wait until their time is over; the others are answered, and so is who comes then."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard) if hard > 0 else 4096, hard))
    begun = time.monotonic()
    idle: list[socket.socket] = [service.connect() for _ in range(2000)]
    reply = service.ask(request())
    assert reply.status in (200, 503)
    until(lambda: service.ask(request()).status == 200)
    assert time.monotonic() - begun < 30
    for connection in idle:
        connection.close()
    assert service.log.read_text() == ""
