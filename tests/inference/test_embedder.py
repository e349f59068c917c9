"""Embedder: vectors of garments by hand, from many threads, of odd photos and of what cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from PIL import Image as Pillow

from seamline.base.errors import SeamlineError
from seamline.images.reading import ImageError
from seamline.inference.detector import Detector
from seamline.inference.embedder import (
    AT_ONCE,
    Embedder,
    clean_text,
    garment_to_square,
    image_to_square,
    with_length_1,
)
from seamline.inference.truth import annotations_to_detections
from seamline.models.detections import Crop, Detections
from seamline.models.engines.opening import open_engine
from tests.conftest import PROJECT
from tests.tiny_encoder import DIMENSION, IMGSZ, embedder_facts, image_model, save_embedder
from tests.untrained import WITHOUT_TORCH, Untrained

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_embedder(tmp_path_factory.mktemp("embedder"))


def photo(height: int = 80, width: int = 60, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def garments(count: int, height: int = 80, width: int = 60, masks: bool = True) -> Detections:
    rng = np.random.default_rng(count)
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * [width, height]
    boxes = corners.reshape(count, 4).astype(np.float32)
    shapes: list[Any] = [
        Crop(rng.integers(0, 2, (int(y2) - int(y1) + 1, int(x2) - int(x1) + 1)).astype(np.uint8), int(x1), int(y1))
        for x1, y1, x2, y2 in boxes
    ]
    return Detections(
        boxes, np.ones(count, np.float32), np.zeros(count, np.int64), shapes if masks else None, height, width
    )


def expected_vector(image: Array, mask: Array | None, box: Array, margin: float) -> Array:
    """Step by step, with Pillow and ONNX's own reference."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(side) for side in box)
    across, down = margin * (x2 - x1), margin * (y2 - y1)
    left, right = max(int(np.floor(x1 - across)), 0), min(int(np.ceil(x2 + across)), width)
    top, bottom = max(int(np.floor(y1 - down)), 0), min(int(np.ceil(y2 + down)), height)
    if mask is not None:
        image = np.where(mask[:, :, None] > 0, image, 255).astype(np.uint8)
    rgb = Pillow.fromarray(image[top:bottom, left:right, ::-1]).resize((IMGSZ, IMGSZ), Pillow.Resampling.BICUBIC)
    tensor = ((np.asarray(rgb) / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]).transpose(2, 0, 1)[None].astype(np.float32)
    vector: Array = ReferenceEvaluator(image_model()).run(None, {"images": tensor})[0][0]
    unit: Array = vector / np.linalg.norm(vector)
    return unit


@pytest.mark.parametrize("kind", [0, 1])
def test_a_vector_is_of_the_garment_without_its_background(models: tuple[Path, Path], kind: int) -> None:
    image = photo()
    mask = np.zeros((80, 60), np.uint8)
    mask[20:50, 15:40] = np.random.default_rng(1).integers(0, 2, (30, 25))
    crop, box = Crop(mask[20:50, 15:40], 15, 20), np.array([[12.5, 18.0, 42.0, 52.5]], np.float32)
    found = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64), [crop], 80, 60)
    embedder = Embedder(models[kind], 1)
    [vector] = embedder.embed(image, found)
    np.testing.assert_allclose(vector, expected_vector(image, mask, box[0], 0.1), atol=1e-5)
    [of_box] = embedder.embed(image, Detections(box, found.scores, found.classes, None, 80, 60))
    np.testing.assert_allclose(of_box, expected_vector(image, None, box[0], 0.1), atol=1e-5)
    whole = np.array([0, 0, 60, 80], np.float32)
    np.testing.assert_allclose(embedder.embed_photo(image), expected_vector(image, None, whole, 0), atol=1e-5)
    assert np.abs(vector - of_box).max() > 0.01


@pytest.mark.parametrize("kind", [0, 1])
def test_a_garment_has_the_same_bits_alone_and_beside_others(models: tuple[Path, Path], kind: int) -> None:
    image, found = photo(), garments(AT_ONCE + 5)
    embedder = Embedder(models[kind], 2)
    together = embedder.embed(image, found)
    assert together.shape == (AT_ONCE + 5, DIMENSION)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    for index in (0, 3, AT_ONCE, AT_ONCE + 4):
        assert np.array_equal(embedder.embed(image, found.chosen(np.array([index])))[0], together[index])


@pytest.mark.parametrize("kind", [0, 1])
def test_from_many_threads_each_result_is_what_it_is_alone(models: tuple[Path, Path], kind: int) -> None:
    embedder = Embedder(models[kind], 2)
    photos = [(photo(seed=seed), garments(1 + seed % 5)) for seed in range(12)]
    expected = [(embedder.embed(*one), embedder.embed_photo(one[0])) for one in photos]

    def is_equal(number: int) -> bool:
        image, found = photos[number % 12]
        vectors, whole = expected[number % 12]
        return np.array_equal(embedder.embed(image, found), vectors) and np.array_equal(
            embedder.embed_photo(image), whole
        )

    with ThreadPoolExecutor(10) as pool:
        assert all(pool.map(is_equal, range(120)))


def test_what_is_small_or_empty_or_elsewhere_is_embedded(models: tuple[Path, Path]) -> None:
    embedder, image = Embedder(models[0], 1), photo()
    assert embedder.embed(image, garments(0)).shape == (0, DIMENSION)
    assert embedder.embed(image, annotations_to_detections([], [1], 80, 60)).shape == (0, DIMENSION)
    boxes = np.array([[5, 5, 6, 6], [5, 5, 5, 5], [50, 70, 60, 80], [10, 10, 40, 40]], np.float32)
    one = np.ones((1, 1), np.uint8)
    shapes: list[Any] = [
        Crop(one, 5, 5),
        Crop(one[:0], 0, 0),
        Crop(np.ones((30, 30), np.uint8), 40, 60),
        Crop(one, 55, 75),
    ]
    found = Detections(boxes, np.ones(4, np.float32), np.zeros(4, np.int64), shapes, 80, 60)
    vectors = embedder.embed(image, found)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_square_is_made_as_the_facts_say() -> None:
    image = photo(80, 60)
    square = image_to_square(image, embedder_facts(squaring="crop", imgsz=60))
    assert np.array_equal(square, image[10:70])
    square = image_to_square(image, embedder_facts(squaring="pad", imgsz=80))
    assert np.array_equal(square[:, 10:70], image)
    outside = [[round(255 * mean) for mean in (0.3, 0.4, 0.5)]]  # blue first
    assert np.array_equal(square[0, :1], outside)
    box, mask = np.array([[0, 0, 24, 24]], np.float32), np.zeros((24, 24), np.uint8)
    mask[4:9, 4:9] = 1
    found = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64), [Crop(mask, 0, 0)], 80, 60)
    square = garment_to_square(image, found, 0, embedder_facts(background="mean", margin=0.0))
    assert np.array_equal(square, np.where(mask[:, :, None] == 1, image[:24, :24], outside))


def test_a_vector_of_zeros_stays_one() -> None:
    assert with_length_1(np.array([[0, 0], [3, 4]], np.float32)).tolist() == [
        [0, 0],
        [np.float32(0.6), np.float32(0.8)],
    ]


def test_a_photo_of_too_many_pixels_is_refused(models: tuple[Path, Path], tmp_path: Path) -> None:
    Pillow.fromarray(photo()).save(tmp_path / "a.png")
    embedder = Embedder(models[0], 1, max_pixels=80 * 60 - 1)
    asks: list[Callable[[], Any]] = [
        lambda: embedder.embed_photo(tmp_path / "a.png"),
        lambda: embedder.embed(tmp_path / "a.png", garments(1)),
    ]
    for ask in asks:
        with pytest.raises(ImageError, match="at most 4,799 are read"):
            ask()


def test_a_photo_may_be_grey_deep_cmyk_or_turned(models: tuple[Path, Path], tmp_path: Path) -> None:
    embedder, grey = Embedder(models[0], 1), photo()[:, :, 0]
    Pillow.fromarray(grey).save(tmp_path / "grey.png")
    Pillow.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Pillow.fromarray(photo()).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    expected = embedder.embed(grey, garments(3))
    assert np.array_equal(embedder.embed(tmp_path / "grey.png", garments(3)), expected)
    np.testing.assert_allclose(embedder.embed(tmp_path / "deep.png", garments(3)), expected, atol=0.02)
    assert embedder.embed(tmp_path / "cmyk.jpg", garments(3)).shape == (3, DIMENSION)
    assert embedder.embed((tmp_path / "cmyk.jpg").read_bytes(), garments(3)).shape == (3, DIMENSION)
    header: Any = Pillow.new("RGB", (1, 1))
    exif = header.getexif()
    exif[0x0112] = 6
    Pillow.fromarray(photo()[:, :, ::-1]).save(tmp_path / "turned.png", exif=exif)
    turned = np.ascontiguousarray(np.rot90(photo(), -1))
    assert np.array_equal(embedder.embed_photo(tmp_path / "turned.png"), embedder.embed_photo(turned))


def test_what_cannot_be_is_one_sentence(models: tuple[Path, Path], untrained: Untrained, tmp_path: Path) -> None:
    embedder = Embedder(models[0], 1)
    with pytest.raises(SeamlineError, match="the photo has 60 x 80 px, and the garments were found in one of 61 x 80"):
        embedder.embed(photo(), garments(1, 80, 61))
    with pytest.raises(ImageError, match="absent\\.jpg: there is no such file"):
        embedder.embed_photo(tmp_path / "absent.jpg")
    with pytest.raises(SeamlineError, match="tiny has no text tower, so it cannot embed texts; take a model of CLIP"):
        embedder.embed_texts(["red dress"])
    for name in ("onnx", "openvino"):
        with pytest.raises(SeamlineError, match="is a detector, which finds garments; an embedder is asked for here"):
            Embedder(untrained.models()[name])
    for model in models:
        with pytest.raises(SeamlineError, match="is an embedder, which makes vectors of garments; a detector is asked"):
            open_engine(model, 1)
        with pytest.raises(SeamlineError, match="is an embedder"):
            Detector(model)
    wrong, _ = save_embedder(tmp_path / "wrong", imgsz=IMGSZ + 1)
    with pytest.raises(SeamlineError, match=r"says that it takes 25 px a side, and takes \(3, 24, 24\)"):
        Embedder(wrong)
    embedder.close()
    asks: list[Callable[[], Any]] = [
        lambda: embedder.embed_photo(photo()),
        lambda: embedder.embed(photo(), garments(1)),
    ]
    for ask in asks:
        with pytest.raises(SeamlineError, match="the embedder is closed; open the model again"):
            ask()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_is_refused(models: tuple[Path, Path]) -> None:
    script = """
import os, sys, numpy as np
from seamline.base.errors import SeamlineError
from seamline.inference.embedder import Embedder
embedder = Embedder(sys.argv[1], 2)
image = np.zeros((20, 20, 3), np.uint8)
embedder.embed_photo(image)
if os.fork() == 0:
    try:
        embedder.embed_photo(image)
    except SeamlineError as error:
        print(error, flush=True)
    embedder.close()
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]))
assert not {"torch", "ultralytics"} & set(sys.modules)
"""
    for model in models:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH + script, str(model)],
            cwd=PROJECT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert "a fork of it, which has none of its threads; open the model there" in done.stdout, done.stderr
        assert done.stdout.splitlines()[-1] == "3"


def test_texts_are_cleaned_as_big_vision_does() -> None:
    assert clean_text("  A_photo, of a T-Shirt!\n", "canonical") == "a photo of a tshirt"
    assert clean_text(" A,b ", "none") == " A,b "


def test_what_an_embedder_says_of_itself(models: tuple[Path, Path]) -> None:
    first, other = (Embedder(model, 1) for model in models)
    assert first.facts == other.facts == embedder_facts()
    assert first.identity == other.identity
    assert (first.precision, other.precision) == ("f32", "f32")
