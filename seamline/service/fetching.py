"""Photos behind https://, fetched from hosts that everybody can reach and never from this machine's own network.

The caller chooses the URL, and this machine may reach what the caller cannot: metadata of a cloud, databases, other
services. So a URL has to name a host, every address of the name has to be global, and the connection is made to an
address that was checked: the resolver that checks is the connector's own, and nobody looks the name up again. IP
literals, which aiohttp connects to without asking a resolver, are refused however they are written. Redirects are
followed by hand, and each is checked as the first URL was. Nobody but the host learns of a query, which may hold a
token: errors name hosts alone, and no log has a URL.

Example:
    fetcher = Fetcher(max_bytes=25_000_000, seconds=10)
    photo = await fetcher.fetch("https://example.com/dress.jpg")
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from seamline import __version__
from seamline.base.errors import SeamlineError, counted
from seamline.service.schemas import MAX_URL

MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
AT_ONCE = 8
PORTS = (443,)  # with all of them, the service would be a scanner of other people's ports
NOT_IN_A_URL = re.compile(r"[\s\\\x00-\x1f\x7f]")  # what parsers of URLs drop, or disagree about
# Labels, the last of which begins with a letter. An address in whatever disguise (127.1, 0x7f.1, 2130706433, ::1) does
# not look like this, nor does a name without a dot, which is a neighbour's.
HOST = re.compile(r"(?=.{4,254}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\.?")
# Python's own is_global depends on its version, and has tunnels to IPv4 in it. Networks of the special-purpose
# registries, https://www.iana.org/assignments/iana-ipv6-special-registry, and two addresses that clouds answer at.
GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")  # all that is given to networks by now
NOT_GLOBAL = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocols' own, among them a cloud's metadata (192.0.0.192)
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # the wire server of a cloud, which is reached from inside alone
        "2001::/23",  # protocols' own, among them Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: any IPv4 address
        "3fff::/20",  # documentation
    )
]
# The same whether there is no such name, or one of this network: which of them it is, is nobody's business.
NOT_A_HOST = (
    "the URL's host is not one that photos are fetched from; it has to be a name in DNS, not an IP address, and all "
    "addresses of the name have to be global."
)


class NotFetched(SeamlineError):
    """There is no photo from this URL; the text is one sentence for its sender, without the URL."""


def is_global(address: str) -> bool:
    """Whether an IP address is one host on the Internet, and not an IPv4 address inside an IPv6 one (mapped, 6to4,
    NAT64, Teredo), which may lead back into a network of one's own."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if any(ip in network for network in NOT_GLOBAL):
        return False
    return ip.is_global and not ip.is_multicast and (ip.version == 4 or ip in GLOBAL_IPV6)


def addresses_of(host: str, port: int) -> list[str]:
    """All addresses of a name, from the system's resolver.

    Raises:
        OSError: when there are none.
    """
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def url_to_target(url: str, ports: Sequence[int]) -> URL:
    """The URL as it is requested, from the one parser that decides where the connection is made to.

    Raises:
        NotFetched: when it is not one of https:// with the name of a host; the host's addresses are not looked up yet.
    """
    if len(url) > MAX_URL:
        raise NotFetched(f"the URL has {len(url):,} characters; at most {MAX_URL:,} are allowed.")
    try:
        target = URL(url) if not NOT_IN_A_URL.search(url) else URL()
        host, port = target.raw_host, target.port
    except ValueError:  # among them what IDNA does not know
        target = URL()
    if target.scheme != "https" or not host:
        raise NotFetched("the URL cannot be used; it has to be https://HOST/PATH, without spaces and backslashes.")
    if "@" in target.raw_authority:
        raise NotFetched("the URL has a user or a password in it; only what needs neither is fetched.")
    if not HOST.fullmatch(host):
        raise NotFetched(NOT_A_HOST)
    if port not in ports:
        raise NotFetched(f"{host}: port {port} is not allowed; the port has to be {' or '.join(map(str, ports))}.")
    return target.with_fragment(None)


class CheckedResolver(AbstractResolver):
    """Names to addresses, all of which are allowed. The connector connects to what it answers."""

    def __init__(
        self,
        lookup: Callable[[str, int], list[str]],
        is_allowed: Callable[[str], bool],
        threads: ThreadPoolExecutor,
    ) -> None:
        self.lookup, self.is_allowed, self.threads = lookup, is_allowed, threads

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        try:
            addresses = await asyncio.get_running_loop().run_in_executor(self.threads, self.lookup, host, port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses or not all(map(self.is_allowed, addresses)):
            raise NotFetched(NOT_A_HOST)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """The threads are the owner's."""


class Fetcher:
    """Fetches photos for whoever asks; used in one event loop, until close()."""

    def __init__(
        self,
        max_bytes: int,
        seconds: float,
        at_once: int = AT_ONCE,
        ports: Sequence[int] = PORTS,
        is_allowed: Callable[[str], bool] = is_global,
        lookup: Callable[[str, int], list[str]] = addresses_of,
        certificates: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is opened before the first fetch.

        Args:
            max_bytes: of a photo.
            seconds: that a photo may take, from the call to the last byte, redirects and waiting for others included.
            at_once: photos that are fetched at the same time; more of them wait.
            ports: that a URL may have.
            is_allowed: whether an IP address may be connected to.
            lookup: what asks DNS; it is called in a thread, and raises OSError where there is no such name.
            certificates: which are trusted; None: those that this machine trusts.
        """
        self.max_bytes, self.seconds, self.at_once, self.ports = max_bytes, seconds, at_once, tuple(ports)
        self.is_allowed, self.lookup, self.certificates = is_allowed, lookup, certificates
        # Its own: a name server that answers late holds up other photos, but nothing else of the service.
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="resolve")

    async def fetch(self, url: str, count: Callable[[int], None] = lambda size: None) -> bytes:
        """What is behind a URL, whatever the server says that it is.

        Args:
            count: is called with the size of each part as it comes; what it raises ends the fetch.

        Raises:
            NotFetched: when the URL is not allowed, or nothing comes of it within the limits.
        """
        target = url_to_target(url, self.ports)
        try:
            async with asyncio.timeout(self.seconds):
                return await self._follow(target, count)
        except TimeoutError:
            raise NotFetched(
                f"{target.host}: takes longer than {self.seconds:g} s; by then all has to be there."
            ) from None

    async def close(self) -> None:
        """Let connections and threads go. What is being fetched fails."""
        if "_session" in self.__dict__:
            await self._session.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @functools.cached_property
    def _session(self) -> aiohttp.ClientSession:
        """Without cookies, proxies, passwords from files and decompression; each connection is used once."""
        connector = aiohttp.TCPConnector(
            ssl=self.certificates or ssl.create_default_context(),
            resolver=CheckedResolver(self.lookup, self.is_allowed, self._threads),
            use_dns_cache=False,
            force_close=True,
            limit=self.at_once,
        )
        return aiohttp.ClientSession(
            connector=connector,
            connector_owner=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"seamline/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),  # fetch() has the one clock
        )

    async def _follow(self, url: URL, count: Callable[[int], None]) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            found = await self._get(url, count)
            if isinstance(found, bytes):
                return found
            url = found
        raise NotFetched(f"{url.host}: redirects once more; at most {counted(MAX_REDIRECTS, 'redirect')} are followed.")

    async def _get(self, url: URL, count: Callable[[int], None]) -> bytes | URL:
        """The photo, or where it has gone."""
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status in REDIRECTS and "Location" in answer.headers:
                    return self._location(url, answer.headers["Location"])
                return await self._read(url, answer, count)
        except aiohttp.ClientConnectorError:  # among them certificates
            raise NotFetched(
                f"{url.host}: cannot be reached over https; it has to answer, with a certificate that is trusted here."
            ) from None
        except aiohttp.ClientError:
            raise NotFetched(f"{url.host}: does not send a whole answer; it has to speak HTTP.") from None

    def _location(self, url: URL, location: str) -> URL:
        try:
            return url_to_target(str(url.join(URL(location))) if location.isprintable() else "", self.ports)
        except (NotFetched, ValueError):
            raise NotFetched(
                f"{url.host}: redirects to a URL that is not allowed; it has to be https://HOST/PATH with a name in "
                "DNS and nothing else before the path."
            ) from None

    async def _read(self, url: URL, answer: aiohttp.ClientResponse, count: Callable[[int], None]) -> bytes:
        if answer.status != 200:
            raise NotFetched(f"{url.host}: answers with status {answer.status}; it has to send the photo, with 200.")
        if any(
            value.strip().lower() not in ("", "identity") for value in answer.headers.getall("Content-Encoding", ())
        ):
            raise NotFetched(f"{url.host}: sends the photo compressed, unasked; it has to send the file as it is.")
        data = bytearray()
        if (answer.content_length or 0) <= self.max_bytes:
            async for chunk in answer.content.iter_any():
                count(len(chunk))
                data += chunk
                if len(data) > self.max_bytes:
                    break
            else:
                return bytes(data)
        raise NotFetched(f"{url.host}: sends more than the {self.max_bytes:,} bytes that are allowed.")
