"""A model of attributes against onnxruntime and Pillow by hand; closing, forks, threads, and what a file may say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from PIL import Image as Pillow

from seamline.base.errors import SeamlineError
from seamline.images.reading import ImageError
from seamline.inference.classifier import AttributeClassifier, logits_to_attributes
from seamline.models.attribute_facts import (
    attribute_facts_to_metadata,
    check_classes,
    metadata_to_attribute_facts,
)
from seamline.models.detections import Attribute, Crop, Detections
from tests.tiny_classifier import FACTS, save_classifier
from tests.tiny_encoder import IMGSZ, image_model

NAMES = ["trousers", "shirt"]  # of a detector's classes


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("attributes"))


@pytest.fixture
def classifier(model: Path) -> Iterator[AttributeClassifier]:
    with AttributeClassifier(model, 1) as opened:
        yield opened


def photo(seed: int, height: int = 60, width: int = 40) -> Any:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def by_hand(model: Path, part: Any) -> list[Any]:
    """Probabilities of each attribute for a cut-out, step by step."""
    longest = max(part.shape[:2])
    size = round(part.shape[1] * IMGSZ / longest), round(part.shape[0] * IMGSZ / longest)
    rgb = Pillow.fromarray(part[:, :, ::-1]).resize(size, Pillow.Resampling.BILINEAR)
    square = Pillow.new("RGB", (IMGSZ, IMGSZ), tuple(round(255 * one) for one in FACTS.mean))
    square.paste(rgb, ((IMGSZ - size[0]) // 2, (IMGSZ - size[1]) // 2))
    tensor = (np.asarray(square, np.float64) / 255 - FACTS.mean) / FACTS.std
    session = onnxruntime.InferenceSession(str(model / "model.onnx"), providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"images": tensor.transpose(2, 0, 1)[None].astype(np.float32)})
    found = []
    for own, temperature in ((logits[0, :4], 2.0), (logits[0, 4:], 0.5)):
        powers = np.exp(own.astype(np.float64) / temperature)
        found.append(powers / powers.sum())
    return found


def check(named: dict[str, Attribute], expected: list[Any]) -> None:
    assert list(named) == ["neck", "sleeve"]
    for (name, one), probabilities in zip(named.items(), expected, strict=True):
        best = FACTS.attributes[name][int(probabilities.argmax())]
        assert one.best == best
        assert one.confidence == pytest.approx(probabilities.max(), abs=1e-4)
        threshold = FACTS.thresholds[name]
        assert one.value == (best if threshold is None or one.confidence >= threshold else None)


def test_a_whole_photo_is_classified_as_by_hand(model: Path, classifier: AttributeClassifier, tmp_path: Path) -> None:
    abstained = 0
    for seed in range(12):
        image = photo(seed, 30 + 5 * seed, 60)
        path = tmp_path / f"{seed}.png"
        cv2.imwrite(str(path), image)
        named = classifier.classify_photo(path)
        check(named, by_hand(model, image))
        assert classifier.classify_photo(image) == named
        abstained += named["sleeve"].value is None
    assert 0 < abstained < 12  # the threshold matters
    with pytest.raises(ImageError, match="at most 1,200 are read"):
        classifier.classify_photo(tmp_path / "0.png", max_pixels=1200)


def test_instances_are_cut_out_with_the_margin_and_classified_in_their_order(
    model: Path, classifier: AttributeClassifier
) -> None:
    image = photo(5, 100, 120)
    boxes = np.array([[20, 30, 60, 90], [0, 0, 50, 40], [10, 10, 110, 90]], np.float32)
    found = Detections(boxes, np.ones(3, np.float32), np.zeros(3, np.int64), None, 100, 120)
    parts = [image[24:96, 16:64], image[0:44, 0:55], image[2:98, 0:120]]
    for named, part in zip(classifier.classify(image, found, NAMES), parts, strict=True):
        check(named, by_hand(model, part))
    assert classifier.classify(image, found.chosen(np.zeros(0, np.int64)), NAMES) == []


def test_garments_of_classes_that_it_does_not_know_get_no_attributes(model: Path, tmp_path: Path) -> None:
    save_classifier(tmp_path, msgspec.structs.replace(FACTS, classes=["Shirt ", "vest"]))
    image, boxes = photo(5, 100, 120), np.array([[20, 30, 60, 90], [0, 0, 50, 40], [10, 10, 110, 90]], np.float32)
    found = Detections(boxes, np.ones(3, np.float32), np.array([1, 0, 1]), None, 100, 120)
    with AttributeClassifier(model, 1) as every, AttributeClassifier(tmp_path, 1) as some:
        first, _, last = every.classify(image, found, NAMES)
        assert some.classify(image, found, NAMES) == [first, {}, last]
        assert some.classify(image, found, ["coat", "skirt"]) == [{}, {}, {}]
        assert some.classify_photo(image) == every.classify_photo(image)  # which is said to be one


def test_a_detector_of_other_classes_alone_is_refused() -> None:
    for classes in (None, ["shirt"], ["Trousers", "hat"]):
        check_classes(msgspec.structs.replace(FACTS, classes=classes), NAMES, Path("m"))
    check_classes(msgspec.structs.replace(FACTS, classes=["shirt"]), ["T-shirt", " SHIRT"], Path("m"))
    with pytest.raises(SeamlineError, match="m: names attributes of hat, coat alone, and the detector finds trousers"):
        check_classes(msgspec.structs.replace(FACTS, classes=["hat", "coat"]), NAMES, Path("m"))


def test_what_lies_outside_a_mask_is_replaced_where_the_model_was_trained_so(tmp_path: Path) -> None:
    save_classifier(tmp_path, msgspec.structs.replace(FACTS, background="white", margin=0.0))
    image = photo(7, 50, 50)
    mask = np.zeros((30, 30), np.uint8)
    mask[5:25, 8:20] = 1
    found = Detections(
        np.array([[10, 10, 40, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64),
        [Crop(mask, 10, 10)], 50, 50,
    )  # fmt: skip
    white = np.where(mask[:, :, None] == 1, image[10:40, 10:40], 255).astype(np.uint8)
    with AttributeClassifier(tmp_path, 1) as classifier:
        [named] = classifier.classify(image, found, NAMES)
    check(named, by_hand(tmp_path, white))


def test_the_mean_colour_outside_a_mask_is_that_of_training_whatever_the_input_is_shifted_by(tmp_path: Path) -> None:
    save_classifier(tmp_path, msgspec.structs.replace(FACTS, background="mean", margin=0.0))
    image, mask = photo(7, 50, 50), np.zeros((30, 30), np.uint8)
    mask[5:25, 8:20] = 1
    box = np.array([[10, 10, 40, 40]], np.float32)
    found = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64), [Crop(mask, 10, 10)], 50, 50)
    imagenet = np.where(mask[:, :, None] == 1, image[10:40, 10:40], (104, 116, 124)).astype(np.uint8)
    with AttributeClassifier(tmp_path, 1) as classifier:
        [named] = classifier.classify(image, found, NAMES)
    check(named, by_hand(tmp_path, imagenet))


def test_a_value_as_sure_as_the_threshold_is_named() -> None:
    facts = msgspec.structs.replace(FACTS, thresholds={"neck": 0.25, "sleeve": 0.51})
    named = logits_to_attributes(np.zeros(6), facts, facts.slices())
    assert [(one.value, one.best, one.confidence) for one in named.values()] == [
        ("round", "round", 0.25), (None, "short", 0.5),
    ]  # fmt: skip


def test_threads_get_what_each_gets_alone(classifier: AttributeClassifier) -> None:
    photos = [photo(seed) for seed in range(24)]
    alone = [classifier.classify_photo(one) for one in photos]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(classifier.classify_photo, photos)) == alone


def test_after_closing_it_is_refused(model: Path) -> None:
    classifier = AttributeClassifier(model, 1)
    classifier.close()
    with pytest.raises(SeamlineError, match="the model of attributes is closed"):
        classifier.classify_photo(photo(0))


def test_a_fork_is_refused(classifier: AttributeClassifier) -> None:
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            classifier.classify_photo(photo(0))
            said = "nothing"
        except SeamlineError as error:
            said = str(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.waitpid(process, 0)
    assert "does not work in" in os.read(reading, 1000).decode()


def test_facts_survive_as_metadata() -> None:
    metadata = attribute_facts_to_metadata(FACTS)
    assert all(isinstance(value, str) for value in metadata.values())
    assert json.loads(metadata["attributes"])["sleeve"] == ["short", "long"]
    assert metadata_to_attribute_facts({**metadata, "precision": "f32"}, Path("model")) == FACTS
    before = {key: value for key, value in metadata.items() if key != "classes"}  # as before there were any
    assert metadata_to_attribute_facts(before, Path("model")) == FACTS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attributes": None}, "is not a model of attributes"),
        ({"attributes": "{}"}, "names no attributes"),
        ({"attributes": '{"neck": ["round"], "sleeve": ["a", "b"]}'}, "they have to be two or more"),
        ({"attributes": '{"neck": ["a", "a"], "sleeve": ["a", "b"]}'}, "all different"),
        ({"thresholds": '{"neck": null}'}, "thresholds have none of 'sleeve'"),
        ({"thresholds": '{"neck": null, "sleeve": 1.5}'}, "says what cannot be"),
        ({"attributes": '{"neck": ["a", "\\u001b[2J"], "sleeve": ["a", "b"]}'}, "control character"),
        ({"attributes": '{"\\u001b[2J": ["a", "b"]}'}, "control character"),
        ({"classes": '["a", "\\u001b[2J"]'}, "the class .* has a control character"),
        ({"temperatures": '{"neck": 1.0}'}, "temperatures have none of 'sleeve'"),
        ({"temperatures": '{"neck": -1.0, "sleeve": 1.0}'}, "says what cannot be"),
        ({"imgsz": "1e9"}, "says what cannot be"),
        ({"std": "[0.2, 0, 0.2]"}, "says what cannot be"),
        ({"names": '{"columns": ["neck"]}'}, "says what cannot be"),
        ({"names": '{"codes": {"neck": "0"}}'}, "says what cannot be"),
        ({"margin": "nothing"}, "says what cannot be"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused_in_a_sentence(changes: dict[str, str | None], said: str) -> None:
    metadata = attribute_facts_to_metadata(FACTS) | changes
    with pytest.raises(SeamlineError, match=said) as caught:
        metadata_to_attribute_facts(
            {key: value for key, value in metadata.items() if value is not None}, Path("m.onnx")
        )
    assert str(caught.value).startswith("m.onnx: ")


def test_a_model_that_makes_something_else_of_a_garment_is_refused(tmp_path: Path) -> None:
    more = {"neck": ["round", "v", "collar", "high"], "sleeve": ["short", "long", "none"]}
    save_classifier(tmp_path, msgspec.structs.replace(FACTS, attributes=more))
    with AttributeClassifier(tmp_path, 1) as classifier, pytest.raises(SeamlineError, match="does not make 7 numbers"):
        classifier.classify_photo(photo(0))
    broken = image_model()
    broken.graph.initializer[0].raw_data = np.full(216, np.nan, np.float32).tobytes()
    helper.set_model_props(broken, attribute_facts_to_metadata(FACTS))
    onnx.save(broken, tmp_path / "model.onnx")
    with AttributeClassifier(tmp_path, 1) as classifier, pytest.raises(SeamlineError, match="does not make 6 numbers"):
        classifier.classify_photo(photo(0))


def test_another_kind_of_model_and_a_wrong_input_size_are_refused(tmp_path: Path) -> None:
    onnx.save(image_model(), tmp_path / "model.onnx")
    with pytest.raises(SeamlineError, match="is not a model of attributes"):
        AttributeClassifier(tmp_path, 1)
    save_classifier(tmp_path, msgspec.structs.replace(FACTS, imgsz=2 * IMGSZ))
    with pytest.raises(SeamlineError, match=r"48 px a side, and takes \(3, 24, 24\)"):
        AttributeClassifier(tmp_path, 1)
