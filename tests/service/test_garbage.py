"""No request leaves what only the garbage collector finds: photos and headers would fill the memory until it runs."""

from __future__ import annotations

import base64
import gc
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests.service.running import running
from tests.service.served import photo_request, read_reply, request
from tests.untrained import Untrained

REQUESTS = 20
LARGE = {f"X-{number}": "a" for number in range(1000)}


@pytest.fixture(scope="module")
def address(untrained: Untrained) -> Iterator[str]:
    with running(untrained.models()["openvino"]) as address:
        yield address


def in_json(values: object) -> bytes:
    return request("POST", "/v1/predict", {"Content-Type": "application/json"}, json.dumps(values).encode())


def in_form(photo: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    return request("POST", "/v1/predict", form, head + photo + b"\r\n--b--\r\n")


ASKED: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "about": (200, lambda photo: request(headers=LARGE)),
    "metrics": (200, lambda photo: request(path="/metrics")),
    "photo": (200, photo_request),
    "two in JSON": (200, lambda photo: in_json({"images": [{"base64": base64.b64encode(photo).decode()}] * 2})),
    "form": (200, in_form),
    "not a photo": (422, lambda photo: photo_request(b"text")),
    "photo cut short": (422, lambda photo: photo_request(photo[:2000])),
    "one of two is not a photo": (
        200,
        lambda photo: in_json({"images": [{"base64": base64.b64encode(photo).decode()}, {"base64": "aaaa"}]}),
    ),
    "option": (422, lambda photo: in_json({"image": {"base64": ""}, "confidence": 2})),
    "not JSON": (400, lambda photo: request("POST", "/v1/predict", {"Content-Type": "application/json"}, b"{")),
    "address": (404, lambda photo: request(path="/none", headers=LARGE)),
    "host": (421, lambda photo: request(headers={"Host": "evil.example"} | LARGE)),
    "infer": (404, lambda photo: request("POST", "/v2/models/other/infer", LARGE, b"{}")),
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_was_asked_is_forgotten_with_the_answer(address: str, untrained: Untrained, asked: str) -> None:
    status, make = ASKED[asked]
    parts = urlsplit(address)
    with socket.create_connection((str(parts.hostname), parts.port or 0), 30) as connection:
        data = make(untrained.images()[0].read_bytes())
        for _ in range(3):
            connection.sendall(data)
            assert read_reply(connection).status == status
        gc.collect()
        gc.disable()
        try:
            for _ in range(REQUESTS):
                connection.sendall(data)
                assert read_reply(connection).status == status
            assert gc.collect() < REQUESTS
        finally:
            gc.enable()


@pytest.mark.parametrize("asked", ["about", "photo", "not a photo", "address", "cut short", "unreadable", "pipelined"])
def test_so_is_a_connection_with_its_end(address: str, untrained: Untrained, asked: str) -> None:
    """All but asyncio's own transport and socket."""
    parts = urlsplit(address)
    photo = untrained.images()[0].read_bytes()
    several = {
        "cut short": photo_request(photo)[:-1],
        "unreadable": b"no HTTP\r\n\r\n",
        "pipelined": photo_request(photo) * 9,
    }
    data = several.get(asked) or ASKED[asked][1](photo)

    def ask() -> None:
        with socket.create_connection((str(parts.hostname), parts.port or 0), 30) as connection:
            connection.sendall(data)
            if asked != "cut short":
                read_reply(connection)

    ask()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(REQUESTS):
            ask()
        time.sleep(0.5)  # what has begun is answered, although nobody waits for it
        gc.collect()
        found = Counter(type(thing).__name__ for thing in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert found["socket"] >= REQUESTS / 2, "no connection ended: this compares nothing"
    assert not {"Limited", "RequestResponseCycle", "Exchange", "Event", "bytearray", "frame"} & set(found)
