"""An S3 on this machine (moto's), and a proxy before it that counts requests and does what networks do."""

from __future__ import annotations

import functools
import http.client
import http.server
import socket
import socketserver
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import boto3
from moto.server import ThreadedMotoServer

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIDFORTESTS",
    "AWS_SECRET_ACCESS_KEY": "secretfortests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Request(NamedTuple):
    method: str
    key: str  # without the bucket; "" of a listing
    range: str


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


# What a rule makes of a request: None, to let it pass, or what is done with the handler and moto's answer.
Fault = Callable[["Handler", Answer], None]
Rule = Callable[[Request], Fault | None]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        request = Request(self.command, key, self.headers.get("Range", ""))
        with self.server.lock:
            self.server.requests.append(request)
            self.server.before(request)
            faults = [fault for rule in self.server.rules if (fault := rule(request)) is not None]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        upstream.request(self.command, self.path, body, dict(self.headers))
        got = upstream.getresponse()
        answer = Answer(got.status, dict(got.getheaders()), got.read())
        upstream.close()
        time.sleep(self.server.delay_s)
        (faults[0] if faults else passed)(self, answer)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def passed(handler: Handler, answer: Answer) -> None:
    handler.send_head(answer.status, answer.headers)
    handler.wfile.write(answer.body)


def status(number: int, code: str) -> Fault:
    """An error of S3's in place of the answer."""

    def fault(handler: Handler, answer: Answer) -> None:
        body = b"" if handler.command == "HEAD" else f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
        handler.send_head(number, {"Content-Type": "application/xml", "Content-Length": str(len(body))})
        handler.wfile.write(body)

    return fault


def half_then_reset(handler: Handler, answer: Answer) -> None:
    handler.send_head(answer.status, answer.headers)
    handler.wfile.write(answer.body[: len(answer.body) // 2])
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def half_then_closed(handler: Handler, answer: Answer) -> None:
    handler.send_head(answer.status, answer.headers)
    handler.wfile.write(answer.body[: len(answer.body) // 2])


def half_as_all(handler: Handler, answer: Answer) -> None:
    """A body cut short by something that also mends the header that would tell."""
    body = answer.body[: len(answer.body) // 2]
    lengths = {name: str(len(body)) for name in answer.headers if name.lower() == "content-length"}
    handler.send_head(answer.status, answer.headers | lengths)
    handler.wfile.write(body)


def flipped(handler: Handler, answer: Answer) -> None:
    body = bytearray(answer.body)
    body[len(body) // 2] ^= 0x10
    handler.send_head(answer.status, answer.headers)
    handler.wfile.write(bytes(body))


def edited(old: bytes, new: bytes) -> Fault:
    """The answer with another text in place of one in it."""

    def fault(handler: Handler, answer: Answer) -> None:
        body = answer.body.replace(old, new)
        lengths = {name: str(len(body)) for name in answer.headers if name.lower() == "content-length"}
        handler.send_head(answer.status, answer.headers | lengths)
        handler.wfile.write(body)

    return fault


def stalled(seconds: float) -> Fault:
    def fault(handler: Handler, answer: Answer) -> None:
        handler.send_head(answer.status, answer.headers)
        handler.wfile.write(answer.body[: len(answer.body) // 2])
        handler.wfile.flush()
        time.sleep(seconds)

    return fault


def first(times: int, fault: Fault, key: str | None = None, method: str = "GET") -> Rule:
    """The fault for the first so many requests of each key, or of this one."""
    seen: Counter[str] = Counter()

    def rule(request: Request) -> Fault | None:
        if request.method != method or (key is not None and request.key != key):
            return None
        seen[request.key] += 1
        return fault if seen[request.key] <= times else None

    return rule


class Proxy(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.rules: list[Rule] = []
        self.before: Callable[[Request], None] = lambda request: None
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.delay_s = 0.0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that were killed

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fetched(self) -> Counter[str]:
        """How often each object was asked for."""
        return Counter(request.key for request in self.requests if request.method == "GET" and request.key)


@functools.cache  # making one takes half a second
def client_of(port: int) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        region_name="us-east-1",
    )


class Bucket:
    """A bucket of its own, reached through a proxy of its own."""

    def __init__(self, server: ThreadedMotoServer, name: str | None = None) -> None:
        port = server.get_host_and_port()[1]
        self.name = name or f"bucket-{uuid.uuid4().hex[:12]}"
        self.client = client_of(port)
        self.client.create_bucket(Bucket=self.name)
        self.proxy = Proxy(port)
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": self.proxy.endpoint}

    def put(self, objects: Mapping[str, bytes]) -> None:
        for key, body in objects.items():
            self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def put_in_parts(self, key: str, parts: list[bytes]) -> None:
        upload = self.client.create_multipart_upload(Bucket=self.name, Key=key)["UploadId"]
        done = []
        for number, body in enumerate(parts, 1):
            answer = self.client.upload_part(Bucket=self.name, Key=key, UploadId=upload, PartNumber=number, Body=body)
            done.append({"PartNumber": number, "ETag": answer["ETag"]})
        self.client.complete_multipart_upload(
            Bucket=self.name, Key=key, UploadId=upload, MultipartUpload={"Parts": done}
        )

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def url(self, prefix: str = "") -> str:
        return f"s3://{self.name}/{prefix}"
