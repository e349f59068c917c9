"""Stands in for the service: reads requests with the standard library alone, and fails when a test says so."""

from __future__ import annotations

import base64
import email.parser
import email.policy
import http.server
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

SQUARE = {"size": [4, 4], "counts": "52203"}  # of pycocotools: rows and columns 1 and 2, of four


class Asked(NamedTuple):
    """A request as it came."""

    path: str
    headers: dict[str, str]
    photos: list[tuple[str, bytes | str]]  # names, and bytes or addresses
    options: dict[str, Any]
    at: float  # when, in monotonic seconds
    port: int  # of the client: which connection


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes
    server: Stub

    def do_GET(self) -> None:
        self.server.asked.append(self.as_asked([], {}))
        if not self.fails():
            about = {"model": {"name": "stub"}, "limits": {"photos": 32, "body_bytes": self.server.body_bytes}}
            self.answer(200, {"ready": True} if self.path.endswith("ready") else about)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get_content_type() == "application/json":
            photos, options = read_json(body)
        else:
            photos, options = read_form(self.headers["Content-Type"], body)
        with self.server.lock:
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        asked = self.as_asked(photos, options)
        self.server.asked.append(asked)
        try:
            if not self.fails():
                time.sleep(self.server.seconds(asked))
                self.predict(photos)
        finally:
            with self.server.lock:
                self.server.now -= 1

    def as_asked(self, photos: list[tuple[str, bytes | str]], options: dict[str, Any]) -> Asked:
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = urlsplit(self.path).path
        return Asked(path, headers, photos, options, time.monotonic(), self.client_address[1])

    def fails(self) -> bool:
        """Whether the next fault, if there is one, has answered instead."""
        with self.server.lock:
            fault = self.server.faults.popleft() if self.server.faults else None
        if fault is not None:
            fault(self)
        return fault is not None

    def predict(self, photos: list[tuple[str, bytes | str]]) -> None:
        """Each photo that is not damaged has one garment, whose score is the length of the photo in hundredths."""
        images: list[dict[str, Any]] = []
        number = 0
        for name, content in photos:
            if content == b"damaged":
                images.append({"file_name": name, "error": f"{name}: is damaged."})
                continue
            number += 1
            garment = {"image_id": number, "category_id": 2, "bbox": [1, 1, 2, 2], "score": len(content) / 100}
            image = {"image_id": number, "file_name": name, "height": 4, "width": 4}
            images.append({**image, "instances": [{**garment, "segmentation": SQUARE}]})
        if len(images) == 1 and "error" in images[0]:
            self.refuse(422, images[0]["error"])
            return
        categories = [{"id": 1, "name": "skirt"}, {"id": 2, "name": "dress"}]
        self.answer(200, {"model": {"name": "stub", "revision": "abc"}, "categories": categories, "images": images})

    def refuse(self, status: int, detail: str, **headers: str) -> None:
        title = self.responses[http.HTTPStatus(status)][0]
        problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer(status, problem, {"Content-Type": "application/problem+json", "X-Request-Id": "r1", **headers})

    def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


Fault = Callable[[Handler], None]


class Stub(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[Asked] = []
        self.faults: deque[Fault] = deque()  # of the next requests, one each
        self.body_bytes: int | str = 2 * 2**20  # that it says it takes
        self.lock = threading.Lock()
        self.now = self.most = 0  # requests that are being answered at once
        self.seconds: Callable[[Asked], float] = lambda asked: 0.0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *arguments: Any) -> None:
        pass  # clients go, and connections are cut, on purpose


@contextmanager
def stub_server() -> Iterator[Stub]:
    stub = Stub()
    thread = threading.Thread(target=stub.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.shutdown()
        stub.server_close()


def refusal(status: int, detail: str = "Not now.", **headers: str) -> Fault:
    return lambda handler: handler.refuse(status, detail, **headers)


def page(status: int, text: str, **headers: str) -> Fault:
    """What a proxy says: not a problem, but a page."""
    return lambda handler: handler.answer(status, text.encode(), {"Content-Type": "text/html", **headers})


def cut(handler: Handler) -> None:
    """The connection is reset before there is an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def cut_in_the_middle(handler: Handler) -> None:
    """Reset when a part of the answer has been sent."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"model":')
    handler.wfile.flush()
    time.sleep(0.05)
    cut(handler)


def ended_early(handler: Handler) -> None:
    """Closed in good order, but before the answer is whole."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"model":')
    handler.close_connection = True


def read_json(body: bytes) -> tuple[list[tuple[str, bytes | str]], dict[str, Any]]:
    options = json.loads(body)
    photos = [
        (one["name"], one["url"] if "url" in one else base64.b64decode(one["base64"], validate=True))
        for one in options.pop("images")
    ]
    return photos, options


def read_form(content_type: str, body: bytes) -> tuple[list[tuple[str, bytes | str]], dict[str, Any]]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    photos: list[tuple[str, bytes | str]] = []
    options: dict[str, Any] = {}
    for part in form.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        field = str(part.get_param("name", header="content-disposition"))
        name = part.get_filename()
        if name is None:
            options.setdefault(field, []).append(content.decode())
        else:
            assert field == "image"
            photos.append((name.encode("utf-8", "surrogateescape").decode(), content))
    return photos, options
