"""A family that finds boxes only goes through every engine and every call, and to the records of a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.base.errors import SeamlineError
from seamline.images.reading import read_image
from seamline.inference.detector import Detector
from seamline.inference.predictions import predict_split
from seamline.models.detections import Detections
from seamline.models.engines.engine import copied
from seamline.models.families import FAMILIES
from tests.tiny_family import FACTS, NAMES, Tiny

ENGINES = ("pytorch", "onnx", "openvino")


def equal(first: Any, other: Any) -> None:
    assert isinstance(first, Detections)
    np.testing.assert_allclose(first.scores, other.scores, atol=1e-5)
    np.testing.assert_array_equal(first.classes, other.classes)
    np.testing.assert_allclose(first.boxes, other.boxes, atol=1e-3)


@pytest.mark.usefixtures("tiny_family")
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_call_of_every_engine_finds_the_same(tiny: Tiny, name: str, batch: int) -> None:
    """PyTorch's one by one is what the others are held to; its outputs are the module's, on a tensor made here."""
    photos = tiny.photos()[:7]
    with Detector(tiny.models()["pytorch"], threads=1) as reference:
        expected = [reference.detect(photo) for photo in photos]
    assert sum(map(len, expected)) > 7
    with Detector(tiny.models()[name], threads=2, batch=batch) as detector:
        assert (detector.names, detector.imgsz, detector.has_masks, detector.precision) == (NAMES, 32, False, "f32")
        for photo, found, own in zip(photos, detector.detect_all(photos), expected, strict=True):
            equal(found, own)
            equal(detector.detect(photo), own)
            equal(detector.submit(photo).result(), own)


@pytest.mark.usefixtures("tiny_family")
@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_hands_on_whatever_a_model_puts_out(tiny: Tiny, name: str) -> None:
    """Three outputs of other types and shapes than YOLO's two, and the family's own preprocessing."""
    engine: Any = Detector(tiny.models()[name]).engine
    canvases = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    boxes, scores, classes = engine.infer(canvases, copied)
    assert (boxes.shape, scores.shape, classes.shape) == ((1, 16, 4), (1, 16), (1, 16))
    assert np.issubdtype(classes.dtype, np.integer)
    weights = torch.load(tiny.weights, weights_only=True)["weights"]
    tensor = torch.from_numpy(canvases).permute(0, 3, 1, 2).double() / 127.5 - 1
    by_hand = torch.nn.functional.conv2d(tensor, weights["cells.weight"].double(), weights["cells.bias"].double(), 8)
    np.testing.assert_allclose(scores, by_hand.sigmoid().flatten(2).amax(1).numpy(), atol=1e-5)


@pytest.mark.usefixtures("tiny_family")
def test_records_of_a_split_are_boxes_that_pycocotools_measures(tiny: Tiny) -> None:
    found = {
        name: predict_split(Detector(path, 0.01), tiny.split / "test.json", tiny.images, "test")
        for name, path in tiny.models().items()
    }
    assert all(set(record) == {"image_id", "category_id", "bbox", "score"} for record in found["pytorch"])
    for name in ENGINES:
        key = [(record["image_id"], record["category_id"], record["bbox"]) for record in found[name]]
        assert key == [(record["image_id"], record["category_id"], record["bbox"]) for record in found["pytorch"]]
    truth = COCO(str(tiny.split / "test.json"))
    measured = COCOeval(truth, truth.loadRes(found["openvino"]), "bbox")
    measured.evaluate()
    measured.accumulate()
    measured.summarize()
    assert 0.5 < measured.stats[0] < 1


@pytest.mark.usefixtures("tiny_family")
def test_what_has_no_masks_says_so(tiny: Tiny) -> None:
    found = next(one for one in map(Detector(tiny.models()["onnx"]).detect, tiny.photos()) if len(one))
    assert not found.has_masks
    for ask in (found.mask, found.crop, found.runs, found.rle, found.polygon):
        with pytest.raises(SeamlineError, match=r"^the model finds boxes only, so there are no masks"):
            ask(0)


@pytest.mark.usefixtures("tiny_family")
def test_a_photo_of_any_shape_and_form_is_stretched(tiny: Tiny) -> None:
    """The family's canvas and not YOLO's: a photo and the same one made twice as wide have the same boxes, doubled."""
    detector = Detector(tiny.models()["onnx"])
    photo = read_image(tiny.photos()[0])
    once, wide = detector.detect(photo), detector.detect(np.repeat(photo, 2, axis=1))
    assert len(once)
    np.testing.assert_allclose(wide.boxes, once.boxes * [2, 1, 2, 1], atol=1e-3)


@pytest.mark.parametrize("name", ENGINES)
def test_an_unknown_family_is_one_sentence(tiny: Tiny, name: str) -> None:
    assert "tiny" not in FAMILIES
    with pytest.raises(
        SeamlineError, match=r": is a model of the family 'tiny'; this version of Seamline opens yolo, rcnn\.$"
    ):
        Detector(tiny.models()[name])


@pytest.mark.usefixtures("tiny_family")
@pytest.mark.parametrize("changes", [{"imgsz": "wide"}, {"names": "red, blue"}])
def test_facts_that_cannot_be_read_are_one_sentence(tiny: Tiny, tmp_path: Path, changes: dict[str, str]) -> None:
    model = onnx.load(tiny.models()["onnx"])
    for entry in model.metadata_props:
        entry.value = changes.get(entry.key, entry.value)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(SeamlineError, match=r"model\.onnx: has no Seamline metadata \(names, imgsz, confidence"):
        Detector(tmp_path / "model.onnx")


def test_the_split_has_what_the_tests_need(tiny: Tiny) -> None:
    for name in ("train", "val", "test"):
        coco = json.loads((tiny.split / f"{name}.json").read_text())
        assert {record["category_id"] for record in coco["annotations"]} == {1, 2}
    assert not FACTS.masks
