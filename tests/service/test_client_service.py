"""The client against the real service: the same detections as Detector's, refusals, overload, an end under way."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seamline.inference.detector import Detector
from seamline.service.client import Client, ServiceError
from seamline.service.settings import Settings
from tests.service.running import running
from tests.untrained import NAMES, Untrained

CONFIDENCE = 0.02  # nobody trained the model
KEY = "a-key-of-sixteen-characters"


@pytest.fixture(scope="module")
def address(untrained: Untrained) -> Iterator[str]:
    with running(untrained.models()["openvino"]) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, trust_env=False) as opened:
        opened.wait_until_ready(60)
        yield opened


def test_it_finds_what_a_detector_finds(client: Client, untrained: Untrained) -> None:
    photos = untrained.images()[:4]
    with Detector(untrained.models()["openvino"], CONFIDENCE, threads=2) as detector:
        expected = [detector.detect(photo) for photo in photos]
    assert any(len(found) > 1 for found in expected)
    answers = {masks: client.predict(photos, confidence=CONFIDENCE, masks=masks) for masks in ("rle", "png", "none")}
    assert [image.file_name for image in answers["rle"].images] == [photo.name for photo in photos]
    for image, png, none, found in zip(*(answers[kind].images for kind in answers), expected, strict=True):
        assert [instance.class_name for instance in image.instances] == [NAMES[number] for number in found.classes]
        assert [instance.score for instance in image.instances] == pytest.approx(found.scores, abs=1e-6)
        for index, instance in enumerate(image.instances):
            x, y, width, height = instance.bbox
            assert (x, y, x + width, y + height) == pytest.approx(found.boxes[index], abs=2e-3)
            assert np.array_equal(instance.mask(), found.mask(index))
            assert np.array_equal(png.instances[index].mask(), found.mask(index))
            assert none.instances[index].segmentation is None
    [image] = client.predict(photos[0], confidence=CONFIDENCE, masks="polygon").images
    for instance, found in zip(
        image.instances, [expected[0].mask(index) for index in range(len(expected[0]))], strict=True
    ):
        mask = instance.mask()
        assert mask.shape == found.shape
        assert found.sum() < 50 or (mask & found).sum() > 0.8 * (mask | found).sum()  # a polygon leaves specks out


def test_options_are_the_service_s(client: Client, untrained: Untrained) -> None:
    photo = untrained.images()[0]
    [image] = client.predict(photo, confidence=CONFIDENCE, classes=[NAMES[1]]).images
    assert {instance.class_name for instance in image.instances} == {NAMES[1]}
    everything = client.predict(photo, confidence=0, masks="none").images[0].instances
    assert len(everything) > len(image.instances)
    with pytest.raises(ServiceError, match=r": The model has no class 'hat'; it has ") as caught:
        client.predict(photo, classes=["hat"])
    assert (caught.value.status, caught.value.title) == (422, HTTPStatus(422).phrase)
    assert len(caught.value.request_id) == 16
    with pytest.raises(ServiceError, match=r"The model has no class 'hat'"):
        next(client.predict_all([photo], classes=["hat"]))
    assert client.about()["model"]["classes"] == NAMES


def test_an_unusable_photo_among_others(client: Client, untrained: Untrained) -> None:
    photos: list[Any] = [untrained.images()[0], b"GIF89a", untrained.images()[1]]
    answer = client.predict(photos)
    assert [image.error is None for image in answer.images] == [True, False, True]
    assert (answer.images[1].error or "").startswith("photo 2: ")
    images = [*client.predict_all(photos)]
    assert [image.error is None for image in images] == [True, False, True]
    assert (images[1].error or "").startswith("photo 1: ")
    assert [image.height for image in images] == [image.height for image in answer.images]
    with pytest.raises(ServiceError, match=": photo 1: ") as caught:
        client.predict(b"GIF89a")
    assert caught.value.status == 422


@pytest.mark.parametrize("name", ["a;b=c, 100%.png", "ドレス.png", "a'b (1).png", "x" * 250, "=1+1.png", "http.png"])
def test_names_come_back_from_the_service(client: Client, name: str) -> None:
    file = io.BytesIO(b"damaged")
    file.name = name
    [image] = client.predict_all([file])
    assert image.file_name == name[-200:]
    assert (image.error or "").startswith(f"{name[-200:]}: ")


def test_an_address_where_the_service_fetches_none(client: Client) -> None:
    with pytest.raises(ServiceError, match=": This service does not fetch photos from URLs; send the file") as caught:
        next(client.predict_all(["https://example.com/photo.jpg?signature=secret"]))
    assert "secret" not in str(caught.value)


def test_keys_and_the_size_of_a_body(untrained: Untrained) -> None:
    photo, large = untrained.images()[0], b"x" * 20_000_000  # refused while most of it is still being sent
    with running(untrained.models()["openvino"], Settings(body_bytes=1_000_000, bodies_bytes=10**7), [KEY]) as address:
        with Client(address, trust_env=False) as client:
            client.wait_until_ready(60)  # health needs no key
            with pytest.raises(ServiceError, match=": A key is needed") as caught:
                client.predict(photo)
            assert caught.value.status == 401
            with pytest.raises(ServiceError, match=": A key is needed"):
                client.predict(large)
        with Client(address, "another-key-of-16-letters", trust_env=False) as client:
            with pytest.raises(ServiceError, match=": The key is unknown here") as caught:
                client.about()
            assert caught.value.status == 401
        with Client(address, KEY, trust_env=False) as client:
            assert client.predict(photo).images[0].error is None
            assert client.about()["limits"]["body_bytes"] == 1_000_000
            with pytest.raises(
                ServiceError, match=": The body is too large; at most 1,000,000 bytes are taken"
            ) as caught:
                client.predict(large)
            assert caught.value.status == 413
            images = [*client.predict_all([photo, large, photo])]
            assert [image.error is None for image in images] == [True, False, True]


def test_an_overloaded_service_answers_everybody_in_the_end(untrained: Untrained) -> None:
    """Six threads ask for more than the queue of two takes: some are refused, and ask again."""
    photos = untrained.images()[:4]
    refused = 0
    with (
        running(untrained.models()["openvino"], Settings(queue=2)) as address,
        Client(address, trust_env=False, timeout=120, retries=100) as client,
        ThreadPoolExecutor(6) as pool,
    ):
        client.wait_until_ready(60)
        expected = [client.predict(photo, confidence=CONFIDENCE).images[0] for photo in photos]
        found = [pool.submit(lambda: [*client.predict_all(photos, confidence=CONFIDENCE, at_once=2)]) for _ in range(6)]
        with Client(address, trust_env=False, retries=0) as impatient:
            while not all(future.done() for future in found):
                try:
                    impatient.predict(photos[0])
                except ServiceError as error:
                    refused += error.status == 503
        for future in found:
            assert future.result() == expected
    assert refused


def test_a_service_that_stops_and_starts_again_is_waited_for(untrained: Untrained) -> None:
    photo = untrained.images()[0]
    results = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", trust_env=False, timeout=60, retries=100) as client:
        asking = threading.Thread(target=lambda: results.append(client.predict(photo)))
        asking.start()
        time.sleep(0.5)
        with running(untrained.models()["openvino"], port=port):
            asking.join(60)
            assert results[0].images[0].error is None
            connected = client.predict(photo)
        with running(untrained.models()["openvino"], port=port):  # the connection that was kept is of another service
            assert client.predict(photo) == connected == results[0]


def test_a_photo_of_many_pixels_is_an_error_of_its_own(untrained: Untrained, tmp_path: Path) -> None:
    Image.new("L", (2000, 1000)).save(tmp_path / "large.png")
    with (
        running(untrained.models()["openvino"], Settings(pixels=1_000_000)) as address,
        Client(address, trust_env=False) as client,
    ):
        [image] = client.predict_all([tmp_path / "large.png"])
        assert (image.error or "").startswith("large.png: ")
