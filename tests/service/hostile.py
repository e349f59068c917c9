"""Requests that mean harm, made from a seed: broken HTTP, broken bodies, broken photos, connections that are cut."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import random
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image, PngImagePlugin

from tests.service.served import Address, Reply, photo_request, read_reply, request

SECONDS = 20  # for an answer
FORM = "multipart/form-data; boundary=xyz"
END = b"--xyz--\r\n"
OFFERS = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQ"}


class Hostile(NamedTuple):
    """A request, and what is done with its connection."""

    kind: str
    data: bytes
    ending: str = "read"  # read the answer; cut, reset or half-close the connection; leave the answer unread


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *extra: bytes, lines: int = 0) -> bytes:
    """A PNG whose header promises what its data need not hold."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = zlib.compress(bytes((1 + 3 * min(width, 4096)) * lines))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def tiff(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    """A TIFF of one directory: tag, type, count, value or offset of each entry."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def saved(picture: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, image_format, **options)
    return stream.getvalue()


def hostile_photos(good: bytes) -> dict[str, bytes]:
    """Files that a decoder may choke on."""
    picture = Image.open(io.BytesIO(good)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 65535
    exif[0x927C] = b"x" * 60_000
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 60_000, zip=True)
    bomb = zlib.compress(bytes(50_000_000), 9)
    grey = picture.resize((64, 64)).convert("L")
    wild = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 2**32 - 9),
            (278, 4, 1, 64), (279, 4, 1, 2**32 - 1)]  # fmt: skip
    return {
        "nothing": b"",
        "text": b"this is no photo",
        "177 megapixels": png(13304, 13304, lines=4),
        "4 billion pixels": png(65535, 65535),
        "2 billion wide": png(2**31 - 1, 1),
        "no width": png(0, 100),
        "1 x 1": saved(Image.new("RGB", (1, 1)), "PNG"),
        "9 x 5000": saved(Image.new("RGB", (9, 5000)), "PNG"),
        "text bomb": png(64, 64, png_chunk(b"zTXt", b"a\0\0" + bomb), lines=64),
        "profile bomb": png(64, 64, png_chunk(b"iCCP", b"a\0\0" + bomb), lines=64),
        "pixel bomb": png(64, 64).replace(zlib.compress(b""), bomb),
        "wrong sums": png(64, 64, lines=64)[:-4] + b"\0\0\0\0",
        "animated png": saved(picture, "PNG", save_all=True, append_images=[picture] * 3),
        "animated gif": saved(grey, "GIF", save_all=True, append_images=[grey] * 50),
        "animated webp": saved(grey, "WEBP", save_all=True, append_images=[grey.rotate(90)] * 9),
        "exif": saved(picture, "JPEG", exif=exif),
        "text chunks": saved(picture, "PNG", pnginfo=text),
        "wild offsets": tiff(wild),
        "tiff without end": tiff(wild[:2], following=8),
        "tiff of many": tiff([(273, 4, 2**30, 8), *wild[:5]]),
        "cut short": good[: len(good) // 2],
        "header alone": good[:30],
        "polyglot": good + b"PK\x03\x04" + b"<script>" + b"%PDF-1.7",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "pickle": b"cos\nsystem\n(S'true'\ntR.",
        "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 2**31, 0, 0, 54, 40, -5, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        "cmyk": saved(picture.convert("CMYK"), "JPEG"),
        "progressive": saved(picture, "JPEG", progressive=True)[:-300],
        "sixteen bits": saved(Image.fromarray(np.zeros((64, 64), np.uint16)), "PNG"),
        "tiff": saved(picture, "TIFF", compression="tiff_lzw"),
        "icon": saved(grey, "ICO"),
    }  # fmt: skip


class Maker:
    """Draws hostile requests."""

    def __init__(self, seed: int, good: bytes) -> None:
        self.draw = random.Random(seed)
        self.good = good
        picture = Image.open(io.BytesIO(good)).convert("RGB")
        self.formats = [saved(picture, name) for name in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")]
        self.photos = hostile_photos(good)
        self.kinds: list[Callable[[], Hostile]] = [
            self.head, self.head, self.path, self.framing, self.form, self.form, self.json, self.json, self.query,
            self.photo, self.photo, self.mutant, self.mutant, self.going, self.going, self.pipelined,
        ]  # fmt: skip

    def __call__(self) -> Hostile:
        return self.draw.choice(self.kinds)()

    def noise(self, most: int = 300) -> bytes:
        return self.draw.randbytes(self.draw.randint(1, most))

    def head(self) -> Hostile:
        draw = self.draw
        name = draw.choice(
            ["X-Request-Id", "Host", "Origin", "Content-Type", "Authorization", "Accept", "Expect", "Range"]
        )
        value = draw.choice(
            ["\xff" * 9, "a\tb", "x" * 40_000, "%0d%0aSet-Cookie: a=b", "../../etc/passwd", "${jndi:ldap://a}",
             "\u00ad", "100-continue", "bytes=0-", "http://[::1", "[", "null", "localhost:99999999", ","]
        )  # fmt: skip
        make: Callable[[], bytes] = draw.choice(
            [
                lambda: request(headers={name: value}),
                lambda: request(draw.choice(["HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "CONNECT", "BREW", "get"])),
                lambda: request(version=draw.choice(["1.0", "0.9", "2.0", "1.2", "9.9", "x"])),
                lambda: request(headers={f"A{number}": "b" for number in range(draw.choice([100, 3000]))}),
                lambda: request(headers={"Host": None}),
                lambda: request(headers={"host": "localhost"}),
                lambda: request(headers=OFFERS),
                lambda: request(headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "a"}),
                lambda: self.noise(),
                lambda: b"GET / HTTP/1.1\r\n" + self.noise(),
                lambda: b"GET /v1/about HTTP/1.1\nHost: localhost\n\n",
                lambda: b"\r\n" * 40 + request(),
                lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ]
        )
        return Hostile("head", make())

    def path(self) -> Hostile:
        path = self.draw.choice(
            ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/predict%00", "/v1/%70redict", "//v1/about",
             "/v1//about", "/v1/about/", "/v1/about;a=b", "/v1/about#a", "/v1/about?" + "a=b&" * 500, "http://localhost/v1/about",
             "http://evil.example/v1/about", "http://localhost", "*", "?", "/%", "/%zz", "/%ff%fe", "/\xff", "/\\..\\a",
             "/" + "a/" * 5000, "/v2/models/../../x", "/v2/health/live?a", "/static/../app.py", "file:///etc/passwd"]
        )  # fmt: skip
        return Hostile("path", request(self.draw.choice(["GET", "POST", "HEAD"]), path, body=b"x"))

    def framing(self) -> Hostile:
        chunked = {"Transfer-Encoding": "chunked", "Content-Type": "image/png"}
        head = request("POST", "/v1/predict", chunked)
        length = self.draw.choice(["-1", "1e3", "+5", "0x5", "9" * 30, ""])
        data, ending = self.draw.choice(
            [
                (request("POST", "/v1/predict", {**chunked, "Content-Length": "5"}) + b"0\r\n\r\n", "read"),
                (request("POST", "/v1/predict", {"Transfer-Encoding": "gzip, chunked"}) + b"0\r\n\r\n", "read"),
                (request("POST", "/v1/predict", {"Transfer-Encoding": "x"}) + b"0\r\n\r\n", "read"),
                (request("POST", "/v1/predict", {"Content-Length": length}), "read"),
                (request("POST", "/v1/predict", {"Content-Length": "3", "content-length": "4"}, b"abc"), "read"),
                (request("POST", "/v1/predict", {"Content-Length": str(10**15)}), "read"),
                (request("POST", "/v1/predict", {"Content-Length": str(10**9), "Expect": "100-continue"}), "read"),
                (head + b"zz\r\n", "read"),
                (head + b"ffffffffffffffffff\r\n", "read"),
                (head + b"1;" + b"a" * 40_000 + b"\r\nx\r\n", "read"),
                (head + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n", "read"),
                (head + b"0\r\n" + b"A: b\r\n" * 10_000, "read"),
                (head + b"0\r\nHost: evil.example\r\n\r\n", "read"),
                (head + b"5\r\nabcdefgh\r\n0\r\n\r\n", "read"),
                (head + b"fffff\r\n" + b"x" * 1000, "cut"),
                (photo_request(self.good)[:-5], "cut"),
                (photo_request(self.good) + self.noise(), "read"),
            ]
        )  # fmt: skip
        return Hostile("framing", data, ending)

    def form(self) -> Hostile:
        draw = self.draw
        part = b'--xyz\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n\r\n'
        names = [
            "a\u202egpj.exe",
            "../../etc/passwd",
            "a%0d%0ab",
            "\ud800",
            'a\\"b',
            "x" * 5000,
            "",
            "\u0000",
            "con",
            "\uffff",
        ]
        name = draw.choice(names).encode("utf-8", "surrogatepass").replace(b'"', b"%22")
        one = part % name + self.good + b"\r\n"
        field = b'--xyz\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        body = draw.choice(
            [
                one + END,
                one + one[:-20],
                one * 3 + END,
                part % b"a" * 5 + END,
                field % (b"a", b"b") * 5000 + END,
                field % (b"masks", self.noise()) + one + END,
                field % (b"confidence", draw.choice([b"nan", b"-1", b"1e400", b"", b"\xff", b"0" * 9999])) + one + END,
                field % (b"classes", b",".join([b"trousers"] * 5000)) + one + END,
                field % (b"x" * 3000, b"y") + END,
                b"--xyz\r\n" + b"A: b\r\n" * 50_000,
                b"--xyz\r\nA: " + b"b" * 200_000,
                b"--xyz\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END,
                b"--xyz\r\nContent-Type: multipart/mixed; boundary=abc\r\n\r\n--abc\r\n\r\nx\r\n--abc--\r\n" + END,
                b"--xyz\r\nContent-Transfer-Encoding: base64\r\n" + one[7:] + END,
                b"\r\n--xy" * 20_000,
                b"\r\n" * 50_000 + one + END,
                one + END + b"-" * 100_000,
                END,
                b"",
                self.noise(),
            ]
        )  # fmt: skip
        kind = draw.choice(
            [FORM] * 8
            + ["multipart/form-data", FORM + "z" * 1000, 'multipart/form-data; boundary="', FORM + "; " * 500]
        )
        return Hostile("form", request("POST", "/v1/predict", {"Content-Type": kind}, body))

    def json(self) -> Hostile:
        draw = self.draw
        text = base64.b64encode(self.good).decode()
        value: Any = draw.choice(
            [None, True, -1, 1e308, "", "\u202e", "x" * 50_000, [], {}, [[]] * 50, {"base64": text}, {"url": "http://a/"},
             {"base64": text, "name": "a\r\nb: c\u0000"}, {"base64": "!!!"}, {"base64": "data:," + text},
             [{"base64": text}] * 3,
             {"url": "file:///etc/passwd"}, {"base64": text, "url": "https://example.com/a.jpg"}, [{"base64": ""}] * 40]
        )  # fmt: skip
        number = draw.choice([b"NaN", b"Infinity", b"1e400", b"-0", b"1" * 5000])
        key = draw.choice(["image", "images", "masks", "confidence", "classes", "embed", "attributes", "x", ""])
        body = draw.choice(
            [
                json.dumps({key: value}).encode(),
                json.dumps({"image": {"base64": text}, key: value}).encode(),
                json.dumps(value).encode(),
                b'{"image":' + b"[" * 100_000,
                b'{"image":' * 50_000,
                b'{"images":[' + b"{}," * 50_000 + b"{}]}",
                b'{"image": {"base64": "' + text.encode() + b'"}, "image": 5}',
                b'{"confidence": %s, "image": {"base64": ""}}' % number,
                b'{"image": {"base64": "", "name": "\\ud800"}}',
                b'{"image": {"base64": "", "name": "\xff\xfe"}}',
                b"\xef\xbb\xbf{}",
                self.noise(),
                json.dumps({"image": {"base64": text}}).encode()[: draw.randint(1, 500)],
                json.dumps({"image": {"base64": text}}, ensure_ascii=True).encode("utf-16"),
            ]
        )  # fmt: skip
        return Hostile("json", request("POST", "/v1/predict", {"Content-Type": "application/json; charset=x"}, body))

    def query(self) -> Hostile:
        draw = self.draw
        name = draw.choice(["masks", "confidence", "classes", "embed", "attributes", "x", "", "masks[]"])
        value = draw.choice(
            [
                "png",
                "none",
                "polygon",
                "0.0001",
                "nan",
                "-1",
                "trousers",
                "trousers,",
                "\u202e",
                "\ud800",
                "\0",
                "x" * 9000,
            ]
        )
        path = f"/v1/predict?{name}={quote(value.encode('utf-8', 'surrogatepass'))}" + draw.choice(
            ["", "&a=%ff", "&" * 200, "&;"]
        )
        return Hostile(
            "query",
            photo_request(self.good, path, {"Content-Type": draw.choice(["image/jpeg", "IMAGE/x", "text/html", ""])}),
        )

    def photo(self) -> Hostile:
        name = self.draw.choice(list(self.photos))
        return Hostile(f"photo: {name}", photo_request(self.photos[name]))

    def mutant(self) -> Hostile:
        """A photo some of whose bytes are others."""
        data = bytearray(self.draw.choice(self.formats))
        for _ in range(self.draw.choice([1, 3, 30])):
            place = self.draw.randrange(min(len(data), self.draw.choice([100, 1000, len(data)])))
            data[place] = self.draw.randrange(256)
        if self.draw.random() < 0.3:
            del data[self.draw.randrange(len(data)) :]
        return Hostile("mutant", photo_request(bytes(data)))

    def going(self) -> Hostile:
        """A client that goes: while it sends, while its photo waits or is looked at, or without reading the answer."""
        data = photo_request(self.good, self.draw.choice(["/v1/predict", "/v1/predict?masks=png"]))
        if self.draw.random() < 0.4:
            data = data[: self.draw.randrange(1, len(data))]
        return Hostile("going", data, self.draw.choice(["cut", "reset", "half", "unread"]))

    def pipelined(self) -> Hostile:
        several = [self.head().data, photo_request(self.good), request(), request(path="/none")]
        self.draw.shuffle(several)
        return Hostile(
            "pipelined",
            b"".join(several) + request() * self.draw.choice([0, 0, 100]),
            self.draw.choice(["read", "cut"]),
        )


class Attacker:
    """Sends hostile requests, on one connection for as long as that lasts, and notes how they were answered."""

    def __init__(self, service: Address) -> None:
        self.service = service
        self.connection: socket.socket | None = None
        self.seen: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []

    def send(self, hostile: Hostile) -> None:
        if self.connection is None:
            self.connection = self.service.connect(SECONDS)
        reply = None
        with contextlib.suppress(ConnectionError):
            self.connection.sendall(hostile.data)
            if hostile.ending == "read":
                reply = self.read(hostile)
        self.seen[hostile.kind, 0 if reply is None else reply.status] += 1
        if hostile.ending == "half":
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
        elif hostile.ending == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif hostile.ending == "unread":
            time.sleep(0.02)
        keeps = hostile.kind in ("json", "form", "query", "mutant") or hostile.kind.startswith("photo")
        if reply is None or not keeps or reply.headers.get("connection") == "close":
            self.connection.close()
            self.connection = None

    def read(self, hostile: Hostile) -> Reply | None:
        assert self.connection is not None
        try:
            reply = read_reply(self.connection, with_body=not hostile.data.startswith(b"HEAD"))
        except TimeoutError:
            self.wrong.append(f"no answer to {hostile.kind}: {hostile.data[:200]!r}")
            return None
        kind = reply.headers.get("content-type")
        # Below /v2 errors have that protocol's form; a request that could not be read is below nothing.
        forms = ["application/json"] if reply.status == 200 else ["application/problem+json"]
        if b" /v2" in hostile.data.partition(b"\n")[0]:
            forms.append("application/json")
        if reply.status == 500 or (reply.status != 100 and kind not in forms):
            self.wrong.append(f"{reply.status} {kind} to {hostile.kind}: {hostile.data[:300]!r}: {reply.body[:200]!r}")
        return reply


def attack(service: Address, good: bytes, seeds: range, count: int) -> Iterator[Attacker]:
    """Attackers of these seeds, one after the other, when each has sent so many."""
    for seed in seeds:
        make, attacker = Maker(seed, good), Attacker(service)
        for _ in range(count):
            attacker.send(make())
        yield attacker
