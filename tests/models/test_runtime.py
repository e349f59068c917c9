"""The runtime held to independent references: ultralytics, torchvision, and its engines to each other."""

from __future__ import annotations

import functools
import gc
import io
import os
import subprocess
import sys
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import PIL.Image
import pytest
import torch
import torchvision  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from ultralytics import YOLO, nn
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops

from seamline.base.errors import SeamlineError
from seamline.base.parallel import usable_cores
from seamline.images.files import MAX_PIXELS
from seamline.images.reading import (
    ImageError,
    canvases_to_tensor,
    image_to_canvas,
    letterbox_of,
    read_image,
)
from seamline.inference.detector import Detector
from seamline.masks.rle import mask_iou
from seamline.models.engines import NO_MODEL, copied, open_engine, requests_of
from seamline.models.instances import (
    Crop,
    Instances,
    boxes_to_image,
    crop_to_polygon,
    decode_masks,
    non_maximum_suppression,
    outputs_to_instances,
    runs_to_crop,
    runs_to_rle,
    toggles_to_runs,
)
from tests.conftest import PROJECT
from tests.untrained import IMGSZ, NAMES, WITHOUT_TORCH, Untrained, canvas_of, rounding_of_scores

SIZES = [(240, 320), (320, 240), (257, 123), (96, 96), (40, 31), (1000, 7), (333, 500)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_tensor_is_ultralytics_letterbox(height: int, width: int) -> None:
    image = np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    canvas, _ = image_to_canvas(image, IMGSZ)
    expected = LetterBox((IMGSZ, IMGSZ), auto=False)(image=image)
    np.testing.assert_array_equal(canvas, expected)
    tensor = canvases_to_tensor(canvas[None])
    np.testing.assert_allclose(tensor, expected[:, :, ::-1].transpose(2, 0, 1)[None] / 255, atol=1e-7)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_boxes_return_to_the_image_as_with_ultralytics(height: int, width: int) -> None:
    corners = np.random.default_rng(0).uniform(-10, IMGSZ + 10, (50, 4)).astype(np.float32)
    expected = ops.scale_boxes((IMGSZ, IMGSZ), corners.copy(), (height, width))
    np.testing.assert_allclose(boxes_to_image(corners, letterbox_of(height, width, IMGSZ)), expected, atol=1e-3)


# Not where the content is narrower than a prototype's cell: there the runtime has nothing to interpolate between.
@pytest.mark.parametrize(("height", "width"), [(height, width) for height, width in SIZES if width > 10])
def test_masks_are_ultralytics_native_masks(height: int, width: int) -> None:
    """IoU 0.97 at least for every mask of some size: ultralytics enlarges in two steps, the runtime in one."""
    rng = np.random.default_rng(1)
    prototypes = np.stack([cv2.GaussianBlur(rng.normal(size=(24, 24)), (0, 0), 2) for _ in range(8)]).astype(np.float32)
    coefficients = rng.normal(size=(12, 8)).astype(np.float32)
    letterbox = letterbox_of(height, width, IMGSZ)
    low, high = rng.uniform(0, 0.4, (12, 2)), rng.uniform(0.6, 1, (12, 2))
    boxes = (np.concatenate((low, high), axis=1) * [width, height, width, height]).astype(np.float32)
    runs = decode_masks(coefficients, prototypes, boxes, letterbox, IMGSZ)
    ours = Instances(boxes, boxes[:, 0], np.zeros(12, np.int64), runs, height, width).masks
    theirs = ops.process_mask_native(
        *(torch.from_numpy(part) for part in (prototypes, coefficients, boxes)), (height, width)
    )
    for our, their in zip(ours, theirs.numpy(), strict=True):
        assert our.shape == (height, width)
        different = np.count_nonzero(our != their)
        assert mask_iou(our, their) > 0.97 or different <= 0.01 * height * width


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_nms_is_torchvisions(iou: float) -> None:
    rng = np.random.default_rng(2)
    centres, sides = rng.uniform(-20, 120, (300, 2)), rng.uniform(5, 80, (300, 2))
    corners = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1).astype(np.float32)
    scores = rng.permutation(np.linspace(0.01, 0.99, 300)).astype(np.float32)
    classes = rng.integers(0, 3, 300)
    expected = [
        int(members[index])
        for number in range(3)
        for members in [np.flatnonzero(classes == number)]
        for index in torchvision.ops.nms(torch.from_numpy(corners[members]), torch.from_numpy(scores[members]), iou)
    ]
    expected.sort(key=lambda index: -scores[index])
    assert non_maximum_suppression(corners, scores, classes, iou, 300).tolist() == expected


def test_nothing_found_is_no_instance() -> None:
    predictions, prototypes = np.zeros((4 + 2 + 32, 10), np.float32), np.zeros((32, 24, 24), np.float32)
    instances = outputs_to_instances(predictions, prototypes, letterbox_of(50, 60, IMGSZ), IMGSZ, 2, 0.25, 0.7, 100)
    assert instances.boxes.shape == (0, 4)
    assert instances.masks == []
    assert instances.to_coco(1, [1, 2]) == []


@functools.cache
def steady_images(untrained: Untrained) -> list[Path]:
    """Those on which random weights do not blow the rounding of f32 up."""
    images = untrained.images()
    rounding = rounding_of_scores(untrained.weights, images)
    steady = [image for image, difference in zip(images, rounding, strict=True) if difference < 1e-5]
    assert len(steady) >= len(images) / 2
    return steady


def test_detector_finds_what_ultralytics_finds(untrained: Untrained) -> None:
    """Boxes, scores and classes the same; masks at a mean IoU of 0.97.

    Random prototypes change from cell to cell, where enlarging in one step or in two makes the most of a difference;
    a trained model's masks had a mean IoU of 0.999 and a lowest one of 0.994.
    """
    confidence = 0.05
    detector = Detector(untrained.weights, confidence, 0.7, 100)
    reference = YOLO(str(untrained.weights), task="segment")
    ious: list[float] = []
    for image in steady_images(untrained)[:6]:
        ours = detector.detect(image)
        [theirs] = reference.predict(
            str(image), imgsz=IMGSZ, rect=False, conf=confidence, iou=0.7, max_det=100, retina_masks=True, verbose=False
        )
        assert len(ours.scores) == len(theirs.boxes)
        np.testing.assert_allclose(ours.scores, theirs.boxes.conf.numpy(), atol=1e-4)
        np.testing.assert_array_equal(ours.classes, theirs.boxes.cls.numpy())
        np.testing.assert_allclose(ours.boxes, theirs.boxes.xyxy.numpy(), atol=0.05)
        ious += [
            mask_iou(our, their.astype(np.uint8))
            for our, their in zip(ours.masks, theirs.masks.data.numpy(), strict=True)
        ]
    assert len(ious) > 20
    assert np.mean(ious) > 0.97


def test_engines_agree_on_raw_outputs(untrained: Untrained) -> None:
    models = untrained.models()
    engines = {name: open_engine(models[name], 1) for name in ("pytorch", "onnx", "openvino")}
    for engine in engines.values():
        assert (engine.facts.names, engine.facts.imgsz, engine.precision) == (NAMES, IMGSZ, "f32")
    for image in untrained.images()[:3]:
        canvas = canvas_of(image)
        predictions, prototypes = engines["pytorch"].infer(canvas, copied)
        assert predictions.shape == (1, 4 + 2 + 32, 189)
        assert np.ptp(predictions[:, 4:6]) > 0.1, "the scores do not vary: this compares nothing"
        for name in ("onnx", "openvino"):
            others = engines[name].infer(canvas, copied)
            np.testing.assert_allclose(others[0][:, :4], predictions[:, :4], atol=0.02)
            np.testing.assert_allclose(others[0][:, 4:6], predictions[:, 4:6], atol=1e-3)
            np.testing.assert_allclose(others[0][:, 6:], predictions[:, 6:], atol=2e-3)
            np.testing.assert_allclose(others[1], prototypes, atol=2e-3)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_deployed_engines_need_neither_torch_nor_ultralytics(untrained: Untrained, name: str) -> None:
    code = """
from pathlib import Path
from seamline.inference.detector import Detector

print(len(Detector(Path(sys.argv[1]), 0.05).detect(Path(sys.argv[2])).scores))
"""
    arguments = [str(untrained.models()[name]), str(untrained.images()[0])]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code, *arguments], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_errors_say_which_file(untrained: Untrained, tmp_path: Path) -> None:
    import openvino

    with pytest.raises(SeamlineError, match=r"absent\.onnx: there is no such model"):
        open_engine(tmp_path / "absent.onnx", 1)
    (tmp_path / "model.txt").touch()
    with pytest.raises(SeamlineError, match=r"model\.txt: is not a model"):
        open_engine(tmp_path / "model.txt", 1)
    for name in ("model.onnx", "model.pt"):
        (tmp_path / name).write_bytes(b"damaged")
        with pytest.raises(SeamlineError, match=rf"{name}: cannot be opened as a model"):
            open_engine(tmp_path / name, 1)
    bare = openvino.convert_model(untrained.models()["onnx"])
    (tmp_path / "bare").mkdir()
    openvino.save_model(bare, tmp_path / "bare" / "model.xml")
    with pytest.raises(SeamlineError, match=r"bare: has no Seamline metadata"):
        open_engine(tmp_path / "bare", 1)
    (tmp_path / "image.jpg").write_bytes(b"no image")
    with pytest.raises(SeamlineError, match=r"image\.jpg: is not an image"):
        read_image(tmp_path / "image.jpg")


def mask_to_runs(mask: npt.NDArray[np.uint8], left: int, top: int, height: int) -> npt.NDArray[np.int64]:
    """Runs from changes in each column, in no order, as the runtime finds them."""
    padded = np.pad(mask, ((1, 1), (0, 0))).astype(np.int8)
    row, column = np.nonzero(np.diff(padded, axis=0))
    return toggles_to_runs((left + column) * height + top + row)


small_masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


@given(small_masks, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_runs_of_a_crop_are_pycocotools_rle_of_the_whole_mask(
    mask: npt.NDArray[np.uint8], left: int, top: int, right: int, below: int
) -> None:
    height, width = top + mask.shape[0] + below, left + mask.shape[1] + right
    whole = np.zeros((height, width), np.uint8)
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    expected = coco_mask.encode(np.asfortranarray(whole))
    runs = mask_to_runs(mask, left, top, height)
    assert runs_to_rle(runs, height, width) == {"size": [height, width], "counts": expected["counts"].decode()}
    crop, first_column, first_row = runs_to_crop(runs, height)
    again = np.zeros_like(whole)
    again[first_row : first_row + crop.shape[0], first_column : first_column + crop.shape[1]] = crop
    np.testing.assert_array_equal(again, whole)


@given(small_masks.filter(lambda mask: bool(mask.any())))
def test_a_crop_is_no_larger_than_its_pixels_ask_for(mask: npt.NDArray[np.uint8]) -> None:
    crop, left, top = runs_to_crop(mask_to_runs(mask, 0, 0, len(mask)), len(mask))
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    np.testing.assert_array_equal(crop, mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    assert (left, top) == (columns[0], rows[0])


def test_no_mask_is_an_empty_rle_and_no_polygon() -> None:
    nothing = mask_to_runs(np.zeros((0, 0), np.uint8), 3, 4, 20)
    assert coco_mask.decode(runs_to_rle(nothing, 20, 10)).sum() == 0
    assert crop_to_polygon(runs_to_crop(nothing, 20)) == []


def test_a_polygon_gives_the_mask_back_hole_and_parts_included() -> None:
    """As pycocotools fills it: what is lost is what thinning may lose."""
    canvas = np.zeros((120, 100), np.uint8)
    cv2.ellipse(canvas, (50, 50), (40, 30), 20, 0, 360, 1, -1)
    cv2.circle(canvas, (50, 50), 12, 0, -1)
    cv2.rectangle(canvas, (10, 95), (30, 110), 1, -1)
    polygon = crop_to_polygon(Crop(canvas[5:115, 5:95], 25, 35))
    expected = np.zeros((200, 150), np.uint8)
    expected[35:145, 25:115] = canvas[5:115, 5:95]
    [rle] = coco_mask.frPyObjects([polygon], 200, 150)
    assert mask_iou(coco_mask.decode(rle), expected) > 0.98


def test_a_detector_asks_nothing_that_the_model_file_does_not_say(untrained: Untrained) -> None:
    for name in ("onnx", "openvino"):
        detector = Detector(untrained.models()[name])
        assert (detector.names, detector.imgsz) == (NAMES, IMGSZ)
        assert (detector.confidence, detector.nms_iou, detector.max_detections) == (0.2, 0.6, 50)
    assert Detector(untrained.models()["onnx"], 0.0).confidence == 0.0


def alike(first: Instances, other: Instances) -> None:
    np.testing.assert_allclose(first.scores, other.scores, atol=1e-4)
    np.testing.assert_array_equal(first.classes, other.classes)
    np.testing.assert_allclose(first.boxes, other.boxes, atol=0.05)
    for ours, theirs in zip(first.masks, other.masks, strict=True):
        assert mask_iou(ours, theirs) > 0.98


@pytest.mark.parametrize(("streams", "batch"), [(1, 1), (2, 1), (1, 3), (2, 4)])
@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_many_images_at_once_are_what_they_are_one_by_one(
    untrained: Untrained, name: str, streams: int, batch: int
) -> None:
    """In their order, whatever the batch, a last one that is not full included."""
    images = steady_images(untrained)[:7]
    detector = Detector(untrained.models()[name], 0.05, threads=2, streams=streams, batch=batch)
    assert detector.engine.streams == streams
    one_by_one = [detector.detect(image) for image in images]
    assert sum(len(found.scores) for found in one_by_one) > 10
    for found, expected in zip(detector.detect_all(images), one_by_one, strict=True):
        assert isinstance(found, Instances)
        alike(found, expected)
    assert list(detector.detect_all([])) == []


def test_a_source_is_a_path_bytes_or_an_array(untrained: Untrained) -> None:
    path = untrained.images()[0]
    detector = Detector(untrained.models()["openvino"], 0.05)
    expected = detector.detect(path)
    assert len(expected.scores) > 0
    for found in detector.detect_all([path.read_bytes(), read_image(path)]):
        assert isinstance(found, Instances)
        alike(found, expected)


@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_an_abandoned_stream_leaves_the_detector_as_it_was(untrained: Untrained, name: str) -> None:
    detector = Detector(untrained.models()[name], 0.05, threads=2)
    stream = detector.detect_all(untrained.images() * 3)
    first = next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert isinstance(first, Instances)
    again = next(detector.detect_all(untrained.images()))
    assert isinstance(again, Instances)
    alike(again, first)


def test_few_images_are_held_however_many_there_are(untrained: Untrained) -> None:
    taken = 0

    def sources() -> Iterator[Path]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield untrained.images()[0]

    stream = Detector(untrained.models()["onnx"], threads=2).detect_all(sources())
    for _ in range(5):
        next(stream)
    assert taken < 40


def a_picture(image_format: str, mode: str = "RGB", **options: Any) -> bytes:
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).convert(mode).save(data, image_format, **options)
    return data.getvalue()


def huge_png() -> bytes:
    """A PNG that says it has 40,000 x 40,000 pixels, with none of them in it."""

    def chunk(content: bytes) -> bytes:
        return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")

    head = b"IHDR" + (40_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(head) + chunk(b"IDAT" + zlib.compress(b"")) + chunk(b"IEND")


FRAMES = [PIL.Image.new("RGB", (40, 40), (value, 0, 0)) for value in (0, 90, 180)]
ANIMATED = {"save_all": True, "append_images": FRAMES[1:]}
UNUSABLE = {
    "half.jpg": (a_picture("JPEG")[:-400], "is not an image that can be decoded; it is damaged, or"),
    "half.png": (a_picture("PNG")[:-400], "is not an image that can be decoded; it is damaged, or"),
    "half.webp": (a_picture("WEBP")[:-400], "is not an image that can be decoded; it is damaged, or"),
    "corrupt.jpg": (b"\xff\xd8\xff\xe0" + bytes(500), "is not an image that can be decoded"),
    "text.jpg": (
        b"<html>404</html>",
        "is not an image that can be decoded; it is damaged, or not in a format that is read (AVIF, BMP, GIF",
    ),
    "empty.jpg": (b"", "is empty"),
    "huge.png": (huge_png(), f"40000 x 40000 pixels; at most {MAX_PIXELS:,}|more pixels than the {MAX_PIXELS:,}"),
    "pixel.png": (cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes(), "has 1 x 1 pixels; a side needs"),
    "frames.gif": (b"GIF", ""),
    "frames.webp": (b"WEBP", "has 3 pictures"),
    "frames.png": (b"PNG", "has 3 pictures"),
    "pages.tif": (b"TIFF", "has 3 pictures"),
}


def test_images_that_cannot_be_used_are_named_and_the_rest_go_on(untrained: Untrained, tmp_path: Path) -> None:
    good = untrained.images()[0]
    sources: list[Path] = []
    for name, (data, _) in UNUSABLE.items():
        if data in (b"GIF", b"WEBP", b"PNG", b"TIFF"):
            FRAMES[0].save(tmp_path / name, data.decode(), **ANIMATED)
        else:
            (tmp_path / name).write_bytes(data)
        sources += [tmp_path / name, good]
    sources += [tmp_path / "absent.jpg", tmp_path, good]
    reasons = [reason for _, reason in UNUSABLE.values()] + ["there is no such file", "is not a file"]
    detector = Detector(untrained.models()["onnx"], 0.05, threads=2, batch=2)
    found = list(detector.detect_all(sources))
    assert len(found) == len(sources)
    expected = detector.detect(good)
    errors = []
    for source, one in zip(sources, found, strict=True):
        if source == good:
            assert isinstance(one, Instances)
            alike(one, expected)
        else:
            assert isinstance(one, ImageError), source
            assert str(one).startswith(f"{source}: ")
            errors.append(str(one))
    for error, reason in zip(errors, reasons, strict=True):
        assert any(part in error for part in reason.split("|")), (error, reason)


def test_unusable_bytes_and_arrays_are_named_by_their_place(untrained: Untrained) -> None:
    detector = Detector(untrained.models()["onnx"])
    sources: list[Any] = [b"no", np.zeros((50, 50, 2), np.uint8), np.zeros((50, 50, 3), np.float32)]
    first, second, third = map(str, detector.detect_all(sources))
    assert first.startswith("image 1: is not an image")
    assert second == (
        "image 2: is an array of uint8 and shape (50, 50, 2), which is not taken; it has to be of uint8 and "
        "(height, width, 3), blue first, or with 4 channels, or grey with 1 or none."
    )
    assert third.startswith("image 3: is an array of float32")


def test_cmyk_greyscale_16_bits_and_alpha_are_read_as_colour() -> None:
    for data in (a_picture("JPEG", "CMYK"), a_picture("PNG", "L"), a_picture("PNG", "RGBA"), a_picture("TIFF")):
        assert read_image(data).shape == (60, 80, 3)
    wide = cv2.imencode(".png", np.full((60, 80), 40_000, np.uint16))[1].tobytes()
    assert read_image(wide).mean() == pytest.approx(40_000 / 256, abs=1)
    # A CMYK picture is the same picture, as far as JPEG can tell.
    grey = PIL.Image.new("RGB", (80, 60), (200, 60, 60))
    cmyk = io.BytesIO()
    grey.convert("CMYK").save(cmyk, "JPEG", quality=95)
    np.testing.assert_allclose(read_image(cmyk.getvalue()).mean(axis=(0, 1)), (60, 60, 200), atol=4)


def test_what_cannot_be_run_is_said(untrained: Untrained) -> None:
    models = untrained.models()
    with pytest.raises(SeamlineError, match=r"precision 'int4' on 'cpu' was asked for; .* one of f32, bf16"):
        open_engine(models["openvino"], 1, precision="int4")
    with pytest.raises(SeamlineError, match="bf16 is for OpenVINO models only"):
        open_engine(models["onnx"], 1, precision="bf16")
    with pytest.raises(SeamlineError, match="cuda for all others"):
        open_engine(models["openvino"], 1, device="cuda")
    if not torch.cuda.is_available():
        with pytest.raises(SeamlineError, match=r"best\.pt: device cuda was asked for, and torch .* sees no GPU"):
            open_engine(models["pytorch"], 1, device="cuda")
        with pytest.raises(SeamlineError, match=r"device cuda was asked for, and onnxruntime .* is built without it"):
            open_engine(models["onnx"], 1, device="cuda")


THREADS = """
import sys, threading, os
from pathlib import Path
from seamline.inference.detector import Detector
path, threads, image = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
detector = Detector(path, threads=threads)
for _ in range(3):
    detector.detect(image)
import time
wall, cpu = time.perf_counter(), time.process_time()
while time.perf_counter() - wall < 1.5:
    detector.detect(image)
one = (time.process_time() - cpu) / (time.perf_counter() - wall)
wall, cpu = time.perf_counter(), time.process_time()
while time.perf_counter() - wall < 1.5:
    list(detector.detect_all([image] * 20))
print(one, (time.process_time() - cpu) / (time.perf_counter() - wall))
"""


@pytest.mark.skipif(usable_cores() < 2, reason="one core is all there is")
@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_one_thread_is_one_core_of_work(untrained: Untrained, name: str) -> None:
    """Processor time over wall time; decoding images and masks is the rest of the many-at-once one."""
    arguments = [str(untrained.models()[name]), "1", str(untrained.images()[0])]
    done = subprocess.run([sys.executable, "-c", THREADS, *arguments], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, many = map(float, done.stdout.split())
    assert one < 1.15
    assert many < 1.6


LEAVE = """
import sys
from pathlib import Path
from seamline.inference.detector import Detector
stream = Detector(Path(sys.argv[1]), threads=2).detect_all([Path(sys.argv[2])] * 30)
print(len([next(stream) for _ in range(int(sys.argv[3]))]))
"""


@pytest.mark.parametrize("taken", [2, pytest.param(30, marks=pytest.mark.thorough)])
def test_python_can_end_at_any_moment_of_a_stream(untrained: Untrained, taken: int) -> None:
    """Of ten processes that ended right after their last image, OpenVINO's callbacks aborted three to seven."""
    arguments = [str(untrained.models()["openvino"]), str(untrained.images()[0]), str(taken)]
    for _ in range(6):
        done = subprocess.run([sys.executable, "-c", LEAVE, *arguments], cwd=PROJECT, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{taken}\n"), done.stderr


def test_a_detector_that_is_not_used_any_more_is_gone(untrained: Untrained) -> None:
    """OpenVINO's requests keep what they were given last, out of sight of Python's collector."""
    for name in ("pytorch", "onnx", "openvino"):
        detector = Detector(untrained.models()[name], threads=2)
        assert len(list(detector.detect_all(untrained.images()))) == len(untrained.images())
        gone = weakref.ref(detector)
        del detector
        gc.collect()
        assert gone() is None, name


def test_an_inference_that_fails_is_an_error_and_no_endless_wait(
    untrained: Untrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that cannot reshape what it finds in the image; the requests are free again afterwards."""
    from openvino import Model, opset13

    engine: Any = open_engine(untrained.models()["openvino"], 1, streams=1)
    given = opset13.parameter([1, IMGSZ, IMGSZ, 3], np.uint8)
    found = opset13.non_zero(given, "i64")
    impossible = opset13.reshape(found, opset13.constant(np.array([7, 11, 13])), False)
    broken = engine.core.compile_model(Model([impossible], [given], "broken"), "CPU")
    monkeypatch.setitem(engine.__dict__, "_beside", (broken, requests_of(broken, 2)))
    for _ in range(4):
        with pytest.raises(RuntimeError):
            engine.infer_beside(np.ones((1, IMGSZ, IMGSZ, 3), np.uint8), copied)


def test_paths_may_be_text(untrained: Untrained) -> None:
    image = untrained.images()[0]
    alike(
        Detector(str(untrained.models()["onnx"]), 0.05).detect(str(image)),
        Detector(untrained.models()["onnx"], 0.05).detect(image),
    )
    with pytest.raises(ImageError, match=r"absent\.jpg: there is no such file"):
        read_image("absent.jpg")


FIRST = """
import sys, time
start = time.perf_counter()
from seamline.inference.detector import Detector
Detector(sys.argv[1]).detect(sys.argv[2])
seconds = time.perf_counter() - start
from seamline.benchmark.machine import peak_rss_mb
print(seconds, peak_rss_mb())
"""


# The least that any program does for it.
OPENVINO_ALONE = """
import sys, time
start = time.perf_counter()
import numpy, cv2, openvino
cv2.imread(sys.argv[2])
core = openvino.Core()
model = core.compile_model(core.read_model(sys.argv[1] + "/model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
model(numpy.zeros(list(model.inputs[0].shape), model.inputs[0].element_type.to_dtype()))
print(time.perf_counter() - start, 0)
"""


def test_the_first_image_takes_less_than_a_second_and_400_mb(untrained: Untrained) -> None:
    """From nothing imported, in turns; the best of up to twelve, as other things may be running.

    On a machine where OpenVINO alone takes that long, hardly longer than that.
    """
    arguments = [str(untrained.models()["openvino"]), str(untrained.images()[0])]
    runs: dict[str, list[tuple[float, ...]]] = {FIRST: [], OPENVINO_ALONE: []}
    for _ in range(12):
        for script, found in runs.items():
            command = [sys.executable, "-c", script, *arguments]
            done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            found.append(tuple(map(float, done.stdout.split())))
        seconds, alone = (min(run[0] for run in runs[script]) for script in (FIRST, OPENVINO_ALONE))
        if seconds < max(1.0, 1.4 * alone):
            break
    else:
        pytest.fail(f"{seconds:.2f} s; OpenVINO alone takes {alone:.2f} s")
    assert min(run[1] for run in runs[FIRST]) < 400


OPENED = {
    "ours": "from seamline.inference.detector import Detector; Detector(sys.argv[1])",
    "theirs": "import onnxruntime; onnxruntime.InferenceSession(sys.argv[1])",
}


@pytest.mark.parametrize("whose", OPENED)
def test_onnxruntime_reports_nothing(untrained: Untrained, tmp_path: Path, whose: str) -> None:
    """Left alone it keeps a device's id in the home and sends what it runs; it is quiet by itself where CI is set."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "CI", "XDG_"))}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", f"import sys; {OPENED[whose]}", str(untrained.models()["onnx"])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
    assert bool(made) == (whose == "theirs")


@pytest.mark.parametrize("chosen", ["", "theirs"])
def test_ultralytics_settings_are_where_its_user_wants_them_and_never_in_the_home(
    untrained: Untrained, tmp_path: Path, chosen: str
) -> None:
    """For a Detector in a process of somebody else's."""
    ours = ("YOLO_", "SEAMLINE_", "XDG_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    environment |= {"YOLO_CONFIG_DIR": str(tmp_path / chosen)} if chosen else {}
    command = [sys.executable, "-c", f"import sys; {OPENED['ours']}", str(untrained.weights)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ([chosen] if chosen else [])


IMPORTED = {
    "our engine": "from seamline.inference.detector import Detector; Detector(sys.argv[1])",
    "our environment": (
        "from seamline.base.process import quiet_environment; quiet_environment(); import nncf, openvino"
    ),
    "openvino alone": "import openvino",
    "nncf alone": "import nncf",
}


@pytest.mark.parametrize("how", IMPORTED)
def test_openvino_and_nncf_report_nothing(untrained: Untrained, tmp_path: Path, how: str) -> None:
    """Where the package is there that they report with, as it is where pip brought it; here a stand-in for it."""
    (tmp_path / "openvino_telemetry").mkdir()
    stand_in = "import pathlib; pathlib.Path('reports').touch(); raise ImportError"
    (tmp_path / "openvino_telemetry" / "__init__.py").write_text(stand_in)
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-c", f"import sys; {IMPORTED[how]}", str(untrained.models()["openvino"])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reports").exists() == how.endswith("alone")


def test_coco_records_are_boxes_by_width_and_the_masks_pixels() -> None:
    runs = mask_to_runs(np.array([[1, 0], [1, 1]], np.uint8), 3, 2, 6)
    boxes = np.array([[2.5, 2.0, 5.0, 4.25]], np.float32)
    found = Instances(boxes, np.array([0.5], np.float32), np.array([1]), [runs], 6, 8)
    [record] = found.to_coco(7, [10, 20])
    assert (record["image_id"], record["category_id"], record["score"]) == (7, 20, 0.5)
    assert record["bbox"] == [2.5, 2.0, 2.5, 2.25]
    expected = np.zeros((6, 8), np.uint8)
    expected[2:4, 3] = expected[3, 4] = 1
    np.testing.assert_array_equal(coco_mask.decode(record["segmentation"]), expected)


def dense_mask(logit: Any, box: Any, letterbox: Any, imgsz: int) -> tuple[Any, Any]:
    """The enlarged logits inside a box in f64, pixel by pixel, as the definition of bilinear enlargement has it."""
    stride = imgsz / logit.shape[0]

    def places(size: int, start: float, length: float, count: int) -> tuple[Any, Any, Any]:
        low, high = max(int(np.floor(start)), 0), min(int(np.ceil(start + length)), count) - 1
        at = np.clip(start + (np.arange(size) + 0.5) * length / size - 0.5, low, high)
        return np.floor(at).astype(int), np.minimum(np.floor(at).astype(int) + 1, high), at - np.floor(at)

    top, below, down = places(letterbox.height, letterbox.top / stride, letterbox.scaled_height / stride, len(logit))
    left, right, along = places(
        letterbox.width, letterbox.left / stride, letterbox.scaled_width / stride, logit.shape[1]
    )
    exact = logit.astype(np.float64)
    upper = exact[np.ix_(top, left)] * (1 - along) + exact[np.ix_(top, right)] * along
    lower = exact[np.ix_(below, left)] * (1 - along) + exact[np.ix_(below, right)] * along
    values = upper * (1 - down[:, None]) + lower * down[:, None]
    rows, columns = np.arange(letterbox.height)[:, None], np.arange(letterbox.width)
    inside = (rows >= box[1]) & (rows < box[3]) & (columns >= box[0]) & (columns < box[2])
    return (values > 0) & inside, np.abs(values)


@given(
    st.integers(10, 90),
    st.integers(10, 90),
    st.integers(1, 9),
    st.integers(0, 1000),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_a_mask_is_the_sign_of_every_pixels_own_value(
    height: int, width: int, cells: int, seed: int, corners: list[float]
) -> None:
    """Larger and smaller than its cells, of whatever box; where a value is 0 but for rounding either is right."""
    rng = np.random.default_rng(seed)
    imgsz = 8 * cells
    prototypes = rng.integers(-3, 4, (1, cells, cells)).astype(np.float32)  # whole numbers: many values are exactly 0
    x, y = sorted(corners[:2]), sorted(corners[2:])
    box = np.array([[x[0] * width, y[0] * height, x[1] * width, y[1] * height]], np.float32)
    letterbox = letterbox_of(height, width, imgsz)
    [runs] = decode_masks(np.ones((1, 1), np.float32), prototypes, box, letterbox, imgsz)
    found = Instances(box, box[:, 0], np.zeros(1, np.int64), [runs], height, width).mask(0)
    expected, values = dense_mask(prototypes[0], box[0], letterbox, imgsz)
    different = found.astype(bool) != expected
    assert not different[values > 1e-5].any()


@pytest.mark.parametrize("pixels_a_cell", [1, 2, 4])
def test_a_pixel_whose_value_is_exactly_zero_is_background(pixels_a_cell: int) -> None:
    """All weights are whole eighths, so that nothing is rounded: as many zeros come before a mask as behind one."""
    cells = 12
    side, box = cells * pixels_a_cell, np.array([[0, 0, cells * pixels_a_cell, cells * pixels_a_cell]], np.float32)
    letterbox = letterbox_of(side, side, 8 * cells)
    zeros = 0
    for seed in range(10):
        logits = np.random.default_rng(seed).integers(-3, 4, (1, cells, cells)).astype(np.float32)
        [runs] = decode_masks(np.ones((1, 1), np.float32), logits, box, letterbox, 8 * cells)
        found = Instances(box, box[:, 0], np.zeros(1, np.int64), [runs], side, side).mask(0)
        expected, values = dense_mask(logits[0], box[0], letterbox, 8 * cells)
        np.testing.assert_array_equal(found, expected)
        zeros += int(np.count_nonzero(values == 0))
    assert zeros > 100


def test_a_model_of_boxes_alone_and_one_that_was_refused_are_one_sentence(tmp_path: Path) -> None:
    YOLO("yolov8n.yaml", task="detect").save(tmp_path / "boxes.pt")
    with pytest.raises(SeamlineError, match=r"boxes\.pt: is a model of the task 'detect'; it has to be one of segm"):
        open_engine(tmp_path / "boxes.pt", 1)
    (tmp_path / NO_MODEL).write_text("INT8 costs too much.\n")
    with pytest.raises(SeamlineError, match=r"there is no model; INT8 costs too much\.$"):
        open_engine(tmp_path, 1)


def test_a_file_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (30, 20)).save(stream, "PNG")
    with pytest.raises(ImageError, match="has 30 x 20 pixels; at most 599 are read"):
        read_image(stream.getvalue(), max_pixels=599)
    assert read_image(stream.getvalue(), max_pixels=600).shape == (20, 30, 3)


def test_on_a_gpu_f32_is_f32_and_images_go_one_by_one(untrained: Untrained, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it can be seen without one: torch is told that there is one, and the model stays where it is."""
    loaded = nn.tasks.load_checkpoint
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nn.tasks, "load_checkpoint", lambda path, device, fuse: loaded(path, device="cpu", fuse=fuse))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    engine = open_engine(untrained.weights, 4, device="cuda")
    assert engine.streams == 1
    assert not torch.backends.cudnn.allow_tf32


def test_onnxruntime_that_falls_back_to_the_cpu_is_not_taken_for_a_gpu(
    untrained: Untrained, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(SeamlineError, match="onnxruntime runs it on CPUExecutionProvider and not on cuda"):
        open_engine(untrained.models()["onnx"], 1, device="cuda")
