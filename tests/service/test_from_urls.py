"""Photos that a request names by URLs: the same answer as for their files, and nothing that stays behind."""

from __future__ import annotations

import asyncio
import base64
import http.server
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from seamline.service.admission import Admission
from seamline.service.bodies import Photo
from seamline.service.fetching import NOT_A_HOST, Fetcher, NotFetched, addresses_of, is_global
from seamline.service.from_urls import FromUrls
from seamline.service.problems import Problem
from seamline.service.running import url_fetcher
from seamline.service.settings import Settings
from tests.service.certificates import Certificates, make_certificates
from tests.service.running import running
from tests.untrained import Untrained

HOST = "photos.test"
TOKEN = "s3cr3t"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), [HOST])


@pytest.fixture(scope="module")
def photos_url(certificates: Certificates, untrained: Untrained) -> Iterator[str]:
    """Where another server has the photos of the model, by their names."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(untrained.images_folder))

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = certificates.server.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://{HOST}:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def address(untrained: Untrained, photos_url: str, certificates: Certificates) -> Iterator[str]:
    """A service that may fetch from 127.0.0.1, as if it were global."""
    port = int(photos_url.rpartition(":")[2])
    fetcher = Fetcher(
        10_000_000,
        30,
        ports=[port],
        is_allowed=lambda address: address == "127.0.0.1",
        lookup=lambda host, port: ["127.0.0.1" if host == HOST else "10.0.0.1"],
        certificates=certificates.client,
    )
    settings = Settings(fetch_urls=True, access_log=True)
    with running(untrained.models()["openvino"], settings, fetcher=fetcher) as address:
        yield address


def predicted(address: str, *images: dict[str, str]) -> Any:
    body = {"images": images, "confidence": 0.02}
    answer = httpx.post(f"{address}/v1/predict", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()["images"]


def test_a_url_is_answered_as_its_file_is(address: str, photos_url: str, untrained: Untrained) -> None:
    photos = untrained.images()[:4]
    files = [{"base64": base64.b64encode(photo.read_bytes()).decode(), "name": photo.name} for photo in photos]
    urls = [{"url": f"{photos_url}/{photo.name}?{TOKEN}", "name": photo.name} for photo in photos]
    expected = predicted(address, *files)
    assert any(image["instances"] for image in expected)
    assert predicted(address, *urls) == expected
    assert predicted(address, files[0], urls[1], files[2], urls[3]) == expected


def test_a_url_that_is_not_fetched_is_an_error_of_its_own(
    address: str, photos_url: str, untrained: Untrained, caplog: pytest.LogCaptureFixture
) -> None:
    good = f"{photos_url}/{untrained.images()[0].name}"
    with caplog.at_level(logging.DEBUG):
        found = predicted(
            address,
            {"url": f"{photos_url}/none.jpg?{TOKEN}"},
            {"url": good},
            {"url": f"https://127.0.0.1/{TOKEN}", "name": "mine"},
            {"url": f"{photos_url.replace(HOST, 'other.test')}/x?{TOKEN}"},
        )
        given_up = time.monotonic() + 60
        while "POST predict 200" not in caplog.text and time.monotonic() < given_up:
            time.sleep(0.01)  # it is logged after the answer
    assert [image.get("error") for image in found] == [
        f"image 1: {HOST}: answers with status 404; it has to send the photo, with 200.",
        None,
        f"mine: {NOT_A_HOST}",
        f"image 4: {NOT_A_HOST}",
    ]
    assert found[1]["image_id"] == 1 and found[1]["instances"]
    assert TOKEN not in caplog.text and "POST predict 200" in caplog.text
    alone = httpx.post(f"{address}/v1/predict", json={"image": {"url": f"http://{HOST}/x"}})
    assert alone.status_code == 422 and "it has to be https://HOST/PATH" in alone.json()["detail"]


def test_urls_are_refused_unless_they_are_switched_on(untrained: Untrained, photos_url: str) -> None:
    with running(untrained.models()["openvino"]) as address:
        answer = httpx.post(f"{address}/v1/predict", json={"image": {"url": f"{photos_url}/x.png"}})
        assert answer.status_code == 422
        assert answer.json()["detail"] == "This service does not fetch photos from URLs; send the file."
        assert httpx.get(f"{address}/v1/about").json()["limits"]["fetches_urls"] is False


class Slow(Fetcher):
    """Never done; says when it was ended."""

    ended = threading.Event()

    async def fetch(self, url: str, count: Callable[[int], None] = lambda size: None) -> bytes:
        try:
            await asyncio.sleep(600)
        finally:
            self.ended.set()
        return b""


def test_nothing_is_fetched_for_a_client_that_has_gone(untrained: Untrained) -> None:
    with running(untrained.models()["openvino"], Settings(fetch_urls=True), fetcher=Slow(10, 1)) as address:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/v1/predict", json={"image": {"url": "https://photos.test/"}}, timeout=1)
        assert Slow.ended.wait(60)


def test_the_service_fetches_within_its_settings() -> None:
    assert url_fetcher(Settings()) is None
    fetcher = url_fetcher(Settings(fetch_urls=True, body_bytes=7, fetch_seconds=3, fetches=2))
    assert fetcher is not None
    assert (fetcher.max_bytes, fetcher.seconds, fetcher.at_once, fetcher.ports) == (7, 3, 2, (443,))
    assert fetcher.is_allowed is is_global and fetcher.lookup is addresses_of and fetcher.certificates is None


class Fake(Fetcher):
    """Says what it has of each URL, part by part, or raises."""

    async def fetch(self, url: str, count: Callable[[int], None] = lambda size: None) -> bytes:
        if "bad" in url:
            raise NotFetched("it is not there.")
        for _ in range(4):
            await asyncio.sleep(0)
            count(100)
        return b"x" * 400


def fetched(admission: Admission, *urls: str) -> list[Photo | str]:
    photos = [Photo(str(number), b"", url) for number, url in enumerate(urls)]

    async def all_of_them() -> list[Photo | str]:
        with FromUrls(Fake(400, 1), admission, photos) as from_urls:
            found = [await from_urls.file(photo) for photo in photos]
            sizes = [len(photo.data) for photo in found if isinstance(photo, Photo)]
            assert (admission.body_bytes, admission.fetches) == (sum(sizes), len(urls))
            return found

    return asyncio.run(all_of_them())


def test_what_is_fetched_is_counted_and_let_go() -> None:
    admission = Admission(Settings(queue=3, bodies_bytes=1000))
    assert fetched(admission, "good", "bad") == [Photo("0", b"x" * 400), "it is not there."]
    assert (admission.body_bytes, admission.fetches) == (0, 0)
    for urls in (["good"] * 3, ["good"] * 4):  # more bytes than there is room for, and more photos
        with pytest.raises(Problem) as error:
            fetched(admission, *urls)
        assert error.value.status == 503 and "Retry-After" in error.value.headers
        assert (admission.body_bytes, admission.fetches) == (0, 0)


def test_photos_to_be_fetched_are_counted_over_all_requests() -> None:
    admission = Admission(Settings(queue=3))
    photos = [Photo(name, b"", f"https://photos.test/{name}") for name in "ab"]
    with FromUrls(Fake(400, 1), admission, photos):
        with pytest.raises(Problem, match="as many photos under way"), FromUrls(Fake(400, 1), admission, photos):
            pass
        assert admission.fetches == 2
        with FromUrls(Fake(400, 1), admission, photos[:1]):
            assert admission.fetches == 3
    assert admission.fetches == 0


def test_no_fetcher_is_needed_for_files() -> None:
    with FromUrls(None, Admission(Settings()), [Photo("0", b"x")]) as from_urls:
        assert asyncio.run(from_urls.file(Photo("0", b"x"))) == Photo("0", b"x")
    with pytest.raises(Problem, match="does not fetch"):
        FromUrls(None, Admission(Settings()), [Photo("0", b"", "https://photos.test")])
