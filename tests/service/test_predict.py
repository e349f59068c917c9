"""POST /v1/predict: three forms of a request, each answered with what `seamline predict` writes."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from seamline.service.schemas import Masks
from seamline.service.settings import Settings
from seamline.verbs.predict import main as predict
from tests.service.running import running
from tests.untrained import NAMES, Untrained

CONFIDENCE = 0.02  # nobody trained the model


@pytest.fixture(scope="module")
def address(untrained: Untrained) -> Iterator[str]:
    # Masks of a model that nobody trained are noise, and their polygons take as long as the machine is busy.
    with running(untrained.models()["openvino"], Settings(answer_seconds=600)) as address:
        yield address


@pytest.fixture(scope="module")
def by_predict(untrained: Untrained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The text between the brackets of results.json, photo by photo, by format."""
    found = {}
    for kind in ("rle", "polygons"):
        out = tmp_path_factory.mktemp(kind)
        words = ["--out", out, "--format", kind, "--confidence", CONFIDENCE, "--overlays", 0]
        predict([*map(str, [untrained.models()["openvino"], *untrained.images()[:3], *words])])
        lines = [line.rstrip(",") for line in (out / "results.json").read_text().splitlines()[1:-1]]
        texts: list[list[str]] = [[] for _ in untrained.images()[:3]]
        for line in lines:
            texts[json.loads(line)["image_id"] - 1].append(line)
        found[kind] = ["[" + ", ".join(lines) + "]" for lines in texts]
        assert any(len(lines) > 1 for lines in texts)
    return found


def form(photos: list[Path]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("image", (photo.name, photo.read_bytes(), "image/png")) for photo in photos]


def instances_text(answer: httpx.Response, number: int) -> str:
    """The array as it was sent, of the photo with this number."""
    [text] = [part for part in answer.text.split('{"image_id": ') if part.startswith(f'{number}, "file_name"')]
    rest = answer.text[answer.text.index(text) :]
    start = rest.index('"instances": ') + len('"instances": ')
    _, end = json.JSONDecoder().raw_decode(rest, start)
    return rest[start:end]


@pytest.mark.parametrize(("masks", "kind"), [("rle", "rle"), ("polygon", "polygons")])
def test_instances_are_what_predict_writes_byte_for_byte(
    address: str, untrained: Untrained, by_predict: dict[str, list[str]], masks: str, kind: str
) -> None:
    query = {"masks": masks, "confidence": str(CONFIDENCE)}
    answer = httpx.post(f"{address}/v1/predict", files=form(untrained.images()[:3]), data=query, timeout=600)
    assert answer.status_code == 200, answer.text
    names = [photo.name for photo in untrained.images()[:3]]
    assert [image["file_name"] for image in answer.json()["images"]] == names
    for number, expected in enumerate(by_predict[kind], 1):
        assert instances_text(answer, number) == expected


def test_three_forms_of_a_request_get_the_same(address: str, untrained: Untrained) -> None:
    photo, url = untrained.images()[0], f"{address}/v1/predict"
    data = photo.read_bytes()
    as_form = httpx.post(url, files=form([photo]), params={"confidence": CONFIDENCE})
    as_body = httpx.post(url, content=data, headers={"Content-Type": "image/png"}, params={"confidence": CONFIDENCE})
    for text in (base64.b64encode(data).decode(), "data:image/png;base64," + base64.b64encode(data).decode()):
        as_json = httpx.post(url, json={"image": {"base64": text, "name": photo.name}, "confidence": CONFIDENCE})
        assert as_json.json() == as_form.json()
    assert len(as_form.json()["images"][0]["instances"]) > 1
    assert as_body.json()["images"][0] == {**as_form.json()["images"][0], "file_name": "image"}


def test_masks_as_png_and_none(address: str, untrained: Untrained) -> None:
    photo = untrained.images()[0]

    def ask(masks: str) -> list[dict[str, Any]]:
        query: dict[str, str | float] = {"masks": masks, "confidence": CONFIDENCE}
        instances = httpx.post(f"{address}/v1/predict", files=form([photo]), params=query).json()["images"][0][
            "instances"
        ]
        assert isinstance(instances, list)
        return instances

    rle, png, none = ask("rle"), ask("png"), ask("none")
    assert len(rle) == len(png) == len(none) > 1
    for one, other, plain in zip(rle, png, none, strict=True):
        data = np.frombuffer(base64.b64decode(other.pop("segmentation")["png"]), np.uint8)
        mask = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert np.array_equal(mask, 255 * coco_mask.decode(one.pop("segmentation")))
        assert one == other == plain


@pytest.mark.parametrize("classes", [{"classes": [NAMES[1]]}, {"classes": NAMES[1]}, {"classes": ",".join(NAMES)}])
def test_only_the_classes_that_are_asked_for(address: str, untrained: Untrained, classes: dict[str, Any]) -> None:
    url, files = f"{address}/v1/predict", form(untrained.images()[:1])
    every = httpx.post(url, files=files, params={"confidence": CONFIDENCE}).json()["images"][0]["instances"]
    some = httpx.post(url, files=files, params={"confidence": CONFIDENCE, **classes}).json()["images"][0]["instances"]
    wanted = [1, 2] if "," in classes["classes"] else [2]
    assert some == [one for one in every if one["category_id"] in wanted]
    assert {one["category_id"] for one in every} == {1, 2}


def test_of_an_option_in_query_and_body_the_query_counts(address: str, untrained: Untrained) -> None:
    url, photo = f"{address}/v1/predict", untrained.images()[0]
    query: dict[str, str | float] = {"masks": "none", "confidence": CONFIDENCE}
    own = {"masks": "png", "confidence": "0.9"}
    text = base64.b64encode(photo.read_bytes()).decode()
    by_form = httpx.post(url, files=form([photo]), data=own, params=query)
    by_json = httpx.post(url, json={"image": {"base64": text}, "masks": "png"}, params=query)
    for answer in (by_form, by_json):
        instances = answer.json()["images"][0]["instances"]
        assert len(instances) > 1
        assert all("segmentation" not in one for one in instances)


def test_confidence_is_of_one_request_alone(address: str, untrained: Untrained) -> None:
    url, files = f"{address}/v1/predict", form(untrained.images()[:1])

    def scores(query: dict[str, float]) -> list[float]:
        images = httpx.post(url, files=files, params=query).json()["images"]
        return [one["score"] for one in images[0]["instances"]]

    every = scores({"confidence": CONFIDENCE})
    limit = every[len(every) // 2]
    assert scores({"confidence": limit + 1e-6}) == [score for score in every if score > limit + 1e-6]
    assert scores({"confidence": CONFIDENCE}) == every
    own = httpx.get(f"{address}/v1/about").json()["model"]["confidence"]
    assert scores({}) == scores({"confidence": own})


def test_a_photo_that_cannot_be_used_is_an_error_of_its_own(address: str, untrained: Untrained) -> None:
    photos = form(untrained.images()[:2])
    photos.insert(1, ("image", ("notes.jpg", b"not a photo", "image/jpeg")))
    answer = httpx.post(f"{address}/v1/predict", files=photos, params={"confidence": CONFIDENCE})
    first, bad, second = answer.json()["images"]
    assert answer.status_code == 200
    assert (first["image_id"], second["image_id"]) == (1, 2)
    assert {one["image_id"] for one in second["instances"]} == {2}
    assert set(bad) == {"file_name", "error"}
    assert bad["error"].startswith("notes.jpg: is not an image that can be decoded")


def test_a_request_whose_only_photo_cannot_be_used_is_refused(address: str) -> None:
    answer = httpx.post(f"{address}/v1/predict", content=b"text", headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith("image: is not an image that can be decoded")
    assert answer.json()["instance"] == f"urn:request:{answer.headers['x-request-id']}"


def test_large_photos_are_refused_by_their_headers(untrained: Untrained) -> None:
    stream = io.BytesIO()
    Image.new("1", (1001, 1000)).save(stream, "PNG")
    with running(untrained.models()["openvino"], Settings(pixels=1_000_000)) as address:
        answer = httpx.post(f"{address}/v1/predict", content=stream.getvalue(), headers={"Content-Type": "image/png"})
    assert (answer.status_code, "1001 x 1000 pixels" in answer.json()["detail"]) == (422, True)


REFUSED: dict[str, tuple[dict[str, Any], int | tuple[int, ...], str]] = {
    "no photo": ({"files": {"other": (None, "1")}}, 422, "other"),
    "its name, as text": ({"files": {"image": (None, "Größe.jpg")}}, 422, "curl needs an @: image=@photo.jpg"),
    "no photo in JSON": ({"json": {"images": []}}, 422, "There is no photo"),
    "neither": ({"json": {}}, 422, "either image or images"),
    "both": ({"json": {"image": {"base64": "aa"}, "images": []}}, 422, "either image or images"),
    "base64 and url": ({"json": {"image": {"base64": "aa", "url": "https://a"}}}, 422, "either base64 or url"),
    "not base64": ({"json": {"image": {"base64": "?"}}}, 422, "is not base64"),
    "unknown field": ({"json": {"image": {"base64": ""}, "mask": "rle"}}, 422, "it: there is no field 'mask'."),
    "another type of a field": (
        {"json": {"images": [{"base64": "aaaa"}, {"base64": 5}]}},
        422,
        "The JSON is not as /openapi.json describes it: images[1].base64: expected text or null, got whole number.",
    ),
    "confidence in JSON": (
        {"json": {"image": {"base64": ""}, "confidence": "high"}},
        422,
        "confidence: has to be a number from 0 to 1, not 'high'.",
    ),
    "not JSON": ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "is not JSON"),
    "deep JSON": ({"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, (400, 422), "JSON"),
    "another type": ({"content": b"a", "headers": {"Content-Type": "text/plain"}}, 415, "'text/plain'"),
    "no type": ({"content": b"a"}, 415, "no type"),
    "no boundary": ({"content": b"a", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
    "masks": (
        {"json": {"image": {"base64": ""}, "masks": "svg"}},
        422,
        "masks: has to be rle, polygon, png or none, not 'svg'.",
    ),
    "masks in the query": ({"json": {"image": {"base64": ""}}, "params": {"masks": "svg"}}, 422, "svg"),
    "twice": (
        {"json": {"image": {"base64": ""}}, "params": {"masks": ["rle", "png"]}},
        422,
        "'masks' is given 2 times",
    ),
    "query of a form": ({"files": {"image": b"a", "masks": (None, "rle")}, "params": {"masks": "svg"}}, 422, "svg"),
    "confidence": (
        {"json": {"image": {"base64": ""}}, "params": {"confidence": 1.5}},
        422,
        "confidence: has to be a number from 0 to 1, not '1.5'.",
    ),
    "a comma in a number": (
        {"files": {"image": b"a", "confidence": (None, "0,5")}},
        422,
        "confidence: has to be a number from 0 to 1, not '0,5'.",
    ),
    "masks in a form": (
        {"files": {"image": b"a", "masks": (None, "svg")}},
        422,
        "masks: has to be rle, polygon, png or none, not 'svg'.",
    ),
    "no such option": (
        {"files": {"image": b"a"}, "params": {"mask": "rle"}},
        422,
        "There is no option 'mask'; there are masks, confidence, classes, embed and attributes.",
    ),
    "class": ({"json": {"image": {"base64": "aaaa"}, "classes": ["hat"]}}, 422, "no class 'hat'; it has short sleeve"),
    "no class": ({"json": {"image": {"base64": "aaaa"}, "classes": []}}, 422, "no class ''"),
    "embed": ({"json": {"image": {"base64": "aaaa"}, "embed": True}}, 422, "seamline serve --embed brings it."),
    "attributes": (
        {"json": {"image": {"base64": "aaaa"}, "attributes": True}},
        422,
        "seamline serve --attributes brings it.",
    ),
    "url": ({"json": {"image": {"url": "https://example.com/a.jpg"}}}, 422, "does not fetch"),
    "too many photos": ({"json": {"images": [{"base64": "aaaa"}] * 33}}, 413, "has 33 photos; at most 32"),
    "empty body": ({"content": b"", "headers": {"Content-Type": "image/png"}}, 422, "There is no photo"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_refused_with_a_sentence(address: str, name: str) -> None:
    request, status, words = REFUSED[name]
    answer = httpx.post(f"{address}/v1/predict", **request)
    assert answer.status_code in (status if isinstance(status, tuple) else (status,)), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["type"]) == (answer.status_code, "about:blank")
    assert words in problem["detail"], problem


def test_what_each_step_took_is_said(address: str, untrained: Untrained) -> None:
    answer = httpx.post(f"{address}/v1/predict", files=form(untrained.images()[:1]), headers={"X-Request-Id": "mine-1"})
    parts = dict(part.strip().split(";dur=") for part in answer.headers["server-timing"].split(","))
    times = {name: float(value) for name, value in parts.items()}
    assert list(times) == ["queue", "decode", "inference", "masks", "encode", "total"]
    assert times["total"] >= sum(value for name, value in times.items() if name != "total") - 0.1
    assert times["inference"] > 0
    assert answer.headers["x-request-id"] == "mine-1"


def test_an_id_that_could_be_harmful_is_replaced(address: str) -> None:
    answer = httpx.get(f"{address}/v1/about", headers={"X-Request-Id": "a b<script>"})
    assert len(answer.headers["x-request-id"]) == 16


def test_what_is_served_is_said(address: str, untrained: Untrained) -> None:
    about = httpx.get(f"{address}/v1/about").json()
    assert about["model"]["classes"] == NAMES
    assert (about["model"]["family"], about["model"]["format"], about["model"]["precision"]) == (
        "yolo",
        "openvino",
        "f32",
    )
    assert "AGPL-3.0" in about["model"]["licence"]
    answer = httpx.post(f"{address}/v1/predict", files=form(untrained.images()[:1])).json()
    assert answer["model"] == {name: about["model"][name] for name in ("name", "revision")}
    assert answer["categories"] == [{"id": 1, "name": NAMES[0]}, {"id": 2, "name": NAMES[1]}]


@pytest.mark.usefixtures("tiny_family")
def test_a_model_that_finds_boxes_only_has_no_masks(tiny: Any) -> None:
    photo = tiny.photos()[0]
    with running(tiny.models()["onnx"]) as address:
        assert not httpx.get(f"{address}/v1/about").json()["model"]["has_masks"]
        for masks in get_args(Masks):
            answer = httpx.post(f"{address}/v1/predict", files=form([photo]), params={"masks": masks})
            [image] = answer.json()["images"]
            assert image["instances"]
            assert all(set(one) == {"image_id", "category_id", "bbox", "score"} for one in image["instances"])
