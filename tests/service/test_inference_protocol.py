"""The Open Inference Protocol: Triton's own client gets what /v1/predict answers, and no request makes it fail."""

from __future__ import annotations

import base64
import json
import struct
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from tritonclient.utils import InferenceServerException

from seamline import __version__
from seamline.images.reading import read_image
from seamline.inference.detector import Detector
from seamline.service.inference_protocol import (
    MOST_PIXELS_JSON_BYTES,
    OUTPUTS,
    Inference,
    answers_to_response,
    body_to_inference,
)
from seamline.service.problems import Problem
from seamline.service.schemas import ModelAbout, Options
from seamline.service.settings import Settings
from tests.service.running import running
from tests.untrained import NAMES, Untrained

CONFIDENCE = 0.02  # nobody trained the model
KEY = "a-key-of-sixteen-letters"
LIMITS = Settings(photos=4, pixels=10_000)
MODEL = ModelAbout(
    name="openvino", revision="0123456789ab", family="yolo", format="openvino", precision="f32",
    imgsz=96, classes=NAMES,
    has_masks=True, confidence=0.2, nms_iou=0.6, max_detections=50, int8_gate=None, licence="", source=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def address(untrained: Untrained) -> Iterator[str]:
    with running(untrained.models()["openvino"]) as address:
        yield address.removeprefix("http://")


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address, network_timeout=120) as client:
        yield client


def by_predict(address: str, photos: list[Path], **options: Any) -> list[str]:
    """The text of each photo's instances as /v1/predict answers it."""
    files = [("image", (photo.name, photo.read_bytes(), "image/png")) for photo in photos]
    query = {"confidence": CONFIDENCE, **options}
    text = httpx.post(f"http://{address}/v1/predict", files=files, params=query, timeout=120).text
    found, decoder = [], json.JSONDecoder()
    while (start := text.find('"instances": ')) >= 0:
        text = text[start + len('"instances": ') :]
        _, end = decoder.raw_decode(text)
        found.append(text[:end])
    assert len(found) == len(photos)
    return found


def image_input(photos: list[Path], in_binary: bool) -> triton.InferInput:
    made = triton.InferInput("image", [len(photos)], "BYTES")
    data = [photo.read_bytes() for photo in photos]
    files = np.array(data if in_binary else [base64.b64encode(one) for one in data], object)
    return made.set_data_from_numpy(files, binary_data=in_binary)


def infer(client: Any, inputs: list[triton.InferInput], outputs: list[Any] | None = None, **parameters: Any) -> Any:
    return client.infer("openvino", inputs, outputs=outputs, parameters={"confidence": CONFIDENCE, **parameters})


def texts(result: Any, name: str) -> list[str]:
    return [one if isinstance(one, str) else one.decode() for one in result.as_numpy(name)]


def test_health_and_metadata(client: triton.InferenceServerClient, untrained: Untrained, address: str) -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("openvino")
    server = {"name": "seamline", "version": __version__, "extensions": ["binary_tensor_data"]}
    assert client.get_server_metadata() == server
    model = client.get_model_metadata("openvino")
    [version] = model["versions"]
    assert version == httpx.get(f"http://{address}/v1/about").json()["model"]["revision"]
    assert (model["name"], model["platform"]) == ("openvino", "seamline_openvino")
    assert model["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    ]
    assert [(one["name"], one["datatype"], one["shape"]) for one in model["outputs"]] == [
        ("instances", "BYTES", [-1]), ("image_index", "INT64", [-1]), ("boxes", "FP32", [-1, 4]), ("scores",
         "FP32", [-1]),
        ("class_ids", "INT64", [-1]), ("class_names", "BYTES", [-1]), ("masks", "BYTES", [-1]),
    ]  # fmt: skip
    assert client.get_model_metadata("openvino", version) == model
    assert client.is_model_ready("openvino", version)
    assert not client.is_model_ready("openvino", "1") and not client.is_model_ready("other")
    result = client.infer("openvino", [image_input(untrained.images()[:1], True)], model_version=version)
    assert result.get_response()["model_version"] == version


@pytest.mark.parametrize("answered_in_binary", [True, False])
@pytest.mark.parametrize("in_binary", [True, False])
def test_triton_s_client_gets_what_predict_answers(
    address: str, client: Any, untrained: Untrained, in_binary: bool, answered_in_binary: bool
) -> None:
    photos = untrained.images()[:5]
    outputs = [triton.InferRequestedOutput(name, binary_data=answered_in_binary) for name in OUTPUTS]
    result = infer(client, [image_input(photos, in_binary)], outputs)
    expected = by_predict(address, photos)
    assert texts(result, "instances") == expected
    records = [(index, record) for index, text in enumerate(expected) for record in json.loads(text)]
    assert len(records) > 5 and len({index for index, _ in records}) > 1
    types = {name: result.as_numpy(name).dtype for name in ("image_index", "boxes", "scores", "class_ids")}
    assert types == {"image_index": np.int64, "boxes": np.float32, "scores": np.float32, "class_ids": np.int64}
    assert result.as_numpy("image_index").tolist() == [index for index, _ in records]
    corners = [[x, y, x + width, y + height] for x, y, width, height in (record["bbox"] for _, record in records)]
    np.testing.assert_array_equal(result.as_numpy("boxes"), np.array(corners, np.float32))
    np.testing.assert_array_equal(result.as_numpy("scores"), np.array([one["score"] for _, one in records], np.float32))
    assert result.as_numpy("class_ids").tolist() == [record["category_id"] for _, record in records]
    assert texts(result, "class_names") == [NAMES[record["category_id"] - 1] for _, record in records]
    assert [json.loads(text) for text in texts(result, "masks")] == [record["segmentation"] for _, record in records]


def test_the_flat_outputs_are_the_detector_s(client: Any, untrained: Untrained) -> None:
    """Held to Detector itself: pixels, order, and masks that pycocotools reads."""
    photo = untrained.images()[0]
    with Detector(untrained.models()["openvino"], CONFIDENCE) as detector:
        found = detector.detect(photo)
    result = infer(client, [image_input([photo], True)])
    np.testing.assert_allclose(result.as_numpy("boxes"), found.boxes, atol=0.001)
    np.testing.assert_allclose(result.as_numpy("scores"), found.scores, atol=1e-6)
    assert result.as_numpy("class_ids").tolist() == (found.classes + 1).tolist()
    for text, mask in zip(texts(result, "masks"), found.masks, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(json.loads(text)), mask)


@pytest.mark.parametrize("in_binary", [True, False])
def test_pixels_find_what_their_file_does(client: Any, untrained: Untrained, in_binary: bool) -> None:
    photo = next(one for one in untrained.images())
    image = cv2.cvtColor(read_image(photo), cv2.COLOR_BGR2RGB)
    by_file = infer(client, [image_input([photo], True)])
    for array in (image, image[None], np.stack([image, image])):
        tensor = triton.InferInput("pixels", [*array.shape], "UINT8").set_data_from_numpy(array, binary_data=in_binary)
        result = infer(client, [tensor])
        times = 2 if len(array) == 2 else 1
        np.testing.assert_array_equal(result.as_numpy("boxes"), np.tile(by_file.as_numpy("boxes"), (times, 1)))
        assert texts(result, "instances")[0] == texts(by_file, "instances")[0]
    nested = {"name": "pixels", "shape": [*image.shape], "datatype": "UINT8", "data": image.tolist()}
    flat = {**nested, "data": image.ravel().tolist()}
    for tensor in (nested, flat):
        [photo_of] = body_to_inference(json.dumps({"inputs": [tensor]}).encode(), None, MODEL, Settings()).photos
        np.testing.assert_array_equal(photo_of.data, read_image(photo))


def test_files_and_pixels_in_one_request_follow_each_other(client: Any, address: str, untrained: Untrained) -> None:
    photos = untrained.images()[:3]
    image = cv2.cvtColor(read_image(photos[1]), cv2.COLOR_BGR2RGB)
    pixels = triton.InferInput("pixels", [*image.shape], "UINT8").set_data_from_numpy(image)
    inputs = [image_input(photos[:1], False), pixels, image_input(photos[2:], True)]
    assert texts(infer(client, inputs), "instances") == by_predict(address, photos)


def test_only_the_outputs_that_are_asked_for(client: Any, untrained: Untrained) -> None:
    inputs = [image_input(untrained.images()[:1], True)]
    outputs = [triton.InferRequestedOutput("scores", binary_data=False), triton.InferRequestedOutput("boxes")]
    answer = infer(client, inputs, outputs).get_response()
    assert [(one["name"], "data" in one) for one in answer["outputs"]] == [("scores", True), ("boxes", False)]


@pytest.mark.parametrize("masks", ["polygon", "png", "none"])
def test_parameters_are_those_of_predict(client: Any, address: str, untrained: Untrained, masks: str) -> None:
    photos = untrained.images()[:1]
    result = infer(client, [image_input(photos, True)], masks=masks, classes=NAMES[1])
    assert texts(result, "instances") == by_predict(address, photos, masks=masks, classes=NAMES[1])
    assert set(texts(result, "class_names")) == {NAMES[1]}
    if masks == "none":
        assert result.get_output("masks") is None
    else:
        segmentations = [one["segmentation"] for text in texts(result, "instances") for one in json.loads(text)]
        assert [json.loads(text) for text in texts(result, "masks")] == segmentations


def test_nothing_found_is_empty_outputs(client: Any, untrained: Untrained) -> None:
    for in_binary in (True, False):
        outputs = [triton.InferRequestedOutput(name, binary_data=in_binary) for name in OUTPUTS]
        result = infer(client, [image_input(untrained.images()[:2], True)], outputs, confidence=1.0)
        assert texts(result, "instances") == ["[]", "[]"]
        assert {name: result.as_numpy(name).shape for name in OUTPUTS if name != "instances"} == {
            "image_index": (0,), "boxes": (0, 4), "scores": (0,), "class_ids": (0,), "class_names": (0,), "masks": (0,)
        }  # fmt: skip


def test_from_many_threads_each_gets_its_own(address: str, untrained: Untrained) -> None:
    photos = untrained.images()[:4]
    expected = by_predict(address, photos)

    def ask(number: int) -> bool:
        at = number % len(photos)
        with triton.InferenceServerClient(address, network_timeout=120) as client:
            inputs = [image_input(photos[at : at + 1], number % 3 > 0)]
            result = client.infer("openvino", inputs, request_id=str(number), parameters={"confidence": CONFIDENCE})
        own = expected[at].replace(f'"image_id": {at + 1},', '"image_id": 1,')
        return bool(result.get_response()["id"] == str(number) and texts(result, "instances") == [own])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(48)))


def test_a_body_that_is_a_photo_alone(address: str, untrained: Untrained) -> None:
    """Triton's raw binary request: curl needs no JSON."""
    photo = untrained.images()[0]
    url, headers = f"http://{address}/v2/models/openvino/infer", {"Inference-Header-Content-Length": "0"}
    answer = httpx.post(url, content=photo.read_bytes(), headers=headers)
    length = int(answer.headers["Inference-Header-Content-Length"])
    body = json.loads(answer.content[:length])
    assert [one["name"] for one in body["outputs"]] == [*OUTPUTS]
    sizes = [one["parameters"]["binary_data_size"] for one in body["outputs"]]
    assert len(answer.content) == length + sum(sizes)


def test_a_photo_that_cannot_be_used_fails_the_request(client: Any, untrained: Untrained, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(untrained.images()[0].read_bytes()[:200])
    with pytest.raises(InferenceServerException) as error:
        infer(client, [image_input([untrained.images()[0], broken], True)])
    assert error.value.status() == "400" and error.value.message().startswith("image 2: is not an image")
    small = triton.InferInput("pixels", [5, 50, 3], "UINT8").set_data_from_numpy(np.zeros((5, 50, 3), np.uint8))
    with pytest.raises(InferenceServerException, match="image 1: has 50 x 5 pixels"):
        infer(client, [small])


def test_errors_have_the_protocol_s_form_everywhere_below_v2(address: str, client: Any, untrained: Untrained) -> None:
    for method, path, status in [
        ("GET", "/v2/nothing", 404), ("GET", "/v2/models/other", 404), ("GET", "/v2/models/openvino/versions/1", 404),
        ("GET", "/v2/models/openvino/infer", 405), ("POST", "/v2/models/other/infer", 404), ("DELETE", "/v2", 405),
        ("POST", "/v2/models/openvino/versions/1/infer", 404), ("POST", "/v2/models/openvino/infer", 400),
        ("GET", "/v2/models/openvino/config", 404), ("POST", "/v2/repository/index", 404),
    ]:  # fmt: skip
        answer = httpx.request(method, f"http://{address}{path}")
        assert answer.status_code == status and answer.headers["Content-Type"] == "application/json"
        assert [*answer.json()] == ["error"] and answer.json()["error"].endswith(".")
    with pytest.raises(InferenceServerException, match="There is no model of this name and version here"):
        client.get_model_metadata("other")
    with pytest.raises(InferenceServerException, match="The model has no class 'hat'"):
        infer(client, [image_input(untrained.images()[:1], True)], classes="hat")
    with pytest.raises(InferenceServerException, match="The body is compressed"):
        client.infer("openvino", [image_input(untrained.images()[:1], True)], request_compression_algorithm="gzip")
    packed = client.infer(
        "openvino", [image_input(untrained.images()[:1], True)], response_compression_algorithm="gzip"
    )  # which the service leaves aside
    assert packed.as_numpy("instances").shape == (1,)
    assert httpx.get(f"http://{address}/v1/nothing").headers["Content-Type"] == "application/problem+json"


def test_health_needs_no_key_and_all_else_does(untrained: Untrained) -> None:
    with running(untrained.models()["openvino"], keys=[KEY]) as address:
        without = triton.InferenceServerClient(address.removeprefix("http://"), network_timeout=120)
        assert without.is_server_live() and without.is_server_ready() and without.is_model_ready("openvino")
        inputs = [image_input(untrained.images()[:1], True)]
        for call in (
            without.get_server_metadata,
            lambda: without.get_model_metadata("openvino"),
            lambda: infer(without, inputs),
        ):
            with pytest.raises(InferenceServerException, match="A key is needed") as error:
                call()
            assert error.value.status() == "401"
        headers = {"Authorization": f"Bearer {KEY}"}
        assert without.get_model_metadata("openvino", headers=headers)["name"] == "openvino"
        assert without.infer("openvino", inputs, headers=headers).as_numpy("instances").shape == (1,)


IMAGE = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["eA=="]}
PIXELS = {"name": "pixels", "shape": [1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3]}


def binary(size: Any, **changes: Any) -> dict[str, Any]:
    tensor = {name: value for name, value in IMAGE.items() if name != "data"}
    return {**tensor, "parameters": {"binary_data_size": size}, **changes}


def asked(request: Any, tail: bytes = b"", header: str | None = "") -> Inference:
    """A request, with its header's length where tensors follow."""
    head = request if isinstance(request, bytes) else json.dumps(request).encode()
    length = (str(len(head)) if tail else None) if header == "" else header
    return body_to_inference(head + tail, length, MODEL, LIMITS)


REFUSED: list[tuple[Any, bytes, str | None, str]] = [
    (b"", b"", None, "cannot be read as JSON"),
    (b"null", b"", None, "The request cannot be used: expected object, got null"),
    (b"[" * 100_000, b"", None, "cannot be used"),
    (b'{"inputs":' + b"[" * 100_000, b"", None, "cannot be used"),
    (b'{"x":' * 3000, b"", None, "cannot be read as JSON"),
    (b'{"inputs":[],"parameters":' + b"[" * 30_000 + b"]" * 30_000 + b"}", b"", None, "cannot be"),
    (b'{"inputs":[],"parameters":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", None, "cannot be read|too long"),
    (b'{"inputs":[{"name":"pixels","shape":[1,1,3],"datatype":"UINT8","data":[NaN,1,2]}]}', b"", None, "JSON"),
    (b'{"inputs":[{"name":"pixels","shape":[1,1,3],"datatype":"UINT8","data":[1e400,1,2]}]}', b"", None,
     "whole numbers from 0 to 255"),
    (b'{"inputs":[],"id":"\xff"}', b"", None, "cannot be"),
    (b'{"inputs":[],"id":"\\ud800"}', b"", None, "cannot be|no photo"),
    ({}, b"", None, "The request cannot be used: the field 'inputs' is missing"),
    ({"inputs": []}, b"", None, "The request has no photo"),
    ({"inputs": {}}, b"", None, "inputs: expected array, got object"),
    ({"inputs": [1]}, b"", None, r"inputs\[0\]: expected object, got whole number"),
    ({"inputs": [{**IMAGE, "name": "picture"}]}, b"", None, "There is no input 'picture'"),
    ({"inputs": [{**IMAGE, "datatype": "UINT8"}]}, b"", None, "it has to be of BYTES"),
    ({"inputs": [{**IMAGE, "datatype": "x" * 999}]}, b"", None, "it has to be of BYTES"),
    ({"inputs": [{**IMAGE, "shape": [-1]}]}, b"", None, "expected whole number >= 0"),
    ({"inputs": [{**IMAGE, "shape": [1.5]}]}, b"", None, "expected whole number, got"),
    ({"inputs": [{**IMAGE, "shape": ["1"]}]}, b"", None, "expected whole number, got"),
    ({"inputs": [{**IMAGE, "shape": [2]}]}, b"", None, "has 1 files, but its shape says 2"),
    ({"inputs": [{**IMAGE, "shape": [0]}]}, b"", None, "has 1 files, but its shape says 0"),
    ({"inputs": [{**IMAGE, "shape": []}]}, b"", None, r"the shape \[n\]"),
    ({"inputs": [{**IMAGE, "shape": [1, 2]}]}, b"", None, r"the shape \[n\]"),
    ({"inputs": [{**IMAGE, "shape": [2**63]}]}, b"", None, "too many photos"),
    ({"inputs": [{**IMAGE, "shape": [10**30]}]}, b"", None, "too many photos|out of range|cannot be"),
    ({"inputs": [{**IMAGE, "shape": [1] * 100_000}]}, b"", None, "four numbers at most"),
    ({"inputs": [{**IMAGE, "shape": [5], "data": ["eA=="] * 5}]}, b"", None, "at most 4 are taken"),
    ({"inputs": [IMAGE] * 5}, b"", None, "at most 4 are taken"),
    ({"inputs": [IMAGE] * 5000}, b"", None, "too many parts"),
    ({"inputs": [{**IMAGE, "data": [""] * 30_000}]}, b"", None, "too many parts"),
    ({"inputs": [{**IMAGE, "data": ["#"]}]}, b"", None, "image 1: is not base64"),
    ({"inputs": [IMAGE, {**IMAGE, "data": ["\u00e4"]}]}, b"", None, "image 2: is not base64"),
    ({"inputs": [{**IMAGE, "data": [1]}]}, b"", None, "expected text, got whole number"),
    ({"inputs": [{**IMAGE, "data": "eA=="}]}, b"", None, "expected array, got"),
    ({"inputs": [{**IMAGE, "data": None}]}, b"", None, "expected array, got"),
    ({"inputs": [{**IMAGE, "parameters": {"shared_memory_region": "x"}}]}, b"", None, "shared memory"),
    ({"inputs": [{**IMAGE, "parameters": []}]}, b"", None, "expected object or null, got array"),
    ({"inputs": [IMAGE], "parameters": {"x": "y" * 70_000}}, b"", None, "too long"),
    ({"inputs": [IMAGE], "id": 1}, b"", None, "id: expected text or null, got whole number"),
    ({"inputs": [IMAGE], "outputs": [{"name": "boxen"}]}, b"", None, "There is no output 'boxen'"),
    ({"inputs": [IMAGE], "outputs": [{"name": "boxes"}] * 2}, b"", None, "named twice"),
    ({"inputs": [IMAGE], "outputs": [{}]}, b"", None, r"outputs\[0\]: the field 'name' is missing"),
    ({"inputs": [IMAGE], "outputs": [{"name": "boxes", "parameters": {"binary_data": 1}}]}, b"", None,
     "true or false"),
    ({"inputs": [IMAGE], "outputs": [{"name": "boxes", "parameters": {"classification": 3}}]}, b"", None,
     "classification"),
    ({"inputs": [IMAGE], "outputs": [{"name": "masks"}], "parameters": {"masks": "none"}}, b"", None,
     "no output 'masks'"),
    ({"inputs": [IMAGE], "parameters": {"binary_data_output": "yes"}}, b"", None, "true or false"),
    ({"inputs": [IMAGE], "parameters": {"confidence": 2}}, b"", None, "a number from 0 to 1, not '2'"),
    ({"inputs": [IMAGE], "parameters": {"confidence": "0.5"}}, b"", None, "a number from 0 to 1, not '0.5'"),
    ({"inputs": [IMAGE], "parameters": {"masks": "x" * 50_000}}, b"", None, "rle, polygon, png or none"),
    ({"inputs": [IMAGE], "parameters": {"masks": "all"}}, b"", None, "rle, polygon, png or none, not 'all'"),
    ({"inputs": [IMAGE], "parameters": {"classes": [1]}}, b"", None, r"classes\[0\]: expected text, got whole number"),
    ({"inputs": [IMAGE], "parameters": {"confidance": 0.5}}, b"", None, "no option 'confidance'; there are"),
    ({"inputs": [{**PIXELS, "shape": [1, 1]}]}, b"", None, r"\[height, width, 3\]"),
    ({"inputs": [{**PIXELS, "shape": [1, 1, 4], "data": [0] * 4}]}, b"", None, "for RGB"),
    ({"inputs": [{**PIXELS, "shape": [1, 2, 3]}]}, b"", None, "has 3 values that do not have the shape"),
    ({"inputs": [{**PIXELS, "shape": [0, 1, 3], "data": []}]}, b"", None, "images of 0 x 1"),
    ({"inputs": [{**PIXELS, "shape": [101, 100, 3]}]}, b"", None, "at most 10,000 pixels"),
    ({"inputs": [{**PIXELS, "shape": [2**62, 2**62, 3]}]}, b"", None, "at most 10,000 pixels"),
    ({"inputs": [{**PIXELS, "shape": [2**62, 1, 1, 3]}]}, b"", None, "too many photos"),
    ({"inputs": [{**PIXELS, "data": [1, 2, 256]}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": [1, 2, -1]}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": [1, 2, 3.5]}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": [1, 2, 10**30]}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": [1, 2, None]}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": [True, False, True]}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": ["1", "2", "3"]}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": [[1], [], [2]]}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": []}]}, b"", None, "has 0 values that do not have the shape"),
    ({"inputs": [{**PIXELS, "data": [[], []]}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": 12}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": None}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": "AQID"}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [{**PIXELS, "data": {}}]}, b"", None, "whole numbers from 0 to 255"),
    ({"inputs": [binary(5)]}, b"\x01\x00\x00\x00x", None, "JSON is malformed|cannot be read"),
    ({"inputs": [binary(5)]}, b"", None, r"a number of bytes that the body has \(0\)"),
    ({"inputs": [binary(6)]}, b"\x01\x00\x00\x00x", "", r"that the body has \(5\)"),
    ({"inputs": [binary(-1)]}, b"\x01\x00\x00\x00x", "", "that the body has"),
    ({"inputs": [binary(2**70)]}, b"\x01\x00\x00\x00x", "", "that the body has"),
    ({"inputs": [binary(5.0)]}, b"\x01\x00\x00\x00x", "", "that the body has"),
    ({"inputs": [binary(True)]}, b"\x01\x00\x00\x00x", "", "that the body has"),
    ({"inputs": [binary("5")]}, b"\x01\x00\x00\x00x", "", "that the body has"),
    ({"inputs": [binary(5, data=["eA=="])]}, b"\x01\x00\x00\x00x", "", "one of them is to be left out"),
    ({"inputs": [binary(5)]}, b"\x01\x00\x00\x00xy", "", "1 bytes more than the inputs' binary_data_size"),
    ({"inputs": [binary(4)]}, b"\x01\x00\x00\x00", "", "a file of 1 bytes, but only 0 are left"),
    ({"inputs": [binary(5)]}, b"\xff\xff\xff\xffx", "", "a file of 4,294,967,295 bytes"),
    ({"inputs": [binary(3)]}, b"\x01\x00\x00", "", "fewer files than its shape says"),
    ({"inputs": [binary(5, shape=[2])]}, b"\x01\x00\x00\x00x", "", "fewer files than its shape says"),
    ({"inputs": [binary(6)]}, b"\x01\x00\x00\x00xy", "", "1 bytes more than its files have"),
    ({"inputs": [binary(0, shape=[0])]}, b"", "", "The request has no photo"),
    ({"inputs": [IMAGE]}, b"x", "", "1 bytes more"),
    ({"inputs": [{**PIXELS, "data": None, "parameters": {"binary_data_size": 2}}]}, b"ab", "", "has 2 values"),
    ({"inputs": [{**PIXELS, "data": None, "parameters": {"binary_data_size": 0}}]}, b"", "", "has 0 values"),
    ({"inputs": [IMAGE]}, b"", "999999", "but the body has"),
    ({"inputs": [IMAGE]}, b"", "-1", "is not a number"),
    ({"inputs": [IMAGE]}, b"", "1_0", "is not a number"),
    ({"inputs": [IMAGE]}, b"", "\u0661", "is not a number"),
    ({"inputs": [IMAGE]}, b"", "9" * 5000, "is not a number"),
    ({"inputs": [IMAGE]}, b"", "5", "cannot be read as JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "tail", "header", "words"), REFUSED, ids=range(len(REFUSED)))
def test_a_request_that_is_wrong_is_one_sentence(request_: Any, tail: bytes, header: str | None, words: str) -> None:
    with pytest.raises(Problem, match=words) as error:
        asked(request_, tail, header)
    sentence = error.value.detail
    assert (
        error.value.status in (400, 413, 422)
        and sentence.endswith(".")
        and "\n" not in sentence
        and len(sentence) < 700
    )


def test_no_request_takes_many_times_its_own_room() -> None:
    """Small parts without number, which are ten times as large as objects of Python's."""
    tensor = '{"inputs":[{"name":"%s","datatype":"%s","shape":[%s],"data":[%s]}]%s}'
    many = ",".join(["%s"] * 400_000)
    for text in (
        '{"inputs":[' + many % (("{}",) * 400_000) + "]}",
        tensor % ("image", "BYTES", "1", many % (('"ab"',) * 400_000), ""),
        tensor % ("image", "BYTES", many % (("12",) * 400_000), "", ""),
        tensor % ("pixels", "UINT8", "1,1,3", many % (("[0]",) * 400_000), ""),
        tensor % ("image", "BYTES", "1", '"eA=="', ',"outputs":[' + many % (('{"name":"x"}',) * 400_000) + "]"),
        tensor % ("image", "BYTES", "1", '"eA=="', ',"parameters":{"x":[' + many % (("[]",) * 400_000) + "]}"),
    ):
        body = text.encode()
        tracemalloc.start()
        try:
            with pytest.raises(Problem):
                asked(body)
            assert tracemalloc.get_traced_memory()[1] < 7 * len(body)
        finally:
            tracemalloc.stop()


def test_pixels_as_text_are_taken_up_to_a_size() -> None:
    data = b"[" + b" " * MOST_PIXELS_JSON_BYTES + b"1,2,3]"
    tensor = b'{"inputs":[{"name":"pixels","shape":[1,1,3],"datatype":"UINT8","data":%s}]}'
    with pytest.raises(Problem, match="send it as binary"):
        asked(tensor % data)
    assert len(asked(tensor % b"[1,2,3]").photos) == 1


def test_what_clients_add_changes_nothing() -> None:
    extra = {"content_type": "np", "headers": {"a": ["b"]}, "sequence_id": 1, "priority": 2, "timeout": 3}
    request = {
        "id": None,
        "model_name": "x",
        "parameters": extra,
        "outputs": None,
        "inputs": [{**IMAGE, "shape": [1, 1]}],
    }
    found = asked({**request, "inputs": [{**IMAGE, "shape": [1, 1], "parameters": {"content_type": "base64"}}]})
    assert found.options == Options() and found.id is None and [photo.data for photo in found.photos] == [b"x"]
    prefixed = {**IMAGE, "data": ["data:image/png;base64,eA=="]}
    assert [photo.data for photo in asked({"inputs": [prefixed]}).photos] == [b"x"]


def test_photos_are_numbered_through_all_inputs_and_outputs_have_their_own_form() -> None:
    outputs = [{"name": "boxes"}, {"name": "scores", "parameters": {"binary_data": False}}]
    found = asked({"inputs": [IMAGE, PIXELS], "outputs": outputs, "parameters": {"binary_data_output": True}})
    assert [photo.name for photo in found.photos] == ["image 1", "image 2"]
    assert found.outputs == {"boxes": True, "scores": False}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
shapes = st.lists(st.integers(-1, 4) | st.just(3) | st.integers(), max_size=5) | values
sizes = st.integers(-1, 20) | values
parameters = (
    st.fixed_dictionaries({}, optional={"binary_data_size": sizes, "binary_data": st.booleans() | values, "x": values})
    | values
)
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["image", "pixels"]) | st.text(max_size=3),
        "datatype": st.sampled_from(["BYTES", "UINT8"]) | st.text(max_size=3),
        "shape": shapes,
    },
    optional={"parameters": parameters, "data": st.lists(st.integers(-1, 256) | st.just("eA=="), max_size=12) | values},
)
options = st.fixed_dictionaries(
    {},
    optional={
        "confidence": st.floats(-1, 2) | values,
        "masks": st.sampled_from(["rle", "png", "none"]) | values,
        "classes": st.text(max_size=3) | values,
        "binary_data_output": st.booleans() | values,
    },
)
outputs = st.fixed_dictionaries(
    {"name": st.sampled_from([*OUTPUTS]) | st.text(max_size=3)}, optional={"parameters": parameters}
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3) | values},
    optional={
        "outputs": st.lists(outputs, max_size=3) | values,
        "id": st.text() | values,
        "parameters": options | values,
    },
)
elements = st.lists(st.binary(max_size=4), max_size=4).map(
    lambda parts: b"".join(struct.pack("<I", len(part)) + part for part in parts)
)


@settings(max_examples=500)
@given(
    request_=requests | values,
    tail=st.binary(max_size=20) | elements,
    moved=st.integers(-3, 3),
    flip=st.integers(0, 10**6),
)
@example(request_={"inputs": [binary(5)]}, tail=b"\x01\x00\x00\x00x", moved=0, flip=0)
def test_any_request_is_photos_or_one_sentence(request_: Any, tail: bytes, moved: int, flip: int) -> None:
    head = json.dumps(request_).encode()
    for body, header in (
        (head + tail, str(len(head) + moved)),
        (head, None),
        (head[: flip % len(head)] + bytes([flip % 256]) + head[flip % len(head) + 1 :] + tail, str(len(head))),
    ):
        try:
            found = body_to_inference(body, header, MODEL, LIMITS)
        except Problem as problem:
            assert problem.status in (400, 413, 422) and problem.detail.endswith(".")
            problem.detail.encode("utf-8", "replace")
        else:
            assert 0 < len(found.photos) <= LIMITS.photos
            text, length = answers_to_response([[] for _ in found.photos], found, MODEL)
            assert json.loads(text[:length])["model_name"] == MODEL.name


def test_no_hostile_request_makes_the_service_fail(address: str) -> None:
    """The same over HTTP: 400 and a sentence each time, and the service still answers."""
    url = f"http://{address}/v2/models/openvino/infer"
    with httpx.Client(timeout=60) as client:
        for request_, tail, header, _ in REFUSED:
            head = request_ if isinstance(request_, bytes) else json.dumps(request_).encode()
            length = (str(len(head)) if tail else None) if header == "" else header
            headers = (
                {} if length is None else {"Inference-Header-Content-Length": length.encode("utf-8", "replace")[:900]}
            )
            answer = client.post(url, content=head + tail, headers=headers)  # type: ignore[arg-type]
            assert answer.status_code in (400, 413) and [*answer.json()] == ["error"], (
                answer.status_code,
                answer.text[:200],
            )
        assert client.get(f"http://{address}/v2/health/ready").json() == {"live": True, "ready": True}


@pytest.fixture(scope="module")
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{address}", timeout=120) as client:
        yield client


@settings(max_examples=60)
@given(request_=requests, tail=elements)
def test_any_request_over_http_is_answered(http: httpx.Client, request_: Any, tail: bytes) -> None:
    head = json.dumps(request_).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if tail else {}
    answer = http.post("/v2/models/openvino/infer", content=head + tail, headers=headers)
    assert answer.status_code in (200, 400)
    assert answer.status_code == 200 or [*answer.json()] == ["error"]
