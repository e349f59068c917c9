"""A stand-in for a Qdrant server: its REST API over the client package's own in-memory implementation.

There is no server to be had from PyPI, npm or Debian. What comes over HTTP is checked by the types that Qdrant
generates from the server's OpenAPI, and answered by Qdrant's own Python implementation of filters and search, so the
wire and the meaning of a filter are theirs; how a server's graph finds, and how it does with millions, is not tested.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from qdrant_client import QdrantClient, models


class Stored:
    """Collections in memory; one request at a time."""

    def __init__(self) -> None:
        self.client, self.lock = QdrantClient(":memory:"), threading.Lock()
        self.requests: list[tuple[str, str]] = []
        self.fail_after: int | None = None  # requests, then each is answered with an error

    def answer(self, method: str, path: str, body: bytes) -> Any:
        name, rest = re.fullmatch(r"/collections/([^/?]+)([^?]*)(?:\?.*)?", path).groups()  # type: ignore[union-attr]
        client, what = self.client, (method, rest)
        if what == ("GET", "/exists"):
            return {"exists": client.collection_exists(name)}
        if what == ("PUT", ""):
            asked = models.CreateCollection.model_validate_json(body)
            return client.create_collection(name, vectors_config=asked.vectors)
        if what == ("PUT", "/index"):
            models.CreateFieldIndex.model_validate_json(body)
            return {"operation_id": 1, "status": "completed"}
        if what == ("PUT", "/points"):
            points = models.PointsList.model_validate_json(body).points
            return client.upsert(name, points=points).model_dump(mode="json")
        if what == ("POST", "/points"):
            wanted = models.PointRequest.model_validate_json(body)
            found = client.retrieve(name, ids=wanted.ids, with_payload=True)
            return [one.model_dump(mode="json") for one in found]
        if what == ("POST", "/points/query"):
            query = models.QueryRequest.model_validate_json(body)
            answered = client.query_points(
                name, query=query.query, query_filter=query.filter, limit=query.limit or 10,
                score_threshold=query.score_threshold, with_payload=True, with_vectors=bool(query.with_vector),
            )  # fmt: skip
            return {"points": [one.model_dump(mode="json") for one in answered.points]}
        if what == ("POST", "/points/delete"):
            selector = models.FilterSelector.model_validate_json(body)
            return client.delete(name, points_selector=selector).model_dump(mode="json")
        if what == ("POST", "/points/count"):
            return {"count": client.count(name).count}
        raise ValueError(f"{method} {path} is not of this stand-in")


@contextmanager
def qdrant_server() -> Iterator[tuple[str, Stored]]:
    """Its address, and what it has."""
    stored = Stored()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            with stored.lock:
                stored.requests.append((self.command, self.path))
                try:
                    if stored.fail_after is not None and len(stored.requests) > stored.fail_after:
                        raise OSError("the stand-in's disk is full")
                    status, answer = 200, {"result": stored.answer(self.command, self.path, body), "status": "ok"}
                except Exception as error:
                    status, answer = 500, {"status": {"error": str(error)}}
            data = json.dumps({**answer, "time": 0.001}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = respond

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", stored
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
