"""The client against a server that fails in every way: what it asks again, how often, how long, and what it says."""

from __future__ import annotations

import asyncio
import base64
import datetime
import email.utils
import gc
import io
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from seamline.base.errors import SeamlineError
from seamline.service.client import AsyncClient, Client, ServiceError
from seamline.service.client_answers import Instance, segmentation_to_mask
from seamline.service.client_attempts import Attempts, retry_after_seconds
from seamline.service.client_requests import name_of
from tests.service.stub import (
    SQUARE,
    Stub,
    cut,
    cut_in_the_middle,
    ended_early,
    page,
    refusal,
    stub_server,
)

NOT_OURS = "what answers there is not Seamline's service: its answer is {}, and not what was asked for."
KEY = "a-key-of-sixteen-characters"


@pytest.fixture
def stub() -> Iterator[Stub]:
    with stub_server() as server:
        yield server


@pytest.fixture
def client(stub: Stub) -> Iterator[Client]:
    with Client(stub.address, trust_env=False) as opened:
        yield opened


def error_of(call: Any, *arguments: Any, **named: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        call(*arguments, **named)
    return caught.value


# What is sent and what comes back


def test_a_photo_is_sent_as_it_is_and_its_garments_come_back(stub: Stub, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8" + bytes(range(256)) + b"\r\n--")
    answer = client.predict(path, masks="polygon", confidence=0.25, classes=["skirt", "long, wide dress"])
    [asked] = stub.asked
    assert asked.path == "/v1/predict"
    assert asked.photos == [("photo.jpg", path.read_bytes())]
    assert asked.options == {"masks": ["polygon"], "confidence": ["0.25"], "classes": ["skirt", "long, wide dress"]}
    assert (answer.model.name, answer.model.revision) == ("stub", "abc")
    assert [(category.id, category.name) for category in answer.categories] == [(1, "skirt"), (2, "dress")]
    [image] = answer.images
    assert (image.file_name, image.image_id, image.height, image.width, image.error) == ("photo.jpg", 1, 4, 4, None)
    [garment] = image.instances
    assert (garment.class_name, garment.score, garment.bbox) == ("dress", 2.62, (1, 1, 2, 2))
    assert garment.segmentation == SQUARE
    mask = garment.mask()
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, np.pad(np.ones((2, 2)), 1))


def test_options_that_are_left_out_are_left_to_the_service(stub: Stub, client: Client) -> None:
    client.predict(b"photo")
    client.predict([b"photo", "https://example.com/p.jpg"], classes=["dress"], confidence=0, masks="none")
    assert stub.asked[0].options == {"masks": ["rle"]}
    assert stub.asked[1].options == {"masks": "none", "confidence": 0, "classes": ["dress"]}


def test_a_photo_is_a_path_bytes_a_file_or_an_address(stub: Stub, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "päth.jpg"
    path.write_bytes(b"one")
    with path.open("rb") as file:
        photos: list[Any] = [str(path), path, b"two", bytearray(b"three"), io.BytesIO(b"four"), file]
        images = client.predict(photos).images
    names = ["päth.jpg", "päth.jpg", "photo 3", "photo 4", "photo 5", "päth.jpg"]
    contents = [b"one", b"one", b"two", b"three", b"four", b"one"]
    assert stub.asked[0].photos == list(zip(names, contents, strict=True))
    assert [image.file_name for image in images] == names
    address = "https://user:secret@example.com/p.jpg?signature=secret"
    assert client.predict([address, b"two"]).images[0].file_name == "https://example.com/p.jpg"
    assert stub.asked[1].photos == [("https://example.com/p.jpg", address), ("photo 2", b"two")]


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("a.jpg", "a.jpg"), ("ein Kleid; rot=1, 100%.jpg", "ein Kleid; rot=1, 100%.jpg"), ("ドレス.jpg", "ドレス.jpg"),
        ('12" \\ wide.jpg', "12_ _ wide.jpg"), ("a\r\nX-Evil: 1.jpg", "a__X-Evil: 1.jpg"), ("\udcff.jpg", "?.jpg"),
        ("x" * 300 + ".jpg", "x" * 196 + ".jpg"), (" ", "photo 1"),
    ],
)  # fmt: skip
def test_every_name_comes_back(stub: Stub, client: Client, name: str, sent: str) -> None:
    file = io.BytesIO(b"damaged")
    file.name = name
    assert name_of(file) == sent
    images = client.predict([file, b"fine"]).images
    assert [image.file_name for image in images] == [sent, "photo 2"]
    assert [image.error for image in images] == [f"{sent}: is damaged.", None]
    file.seek(0)
    assert [image.error for image in client.predict_all([file])] == [f"{sent}: is damaged."]


@pytest.mark.parametrize(
    ("photo", "sentence"),
    [
        ("no/such.jpg", "such.jpg: cannot be read (No such file or directory)."),
        (Path("/"), "photo 1: cannot be read (Is a directory)."),
        ("a\0b.jpg", "a_b.jpg: cannot be read (embedded null byte)."),
        (
            io.StringIO("text"),
            "photo 1: has to be a path, bytes, a file opened with 'rb', or an address, not StringIO.",
        ),
        (np.zeros((4, 4, 3)), "photo 1: has to be a path, bytes, a file opened with 'rb', or an address, not ndarray."),
        (None, "photo 1: has to be a path, bytes, a file opened with 'rb', or an address, not NoneType."),
        (7, "photo 1: has to be a path, bytes, a file opened with 'rb', or an address, not int."),
        ([], "there is no photo in the list; give at least one."),
    ],
)
def test_what_is_not_a_photo_is_not_sent(stub: Stub, client: Client, photo: Any, sentence: str) -> None:
    with pytest.raises(SeamlineError) as caught:
        client.predict(photo)
    assert str(caught.value) == sentence
    assert not stub.asked


def test_a_photo_that_cannot_be_used_is_an_error_of_its_own(client: Client) -> None:
    answer = client.predict([b"1", b"damaged", b"three"])
    assert [image.error for image in answer.images] == [None, "photo 2: is damaged.", None]
    assert [image.image_id for image in answer.images] == [1, None, 2]
    assert [len(image.instances) for image in answer.images] == [1, 0, 1]
    error = error_of(client.predict, b"damaged")
    assert (error.status, error.title, error.detail) == (422, HTTPStatus(422).phrase, "photo 1: is damaged.")


def test_masks_of_every_kind_are_the_same_pixels() -> None:
    square = np.zeros((6, 8), np.uint8)
    square[1:4, 2:7] = 1
    file = io.BytesIO()
    Image.fromarray(square * 255).save(file, "png")
    encoded = coco_mask.encode(np.asfortranarray(square))
    rle = {"size": [6, 8], "counts": encoded["counts"].decode()}
    for segmentation in (rle, [[2, 1, 7, 1, 7, 4, 2, 4]], {"png": base64.b64encode(file.getvalue()).decode()}):
        assert np.array_equal(segmentation_to_mask(segmentation, 6, 8), square), segmentation
    assert segmentation_to_mask([[]], 6, 8).shape == (6, 8)
    with pytest.raises(SeamlineError, match="has no mask: none were asked for"):
        Instance(1, 0.5, (0, 0, 1, 1)).mask()


def test_a_mask_without_the_package_that_decodes_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(SeamlineError, match=r"a mask's pixels need pycocotools, which is not installed\."):
        Instance(1, 0.5, (0, 0, 1, 1), SQUARE, size=(4, 4)).mask()


def test_a_key_is_sent_with_everything(stub: Stub) -> None:
    with Client(stub.address + "/", KEY + "\n", trust_env=False) as client:
        client.predict(b"photo")
        client.about()
    assert [asked.headers["authorization"] for asked in stub.asked] == [f"Bearer {KEY}"] * 2
    with Client(f"{stub.address}/garments/", trust_env=False) as client:
        assert client.about() == {"model": {"name": "stub"}, "limits": {"photos": 32, "body_bytes": 2**21}}
    assert stub.asked[-1].path == "/garments/v1/about"
    assert "authorization" not in stub.asked[-1].headers


@pytest.mark.parametrize("key", ["", " ", "a key", "schlüssel", "a\nb"])
def test_what_cannot_be_a_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(SeamlineError, match=r"^the API key has characters that no key has; give one line of "):
        Client("http://127.0.0.1:1", key)


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1:8000", "ftp://host", "http://", "http://h:0", "http://h:x", "http://[::1", "http://h?q=1"],
)
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(SeamlineError, match=r": is not an address of a service, such as http://127\.0\.0\.1:8000\.$"):
        Client(address)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(SeamlineError) as caught:
        Client("https://me:secret@example.com")
    assert str(caught.value) == (
        "https://example.com: has a user or password in it; a service takes an API key (key=)."
    )


def test_a_proxy_of_the_environment_is_used_and_can_be_left_out(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with stub_server() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        with Client(stub.address) as client:
            client.predict(b"photo")
        assert (len(proxy.asked), len(stub.asked)) == (1, 0)
        with Client(stub.address, trust_env=False) as client:
            client.predict(b"photo")
        assert (len(proxy.asked), len(stub.asked)) == (1, 1)
    monkeypatch.setenv("HTTP_PROXY", "nonsense://127.0.0.1:1")
    with pytest.raises(SeamlineError, match=r"environment's proxies or certificates \(ValueError: .*trust_env=False"):
        Client(stub.address)


# What is asked again


@pytest.mark.parametrize(
    "fault",
    [refusal(503), refusal(429), page(502, "<h1>Bad Gateway</h1>"), cut, cut_in_the_middle, ended_early],
    ids=["503", "429", "502", "reset", "reset in the middle", "ended early"],
)
def test_it_asks_again(stub: Stub, client: Client, fault: Any) -> None:
    stub.faults.extend([fault] * 2)
    assert client.predict(b"photo").images[0].instances
    assert len(stub.asked) == 3
    assert stub.asked[0].photos == stub.asked[1].photos == stub.asked[2].photos == [("photo 1", b"photo")]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 413, 415, 422, 500, 501, 504])
def test_what_would_be_refused_again_is_not_asked_again(stub: Stub, client: Client, status: int) -> None:
    stub.faults.append(refusal(status, "This is why."))
    error = error_of(client.predict, b"photo")
    assert (error.status, error.detail, error.request_id) == (status, "This is why.", "r1")
    assert str(error) == f"{stub.address}: This is why."
    assert len(stub.asked) == 1


def test_it_waits_as_long_as_the_service_says(stub: Stub, client: Client) -> None:
    stub.faults.append(refusal(503, Retry_After="1"))
    stub.faults.append(lambda handler: handler.refuse(429, "Not now.", Retry_After=http_date(2)))
    client.predict(b"photo")
    first, second, third = (asked.at for asked in stub.asked)
    assert second - first >= 1
    assert third - second >= 0.9  # dates are whole seconds


def http_date(seconds: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return email.utils.format_datetime(moment, usegmt=True)


def test_a_wait_that_is_longer_than_a_call_may_take_is_not_begun(stub: Stub) -> None:
    stub.faults.append(refusal(503, "Come back tomorrow.", Retry_After="86400"))
    begun = time.monotonic()
    with Client(stub.address, trust_env=False, timeout=30) as client:
        assert str(error_of(client.predict, b"photo")) == f"{stub.address}: Come back tomorrow."
    assert time.monotonic() - begun < 20
    assert len(stub.asked) == 1


def test_it_gives_up_after_its_last_retry(stub: Stub) -> None:
    stub.faults.extend([refusal(503, "Too much to do.")] * 9)
    with Client(stub.address, trust_env=False, retries=2) as client:
        assert error_of(client.predict, b"photo").status == 503
        assert len(stub.asked) == 3
    with Client(stub.address, trust_env=False, retries=0) as client:
        assert error_of(client.predict, b"photo").status == 503
        assert len(stub.asked) == 4


def test_an_answer_that_takes_too_long_is_not_asked_for_again(stub: Stub) -> None:
    stub.seconds = lambda asked: 30
    with Client(stub.address, trust_env=False, timeout=0.3) as client:
        error = error_of(client.predict, b"photo")
    assert (error.status, error.title) == (None, "Timeout")
    assert str(error) == f"{stub.address}: no answer came in 0.3 s."
    assert len(stub.asked) == 1


def test_the_limit_is_on_the_whole_of_a_call_even_if_bytes_keep_coming(stub: Stub) -> None:
    def drip(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(300):
            handler.wfile.write(b"x")
            time.sleep(0.1)

    stub.faults.extend([refusal(503, "Too much to do."), drip])
    begun = time.monotonic()
    with Client(stub.address, trust_env=False, timeout=1) as client:
        error = error_of(client.predict, b"photo")
    assert str(error) == f"{stub.address}: no answer came in 1 s, after Too much to do."
    assert time.monotonic() - begun < 20


def test_a_connection_is_used_again_and_one_that_was_closed_meanwhile_is_replaced(stub: Stub, client: Client) -> None:
    def answer_and_close(handler: Any) -> None:
        handler.predict([("photo 1", b"photo")])
        handler.close_connection = True  # without a word of it in the headers

    client.predict(b"photo")
    client.predict(b"photo")
    assert stub.asked[0].port == stub.asked[1].port
    stub.faults.append(answer_and_close)
    client.predict(b"photo")
    client.predict(b"photo")
    assert stub.asked[3].port != stub.asked[2].port
    assert len(stub.asked) == 4


def test_a_body_over_which_a_proxy_cuts_the_connection_is_said_to_be_too_large(stub: Stub, client: Client) -> None:
    stub.faults.append(cut)
    error = error_of(client.predict, bytes(3 * 2**20))
    assert str(error) == f"{stub.address}: the request has 3.0 MB, and the service takes 2 MB at most."
    assert error.status == 413
    assert [asked.path for asked in stub.asked] == ["/v1/predict", "/v1/about"]


def test_a_body_that_is_not_too_large_is_sent_again_after_a_cut(stub: Stub, client: Client) -> None:
    stub.faults.append(cut)
    assert client.predict(bytes(2**21 - 2**10)).images[0].instances
    stub.faults.append(cut)
    stub.body_bytes = "unknown"
    assert client.predict(bytes(3 * 2**20)).images[0].instances
    stub.faults.extend([cut, cut])  # the question for the limit fails too
    assert client.predict(bytes(3 * 2**20)).images[0].instances


def test_who_is_not_there_is_named(client: Client) -> None:
    with socket.socket() as unused:  # bound, and nobody listens
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Client(address, trust_env=False, retries=1) as nobody:
            error = error_of(nobody.predict, b"photo")
            assert error.status is None
            assert str(error) == f"{address}: no answer came (ConnectError: All connection attempts failed)."
            assert nobody.ready() is False
            error = error_of(nobody.wait_until_ready, 0.3)
            assert str(error) == f"{address}: the service is not ready after 0.3 s."


def test_a_wrong_certificate_is_not_tried_again() -> None:
    attempts = Attempts("https://example.com", 8, 60, random.Random(0))
    reason = httpx.ConnectError("certificate verify failed")
    reason.__cause__ = OSError()
    reason.__cause__.__context__ = ssl.SSLCertVerificationError("self-signed")
    assert str(error_of(attempts.pause_without_answer, reason)) == (
        "https://example.com: no answer came (ConnectError: certificate verify failed)."
    )
    assert attempts.pause_without_answer(httpx.ConnectError("refused")) > 0


def test_pauses_double_and_differ_from_client_to_client() -> None:
    def pauses(seed: int) -> list[float]:
        attempts = Attempts("http://h", 20, 1000, random.Random(seed))
        return [attempts.pause_without_answer(httpx.ConnectError("")) for _ in range(12)]

    for found, least in zip(pauses(1), [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, *[10] * 5], strict=True):
        assert least <= found <= 1.25 * least
    assert pauses(1) == pauses(1) != pauses(2)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("", 0), ("3", 3), ("-3", 0), ("1e9", 0), ("soon", 0), ("٣", 0), ("Thu, 01 Jan 1970 00:01:00 GMT", 50),
     ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Thu, 99 Jan 1970 00:00:00 GMT", 0)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    assert retry_after_seconds(header, now=10) == seconds


# What others answer


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (page(403, "<h1>No</h1>"), "answered 403 Forbidden."),
        (page(200, "<h1>Sign in</h1>"), NOT_OURS.format("text/html")),
        (page(301, "", Location="https://h.example/x?s=secret"), "leads to https://h.example/x; use that address."),
        (lambda handler: handler.answer(404, []), "answered 404 Not Found."),
        (lambda handler: handler.answer(400, {"detail": ["x"], "title": 7}), "answered 400 Bad Request."),
        (lambda handler: handler.answer(200, {"model": {"name": "other"}}), NOT_OURS.format("of no type")),
        (lambda handler: handler.predict([("one", b"1"), ("too many", b"2")]), NOT_OURS.format("of no type")),
        (refusal(422, "x" * 5000), "x" * 1000 + "."),
    ],
)  # fmt: skip
def test_what_is_not_the_service_is_said(stub: Stub, client: Client, fault: Any, sentence: str) -> None:
    stub.faults.append(fault)
    assert str(error_of(client.predict, b"photo")) == f"{stub.address}: {sentence}"
    assert len(stub.asked) == 1


def test_about_of_what_is_not_the_service(stub: Stub, client: Client) -> None:
    stub.faults.append(page(200, "[]"))
    assert "is not Seamline's service" in str(error_of(client.about))


# Many photos


def test_order_is_kept_and_no_more_than_asked_for_are_under_way(stub: Stub, client: Client) -> None:
    stub.seconds = lambda asked: random.Random(len(asked.photos[0][1])).random() / 20
    taken = []

    def photos() -> Iterator[bytes]:
        for number in range(1, 41):
            taken.append((number, threading.get_ident()))
            yield b"x" * number

    answers = client.predict_all(photos(), at_once=3)
    assert not stub.asked
    first = next(answers)
    assert len(taken) <= 6
    scores = [image.instances[0].score for image in [first, *answers]]
    assert scores == [number / 100 for number in range(1, 41)]
    assert {thread for _, thread in taken} == {threading.get_ident()}
    assert 2 <= stub.most <= 3


def test_photos_that_cannot_be_used_do_not_stop_the_others(client: Client, tmp_path: Path, stub: Stub) -> None:
    too_large = b"too large"
    stub.seconds = lambda asked: 0.0

    def photos() -> Iterator[Any]:
        yield from (b"1", b"damaged", tmp_path / "missing.jpg", None)
        stub.faults.append(refusal(413, "The body is too large; at most 3 bytes are taken."))
        yield too_large
        yield b"last"

    images = [*client.predict_all(photos(), at_once=1)]
    assert [(image.file_name, image.error) for image in images] == [
        ("photo 1", None),
        ("photo 1", "photo 1: is damaged."),
        ("missing.jpg", "missing.jpg: cannot be read (No such file or directory)."),
        ("photo 1", "photo 1: has to be a path, bytes, a file opened with 'rb', or an address, not NoneType."),
        ("photo 1", "The body is too large; at most 3 bytes are taken."),
        ("photo 1", None),
    ]


@pytest.mark.parametrize(
    "fault", [refusal(401, "A key is needed."), refusal(422, "The model has no class 'hat'."), page(404, "")]
)
def test_a_refusal_that_is_not_of_the_photo_ends_it(stub: Stub, client: Client, fault: Any) -> None:
    stub.faults.extend([fault] * 8)
    error_of(list, client.predict_all([b"photo"] * 30))
    assert len(stub.asked) <= 9


def test_an_overloaded_service_gets_all_of_many_photos_in_the_end(stub: Stub, client: Client) -> None:
    stub.faults.extend([refusal(503, Retry_After="0"), cut, refusal(429)] * 4)
    images = [*client.predict_all([b"x" * number for number in range(1, 21)], at_once=4)]
    assert [image.instances[0].score for image in images] == [number / 100 for number in range(1, 21)]
    assert len(stub.asked) == 20 + 12


@pytest.mark.parametrize("photo", ["photo.jpg", Path("photo.jpg"), b"the bytes", io.BytesIO(b"a file")])
def test_one_photo_is_not_taken_apart_as_several(stub: Stub, client: Client, photo: Any) -> None:
    with pytest.raises(SeamlineError, match=r"^predict_all: takes several photos, such as a list, not \w+\.$"):
        list(client.predict_all(photo))
    assert not stub.asked


def test_what_is_not_taken_to_its_end_is_ended(stub: Stub, client: Client) -> None:
    stub.seconds = lambda asked: 0.05
    for image in client.predict_all([b"photo"] * 1000, at_once=2):
        assert image.instances
        break
    client.predict(b"last")
    asked = len(stub.asked)
    time.sleep(0.3)
    assert len(stub.asked) == asked < 12


def test_at_least_one_is_at_once(client: Client) -> None:
    with pytest.raises(SeamlineError, match="at_once has to be 1 or more, not 0"):
        next(client.predict_all([b"photo"], at_once=0))


# Threads, asyncio, ends


def test_eight_threads_share_a_client(stub: Stub, client: Client) -> None:
    stub.faults.extend([refusal(503), cut] * 4)

    def several(thread: int) -> list[float]:
        return [client.predict(b"x" * (10 * thread + n)).images[0].instances[0].score for n in range(1, 10)]

    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(several, range(8))]
    assert found == [[(10 * thread + n) / 100 for n in range(1, 10)] for thread in range(8)]
    assert len({asked.port for asked in stub.asked}) <= 8 + 4  # connections that were cut are replaced


def test_with_asyncio_it_is_the_same(stub: Stub, client: Client) -> None:
    photos: list[Any] = [b"1", b"damaged", b"three", "no/such.jpg"]

    async def ask() -> tuple[Any, ...]:
        async with AsyncClient(stub.address, trust_env=False) as other:
            await other.wait_until_ready(10)
            answer = await other.predict(photos[:3])
            images = [image async for image in other.predict_all(photos, masks="none", at_once=2)]
            with pytest.raises(ServiceError) as caught:
                await other.predict(b"damaged")
            return answer, images, str(caught.value), await other.about(), await other.ready()

    client.wait_until_ready(10)
    error = str(error_of(client.predict, b"damaged"))
    ours = (
        client.predict(photos[:3]),
        [*client.predict_all(photos, masks="none")],
        error,
        client.about(),
        client.ready(),
    )
    assert asyncio.run(ask()) == ours


def test_an_async_iterator_that_is_left_ends_its_requests(stub: Stub) -> None:
    stub.seconds = lambda asked: 0.05

    async def ask() -> None:
        async with AsyncClient(stub.address, trust_env=False) as other:
            images = other.predict_all([b"photo"] * 1000, at_once=2)
            async for _ in images:
                break
            await images.aclose()
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(ask())
    assert len(stub.asked) < 12


def test_waiting_until_ready_waits(stub: Stub, client: Client) -> None:
    stub.faults.extend([refusal(503, "Starting."), cut, refusal(503, "Starting.")])
    assert client.ready() is False
    client.wait_until_ready(30)
    assert client.ready() is True


def test_a_user_in_an_address_is_refused_without_a_password_too() -> None:
    with pytest.raises(SeamlineError, match=r"^https://example\.com: has a user or password in it"):
        Client("https://user@example.com")


def test_a_client_that_was_closed_says_so_and_who_waits_is_let_go(stub: Stub) -> None:
    stub.seconds = lambda asked: 30
    client = Client(stub.address, trust_env=False)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.predict, b"photo")
        while not stub.asked:
            time.sleep(0.01)
        client.close()
        assert not client._thread.is_alive()
        client.close()
        with pytest.raises(SeamlineError, match=r"^http://127\.0\.0\.1:\d+: the client was closed\.$"):
            waiting.result(30)
    with pytest.raises(SeamlineError, match=r"the client was closed\.$"):
        client.predict(b"photo")


def test_a_client_that_is_forgotten_leaves_no_thread(stub: Stub) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "seamline client"]

    before = threads()
    client = Client(stub.address, trust_env=False)
    client.predict(b"photo")
    [new] = set(threads()) - set(before)
    del client
    gc.collect()
    new.join(30)
    assert not new.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*use of fork")
def test_after_a_fork_it_says_so_in_place_of_waiting_for_ever(client: Client) -> None:
    client.predict(b"photo")
    reader, writer = os.pipe()
    if not (process := os.fork()):
        try:
            client.predict(b"photo")
        except SeamlineError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(process, 0)
    assert os.read(reader, 1000).decode().endswith(": the client was opened in another process; open one in this one.")
    assert client.predict(b"photo").images


def test_it_needs_nothing_of_a_server_or_a_model() -> None:
    code = """
import sys
import seamline.service.client
unwanted = {"cv2", "numpy", "openvino", "onnxruntime", "starlette", "uvicorn", "python_multipart", "aiohttp", "torch",
            "prometheus_client", "PIL", "pycocotools", "matplotlib"}
print(*sorted(unwanted & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_without_httpx_it_says_what_brings_it() -> None:
    code = "import sys; sys.modules['httpx'] = None; import seamline.service.client"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1] == (
        "seamline.base.errors.SeamlineError: seamline.service.client: needs httpx, which is not installed; the extra "
        "client brings it."
    )


def test_chance_is_each_client_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that seed Python's generator all alike must not come back all at once."""
    random.seed(0)
    state = random.getstate()
    with Client("http://127.0.0.1:1") as one, Client("http://127.0.0.1:1") as two:
        assert one._client._chance.random() != two._client._chance.random()
    assert random.getstate() == state
