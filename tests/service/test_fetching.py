"""Photos from URLs: what is fetched, and all that is not, whoever owns the name, the host and what it answers."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from seamline.service.fetching import NOT_A_HOST, Fetcher, NotFetched, addresses_of, is_global, url_to_target
from seamline.service.schemas import MAX_URL
from tests.service.certificates import Certificates, make_certificates

PHOTO = b"\xff\xd8 a photo \x00" * 2000
HOST = "photos.test"
TOKEN = "s3cr3t"
Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), [HOST, "other.test", "xn--mnchen-3ya.test"])


class Server:
    """Answers what its paths say, byte for byte, and remembers what it was asked."""

    def __init__(self, replies: dict[str, bytes | Reply]) -> None:
        self.replies, self.requests, self.connections = replies, list[str](), 0
        self.under_way = self.most_under_way = self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            reply = self.replies[request.split()[1].partition("?")[0]]
            if isinstance(reply, bytes):
                writer.write(reply)
            else:
                await reply(writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.under_way -= 1
            writer.close()

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None) -> Any:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


def answer(body: bytes = PHOTO, status: str = "200 OK", **headers: str) -> bytes:
    lines = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def moved(location: str, status: str = "302 Found") -> bytes:
    return answer(b"", status, Location=location)


def local(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


# 127.0.0.1 as if it were global.
ALLOWED: dict[str, Any] = {"is_allowed": lambda address: True, "lookup": local}


def run(
    of: Certificates,
    replies: dict[str, bytes | Reply],
    url: str = f"https://{HOST}:{{port}}/photo",
    times: int = 1,
    **options: Any,
) -> tuple[list[bytes | str], Server]:
    """What becomes of fetching a URL some times at once, with 127.0.0.1 as if it were global; and the server."""

    async def fetched() -> tuple[list[bytes | str], Server]:
        async with Server(replies).running(of.server) as running:
            settings: dict[str, Any] = {
                "max_bytes": len(PHOTO),
                "seconds": 30,
                "ports": [running.port],
                "is_allowed": lambda address: address == "127.0.0.1" or is_global(address),
                "lookup": local,
                "certificates": of.client,
            }
            fetcher = Fetcher(**settings | options)
            try:
                return [*await asyncio.gather(*[one(fetcher, running) for _ in range(times)])], running
            finally:
                await fetcher.close()

    async def one(fetcher: Fetcher, running: Server) -> bytes | str:
        try:
            return await fetcher.fetch(url.format(port=running.port))
        except NotFetched as error:
            return str(error)

    return asyncio.run(fetched())


def sentence(of: Certificates, *arguments: Any, **options: Any) -> str:
    """Why nothing was fetched: one sentence, without what is secret in the URL."""
    [found], _ = run(of, *arguments, **options)
    assert isinstance(found, str), "it was fetched"
    assert found.endswith(".") and "\n" not in found and "/photo" not in found and TOKEN not in found
    return found


def test_a_photo_comes_as_it_is(certificates: Certificates) -> None:
    [found], server = run(certificates, {"/photo": answer(Content_Type="text/html")})
    assert found == PHOTO
    head = server.requests[0].lower()
    assert head.startswith("get /photo http/1.1\r\n") and f"host: {HOST}:{server.port}" in head
    assert "accept-encoding: identity" in head and "connection: close" in head and "user-agent: seamline/" in head
    assert "cookie" not in head and "referer" not in head and "authorization" not in head


def test_a_name_in_any_script_is_asked_for_in_ascii(certificates: Certificates) -> None:
    asked = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    url = "https://München.test:{port}/photo?x=ü#part"
    [found], server = run(certificates, {"/photo": answer()}, url, lookup=lookup)
    assert found == PHOTO and asked == ["xn--mnchen-3ya.test"]
    assert "part" not in server.requests[0].splitlines()[0]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"


def test_a_photo_of_no_given_length_comes_whole(certificates: Certificates) -> None:
    until_closed = b"HTTP/1.1 200 OK\r\n\r\n" + PHOTO
    for reply in (CHUNKED % (len(PHOTO), PHOTO), until_closed):
        assert run(certificates, {"/photo": reply})[0] == [PHOTO]


# Every disguise of an address that lists of bypasses have, and names that are not global.
DISGUISES = [
    "127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254",
    "100.100.100.200", "168.63.129.16", "8.8.8.8", "1.1.1.1.",
    "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0x7F.0x0.0x0.0x1", "0177.0.0.1", "017700000001", "00177.1",
    "0251.0376.0251.0376", "0xA9FEA9FE", "2852039166", "425.510.425.510", "127.0.0.1.", "127.000.000.001",
    "127.0.0.0x1",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]", "[fec0::1]", "[fd00:ec2::254]", "[ff02::1]", "[::ffff:0:127.0.0.1]", "[2606:4700:4700::1111]",
    "①②⑦.⓪.⓪.①", "１２７.０.０.１", "127。0。0。1", "127．0．0．1", "①⑥⑨.②⑤④.①⑥⑨.②⑤④", "0ⅹ7f.1",  # noqa: RUF001
    "localhost", "LOCALHOST", "localhost.", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "intranet", "kubernetes", "metadata", "%6c%6f%63alhost.test",
    "127.0.0.1%00.photos.test", "photos..test", ".photos.test", "-", "a.-", "a" * 64 + ".test", "a." * 128 + "test",
    "photos.test,127.0.0.1", "photos.test;127.0.0.1", "photos.test%2f127.0.0.1", "photos.test%23", "photos.test&x",
    "photos.t*st", "photos.0x7f", "photos.1", "photos.test'", 'photos.test"', "photos.test`", "{photos}.test",
]  # fmt: skip
UNUSABLE = [
    "", "photo.jpg", "/etc/passwd", "https:", "https://", "https:///photo", "https:photos.test/photo",
    "//photos.test/photo",
    "http://photos.test/photo", "ftp://photos.test/photo", "file:///etc/passwd", "gopher://photos.test/x",
    "data:image/png,x",
    "dict://photos.test/x", "jar:https://photos.test!/x", "javascript:x", "ldap://photos.test", "s3://photos.test/x",
    "ws://photos.test/", "wss://photos.test/", "httpsx://photos.test/", "unix:///run/x", "blob:https://photos.test/x",
    "https://photos.test\\@127.0.0.1/", "https://127.0.0.1\\@photos.test/", "https:\\\\photos.test/",
    "https://photos.test\\x",
    "https://photos.test\t/", "https://photos.test\r\nHost: x/", "https://photos.test /", " https://photos.test/",
    "https://photos.test/\x00", "https://photos.test/a b", "https://photos.test\u2028/", "https://photos.test\u00a0/",
    "https://photos.test\uff0f/", "https://photos.test\u2100.x/", "https://photos.test:99999/",
    "https://photos.test:x/",
    "https://[::1", "https://]/", "https://photo\u200ds.test/", "https://photo\u00ads.test/",
    "https://photos.test:-443/",
    "https://\ud800.test/",
]  # fmt: skip
WITH_A_USER = [
    "https://user@photos.test/", "https://user:password@photos.test/", "https://:@photos.test/",
    "https://:x@photos.test/",
    "https://photos.test:443@127.0.0.1/", "https://photos.test@127.0.0.1/", "https://photos.test%2f@127.0.0.1/",
    "https://photos.test@other.test@127.0.0.1/", "https://a@b@photos.test/",
]  # fmt: skip


def refused(url: str, **options: Any) -> str:
    """By a fetcher as the service has it, which is never to ask for a name."""

    def lookup(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host} was looked up")

    with pytest.raises(NotFetched) as error:
        asyncio.run(Fetcher(max_bytes=10, seconds=30, lookup=lookup, **options).fetch(url))
    return str(error.value)


@pytest.mark.parametrize("host", DISGUISES, ids=ascii)
def test_an_address_is_refused_however_it_is_written(host: str) -> None:
    assert refused(f"https://{host}/photo?{TOKEN}") == NOT_A_HOST


@pytest.mark.parametrize("url", UNUSABLE, ids=ascii)
def test_what_is_not_a_url_of_https_is_refused(url: str) -> None:
    assert "it has to be https://HOST/PATH" in refused(url)


@pytest.mark.parametrize("url", WITH_A_USER)
def test_a_user_in_a_url_is_refused(url: str) -> None:
    assert "a user or a password" in refused(url)


def test_other_ports_and_long_urls_are_refused() -> None:
    for port in ("22", "80", "0", "8443", "6379", "65535"):
        assert refused(f"https://{HOST}:{port}/photo") == (
            f"{HOST}: port {port} is not allowed; the port has to be 443."
        )
    long = f"https://{HOST}/{'x' * MAX_URL}"
    assert "at most 4,000" in refused(long)
    assert "8443 is not allowed; the port has to be 443 or 444" in refused(f"https://{HOST}:8443/", ports=(443, 444))


def test_what_is_allowed_is_the_host_that_the_request_names() -> None:
    for url, host in {
        f"https://{HOST}/photo": HOST,
        "HTTPS://PHOTOS.test:443?x=@127.0.0.1#@127.0.0.1": HOST,
        f"https://{HOST}/@127.0.0.1/": HOST,
        "https://ex_ample.x-y.test./": "ex_ample.x-y.test.",
        "https://10.0.0.1.nip.example/": "10.0.0.1.nip.example",  # which the resolver looks at
        "https://faß.test/": "xn--fa-hia.test",
    }.items():
        target = url_to_target(url, (443,))
        assert (target.raw_host, target.port, target.fragment) == (host, 443, "")


# From the registries of IANA, and lists of bypasses.
NOT_GLOBAL = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.9",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "233.252.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::2", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::169.254.169.254", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::",
    "2001:2::1",
    "2001:10::1", "2001:20::1", "2001:1::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::", "2002:808:808::1",
    "3fff::1", "3fff:fff::1", "5f00::1", "4000::1", "8000::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
    "fec0::1", "ff02::1", "ff0e::1", "fe80::", "", "photos.test", "0x7f.1", "127.1", "1", "8.8.8.8 ", "08.8.8.8",
]  # fmt: skip


def test_only_addresses_of_the_internet_are_global() -> None:
    assert [address for address in NOT_GLOBAL if is_global(address)] == []
    for address in (
        "8.8.8.8",
        "1.1.1.1",
        "93.184.215.14",
        "168.63.129.17",
        "2606:4700:4700::1111",
        "2a00:1450:4001::1",
    ):
        assert is_global(address), address


def test_a_name_whose_addresses_are_not_all_global_is_as_one_that_is_not_there(certificates: Certificates) -> None:
    """One sentence, and no connection, so that nobody learns which names this network has."""

    def lookup_of(answers: Sequence[str]) -> Callable[[str, int], list[str]]:
        def lookup(host: str, port: int) -> list[str]:
            if not answers:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return [*answers]

        return lookup

    for answers in (
        [],
        *([address] for address in NOT_GLOBAL),
        ["8.8.8.8", "10.0.0.1"],
        ["2606:4700:4700::1111", "::1"],
    ):
        [found], server = run(certificates, {}, lookup=lookup_of(answers), is_allowed=is_global)
        assert found == NOT_A_HOST and server.connections == 0


def test_names_of_this_machine_are_not_global(certificates: Certificates) -> None:
    """Asked of the real resolver: hosts files and numbers that it takes for addresses."""
    for name in ("localhost", "127.1", "0x7f000001"):
        assert not any(map(is_global, addresses_of(name, 443)))
    with pytest.raises(OSError):
        addresses_of("nobody.invalid", 443)
    found = sentence(certificates, {}, "https://nobody.invalid:{port}/photo", lookup=addresses_of)
    assert found == NOT_A_HOST


def test_the_address_that_was_checked_is_the_one_connected_to(certificates: Certificates) -> None:
    """A name server that answers another address the second time: nobody asks a second time."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    [found], server = run(certificates, {"/photo": answer()}, lookup=rebinding)
    assert (found, asked, server.connections) == (PHOTO, [HOST], 1)


def test_a_name_is_looked_up_and_checked_again_for_each_redirect(certificates: Certificates) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.1", "10.0.0.1"]

    replies = {"/photo": moved("/next"), "/next": answer()}
    assert sentence(certificates, replies, lookup=rebinding) == NOT_A_HOST
    assert asked == [HOST, HOST]


def test_three_redirects_are_followed_with_nothing_of_the_first_request(certificates: Certificates) -> None:
    cookie = "session=1; Path=/"
    replies: dict[str, bytes | Reply] = {
        "/photo": answer(b"", "302 Found", Location="/a/", Set_Cookie=cookie),
        "/a/": moved("b?x=1", "301 Moved"),
        "/a/b": moved("https://other.test:{port}/c", "307 Temporary Redirect"),
        "/c": answer(),
    }

    async def follow() -> bytes:
        server = Server(replies)
        async with server.running(certificates.server):
            server.replies["/a/b"] = moved(f"https://other.test:{server.port}/c", "308 Permanent Redirect")
            fetcher = Fetcher(len(PHOTO), 30, ports=[server.port], **ALLOWED, certificates=certificates.client)
            found = await fetcher.fetch(f"https://{HOST}:{server.port}/photo?{TOKEN}")
            again = await fetcher.fetch(f"https://{HOST}:{server.port}/photo")
            await fetcher.close()
        assert found == again and len(server.requests) == 8
        assert not any(word in "".join(server.requests).lower() for word in ("cookie", "referer"))
        assert TOKEN not in "".join(server.requests[1:])
        return found

    assert asyncio.run(follow()) == PHOTO


def test_a_fourth_redirect_is_not_followed(certificates: Certificates) -> None:
    [found], server = run(certificates, {"/photo": moved("/photo")})
    assert found == f"{HOST}: redirects once more; at most 3 redirects are followed."
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "location",
    ["http://photos.test/photo", "//127.0.0.1/x", "https://127.0.0.1/x", "https://[::1]/", "//localhost/",
    "file:///etc/passwd",
     "https://user:password@photos.test/", "https://2130706433/", "https://photos.test:22/", "gopher://x",
     "https://[", "\\\\x\\y",
     "https://photos.test:99999/", "http:/x", "https://169.254.169.254/latest/meta-data/", "//\t127.0.0.1/",
     "x" * 5000,
     "https://ph\u00f6tos/"],
    ids=lambda text: ascii(text[:40]),
)  # fmt: skip
def test_a_redirect_is_checked_as_the_url_was(certificates: Certificates, location: str) -> None:
    [found], server = run(certificates, {"/photo": moved(location), "/%5C%5Cx%5Cy": answer(b"", "404 None")})
    assert isinstance(found, str)
    assert found.startswith(f"{HOST}: redirects to a URL that is not allowed; ") or "status 404" in found
    assert len(server.requests) <= 2


def test_proxies_are_ignored(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert run(certificates, {"/photo": answer()})[0] == [PHOTO]


def test_passwords_of_netrc_are_not_sent(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text(f"default login me password {TOKEN}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    _, server = run(certificates, {"/photo": answer()})
    assert "authorization" not in server.requests[0].lower()


def test_a_certificate_has_to_be_trusted_and_of_the_host(certificates: Certificates, tmp_path: Path) -> None:
    stranger = make_certificates(tmp_path, [HOST])
    words = "cannot be reached over https; it has to answer, with a certificate that is trusted here."
    assert sentence(certificates, {"/photo": answer()}, certificates=stranger.client) == f"{HOST}: {words}"
    assert sentence(certificates, {"/photo": answer()}, certificates=None) == f"{HOST}: {words}"
    url = "https://stranger.test:{port}/photo"
    assert sentence(certificates, {"/photo": answer()}, url) == f"stranger.test: {words}"


def test_a_host_that_does_not_speak_tls_or_is_not_there(certificates: Certificates) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n")
        writer.close()

    async def reasons() -> list[str]:
        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        first = await reason(port)
        server.close()
        return [first, await reason(port)]  # nobody listens there any more

    async def reason(port: int) -> str:
        fetcher = Fetcher(10, 30, ports=[port], **ALLOWED, certificates=certificates.client)
        with pytest.raises(NotFetched) as error:
            await fetcher.fetch(f"https://{HOST}:{port}/photo")
        await fetcher.close()
        return str(error.value)

    words = f"{HOST}: cannot be reached over https; it has to answer, with a certificate that is trusted here."
    assert asyncio.run(reasons()) == [words, words]


async def trickle(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    for _ in range(600):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def trickling_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(600):
        writer.write(b"X-%d: x\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.05)


async def continued(writer: asyncio.StreamWriter) -> None:
    for _ in range(600):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def slowly_moved(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.2)
    writer.write(moved("/photo"))


@pytest.mark.parametrize("reply", [trickle, trickling_headers, continued, silent])
def test_one_clock_ends_whatever_is_slow(certificates: Certificates, reply: Reply) -> None:
    begun = time.monotonic()
    found = sentence(certificates, {"/photo": reply}, seconds=0.5)
    assert found == f"{HOST}: takes longer than 0.5 s; by then all has to be there."
    assert time.monotonic() - begun < 20


def test_the_clock_runs_on_through_redirects_names_and_waiting(certificates: Certificates) -> None:
    assert "takes longer than 0.5 s" in sentence(certificates, {"/photo": slowly_moved}, seconds=0.5)
    release = threading.Event()

    def slow(host: str, port: int) -> list[str]:
        release.wait(60)
        return ["127.0.0.1"]

    try:
        found, server = run(certificates, {"/photo": answer()}, times=5, lookup=slow, at_once=2, seconds=0.5)
    finally:
        release.set()
    assert found == 5 * [f"{HOST}: takes longer than 0.5 s; by then all has to be there."]
    assert server.connections == 0


def test_names_are_looked_up_in_threads_of_their_own(certificates: Certificates) -> None:
    """Names that nobody answers for leave the threads of the event loop to others."""
    release = threading.Event()

    def slow(host: str, port: int) -> list[str]:
        release.wait(60)
        return ["127.0.0.1"]

    async def busy() -> str:
        fetcher = Fetcher(10, 60, lookup=slow, is_allowed=lambda address: False, at_once=64)
        waiting = [asyncio.create_task(fetcher.fetch(f"https://{HOST}/")) for _ in range(64)]
        await asyncio.sleep(0.2)
        await asyncio.wait_for(asyncio.to_thread(str), 30)
        release.set()
        for one in waiting:
            with pytest.raises(NotFetched):
                await one
        await fetcher.close()
        return "done"

    assert asyncio.run(busy()) == "done"


def test_at_most_some_are_fetched_at_once(certificates: Certificates) -> None:
    async def slowly(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(answer())

    found, server = run(certificates, {"/photo": slowly}, times=9, at_once=3)
    assert found == 9 * [PHOTO]
    assert server.most_under_way <= 3 and server.connections == 9


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(10_000):
        writer.write(b"x" * 65536)
        await writer.drain()


async def endless_chunks(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(10_000):
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        writer.write(b"X-%d: %s\r\n" % (number, b"x" * 4000))
        await writer.drain()


@pytest.mark.parametrize(
    "reply", [endless, endless_chunks, answer(PHOTO + b"x"), answer(b"", Content_Length="999999999")]
)
def test_too_many_bytes_are_refused_as_soon_as_they_are_known(certificates: Certificates, reply: bytes | Reply) -> None:
    found = sentence(certificates, {"/photo": reply})
    assert found == f"{HOST}: sends more than the {len(PHOTO):,} bytes that are allowed."


def test_a_bomb_is_not_unpacked(certificates: Certificates) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    words = f"{HOST}: sends the photo compressed, unasked; it has to send the file as it is."
    for kind in ("gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip"):
        assert sentence(certificates, {"/photo": answer(bomb, Content_Encoding=kind)}, max_bytes=len(bomb)) == words
    # A server that does not say so sends bytes, which no decoder takes for a photo.
    assert run(certificates, {"/photo": answer(bomb)}, max_bytes=len(bomb))[0] == [bomb]
    assert run(certificates, {"/photo": answer(Content_Encoding="identity")})[0] == [PHOTO]


@pytest.mark.parametrize(
    "status", ["204 None", "206 Part", "304 Same", "401 No", "404 None", "500 Bad", "503 Busy", "300 Many"]
)
def test_what_is_not_a_photo_is_refused_with_its_status(certificates: Certificates, status: str) -> None:
    found = sentence(certificates, {"/photo": answer(b"", status)})
    assert found == f"{HOST}: answers with status {status[:3]}; it has to send the photo, with 200."


GARBAGE = [
    b"", b"\x00", b"SSH-2.0-x\r\n", b"HTTP/0.9\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"<html>",
    b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 99999 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"HTTP/1.1 200 OK\r\n: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\x00B: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x" * 99999,
    b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\n\r\n", b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation:\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("reply", GARBAGE, ids=ascii)
def test_what_does_not_speak_http_is_one_sentence(certificates: Certificates, reply: bytes) -> None:
    assert sentence(certificates, {"/photo": reply}, seconds=20).startswith(f"{HOST}: ")


def test_headers_without_an_end_are_refused(certificates: Certificates) -> None:
    assert sentence(certificates, {"/photo": endless_headers}).startswith(f"{HOST}: does not send a whole answer")


def test_answers_that_are_damaged_anywhere_are_photos_or_sentences(certificates: Certificates) -> None:
    """Bytes changed, cut out and doubled in answers of each kind: nothing but NotFetched is raised."""
    generator = random.Random(0)
    whole = [
        answer(b"x" * 50, Set_Cookie="a=b"),
        CHUNKED % (50, b"x" * 50),
        moved("/photo"),
        answer(Content_Encoding="gzip"),
    ]
    found, _ = run(certificates, {"/photo": damaged(generator, whole)}, times=300, seconds=60)
    assert len(found) == 300


def damaged(generator: random.Random, whole: Sequence[bytes]) -> Reply:
    async def reply(writer: asyncio.StreamWriter) -> None:
        data = bytearray(generator.choice(whole))
        for _ in range(generator.randint(1, 4)):
            at = generator.randrange(len(data))
            match generator.randrange(3):
                case 0:
                    data[at] = generator.randrange(256)
                case 1:
                    del data[at : at + generator.randint(1, 10)]
                case 2:
                    data[at:at] = data[at : at + 10]
        writer.write(bytes(data))

    return reply


def test_nothing_of_a_url_is_logged(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    url = f"https://{HOST}:{{port}}/{TOKEN}?{TOKEN}"
    replies: Iterator[bytes] = itertools.cycle(GARBAGE)
    with caplog.at_level(logging.DEBUG):
        run(certificates, {f"/{TOKEN}": answer(Set_Cookie="\x01=; bad")}, url)
        for _ in GARBAGE:
            run(certificates, {f"/{TOKEN}": next(replies)}, url, seconds=20)
    assert TOKEN not in caplog.text


def test_what_is_under_way_ends_with_close(certificates: Certificates) -> None:
    async def closed() -> None:
        async with Server({"/photo": silent}).running(certificates.server) as server:
            fetcher = Fetcher(10, 60, ports=[server.port], **ALLOWED, certificates=certificates.client)
            task = asyncio.create_task(fetcher.fetch(f"https://{HOST}:{server.port}/photo"))
            while not (server.requests or task.done()):
                await asyncio.sleep(0.01)
            assert any(thread.name.startswith("resolve") for thread in threading.enumerate())
            await fetcher.close()
            with pytest.raises(NotFetched):
                await asyncio.wait_for(task, 30)
            await fetcher.close()
            while any(thread.name.startswith("resolve") for thread in threading.enumerate()):
                await asyncio.sleep(0.01)
            await Fetcher(10, 60).close()

    asyncio.run(closed())
