"""An answer is the same under load as alone, and byte for byte what `seamline predict` writes, however it is asked."""

from __future__ import annotations

import base64
import io
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.service.served import Served, served

THREADS = 16
ENDING = b', "instances": '


@pytest.fixture(scope="module")
def photos(untrained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several formats and sizes, and a photo turned by its EXIF data."""
    folder = tmp_path_factory.mktemp("photos")
    images = untrained.images()
    for number, path in enumerate([images[0], images[1], images[3], images[5]]):
        (folder / f"{number}.jpg").write_bytes(path.read_bytes())
    picture = Image.open(images[0])
    picture.save(folder / "6.png")
    picture.resize((700, 900)).save(folder / "7.webp")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save(folder / "8.jpg", exif=turned)
    picture.convert("L").save(folder / "9.png")
    return folder


@pytest.fixture(scope="module")
def model(untrained: Any) -> Path:
    found: Path = untrained.models()["openvino"]
    return found


@pytest.fixture(scope="module")
def service(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(model, tmp_path_factory.mktemp("service")) as service:
        yield service


# Requests of each of the threads: polygons of an untrained model's ragged masks take long.
@pytest.mark.parametrize(("masks", "requests"), [("rle", 5), ("polygon", 1)])
def test_instances_are_those_of_predict_under_load_too(
    masks: str, requests: int, service: Served, model: Path, photos: Path, tmp_path: Path
) -> None:
    expected = predicted(model, photos, tmp_path / "out", masks)
    assert len({text for _, text in expected.values()}) >= 5
    assert sum(len(json.loads(text)) for _, text in expected.values()) > 5
    different: list[str] = []
    answered: list[int] = []

    def ask(seed: int) -> None:
        draw = random.Random(seed)
        connection = HTTPConnection(service.host, service.port, timeout=60)
        for _ in range(requests):
            chosen = draw.sample(sorted(expected), draw.randint(1, 3))
            form = draw.choice(list(FORMS))
            if form == "raw":
                chosen = chosen[:1]
            path, headers, body = FORMS[form]([(name, (photos / name).read_bytes()) for name in chosen], masks)
            connection.request("POST", path, body, headers)
            reply = connection.getresponse()
            answer = reply.read()
            answered.append(reply.status)
            different.extend(f"{form} {name}" for name in unlike(answer, chosen, expected))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answered == [200] * (THREADS * requests)
    assert different == []


def predicted(model: Path, photos: Path, out: Path, masks: str) -> dict[str, tuple[int, bytes]]:
    """Of each photo its number and its records as they stand in results.json, as one JSON array."""
    command = [sys.executable, "-m", "seamline", "predict", str(model), str(photos), "--out", str(out)]
    subprocess.run(
        [*command, *(["--format", "polygons"] if masks == "polygon" else [])], check=True, capture_output=True
    )
    images = json.loads((out / "images.json").read_text())["images"]
    records = [line.rstrip(",") for line in (out / "results.json").read_text().splitlines()[1:-1]]
    own = {
        Path(image["file_name"]).name: (
            image["id"],
            [one for one in records if one.startswith(f'{{"image_id": {image["id"]},')],
        )
        for image in images
    }
    return {name: (number, f"[{', '.join(found)}]".encode()) for name, (number, found) in own.items()}


def unlike(answer: bytes, chosen: list[str], expected: dict[str, tuple[int, bytes]]) -> list[str]:
    """The photos whose instances in an answer are not those that were expected, but for the photo's number."""
    found = []
    rest = answer
    for number, name in enumerate(chosen, 1):
        own, text = expected[name]
        wanted = ENDING + text.replace(b'{"image_id": %d,' % own, b'{"image_id": %d,' % number) + b"}"
        before, is_there, rest = rest.partition(wanted)
        if not is_there or ENDING in before:
            found.append(name)
    return found


def as_form(photos: list[tuple[str, bytes]], masks: str) -> tuple[str, dict[str, str], bytes]:
    stream = io.BytesIO()
    stream.write(b'--xyz\r\nContent-Disposition: form-data; name="masks"\r\n\r\n' + masks.encode() + b"\r\n")
    for name, data in photos:
        head = f'--xyz\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        stream.write(head.encode() + data + b"\r\n")
    stream.write(b"--xyz--\r\n")
    return "/v1/predict", {"Content-Type": "multipart/form-data; boundary=xyz"}, stream.getvalue()


def as_json(photos: list[tuple[str, bytes]], masks: str) -> tuple[str, dict[str, str], bytes]:
    images = [{"base64": base64.b64encode(data).decode(), "name": name} for name, data in photos]
    body = json.dumps({"images": images, "masks": masks}).encode()
    return "/v1/predict", {"Content-Type": "application/json"}, body


def as_itself(photos: list[tuple[str, bytes]], masks: str) -> tuple[str, dict[str, str], bytes]:
    return f"/v1/predict?masks={masks}", {"Content-Type": "image/jpeg"}, photos[0][1]


FORMS = {"form": as_form, "json": as_json, "raw": as_itself}
