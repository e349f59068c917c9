"""The runtime held to independent references: ultralytics, torchvision, and its engines to each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision  # type: ignore[import-untyped]
from ultralytics import YOLO
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops

from seamline.errors import SeamlineError
from seamline.masks import mask_iou
from seamline.runtime.engines import open_engine
from seamline.runtime.images import image_to_tensor, letterbox_of, read_image
from seamline.runtime.instances import boxes_to_image, decode_masks, non_maximum_suppression, outputs_to_instances
from seamline.runtime.predictor import Predictor
from tests.untrained import IMGSZ, NAMES, PROJECT, Untrained, rounding_of_scores

SIZES = [(240, 320), (320, 240), (257, 123), (96, 96), (40, 31), (1000, 7), (333, 500)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_tensor_is_ultralytics_letterbox(height: int, width: int) -> None:
    image = np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    tensor, _ = image_to_tensor(image, IMGSZ)
    expected = LetterBox((IMGSZ, IMGSZ), auto=False)(image=image)[:, :, ::-1].transpose(2, 0, 1)[None]
    np.testing.assert_array_equal(np.round(tensor * 255).astype(np.uint8), expected)
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
    ours = decode_masks(coefficients, prototypes, boxes, letterbox, IMGSZ)
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
    assert non_maximum_suppression(corners, scores, classes, iou).tolist() == expected


def test_nothing_found_is_no_instance() -> None:
    predictions, prototypes = np.zeros((4 + 2 + 32, 10), np.float32), np.zeros((32, 24, 24), np.float32)
    instances = outputs_to_instances(predictions, prototypes, letterbox_of(50, 60, IMGSZ), IMGSZ, 2, 0.25, 0.7, 100)
    assert instances.boxes.shape == (0, 4)
    assert instances.masks == []
    assert instances.to_coco(1, [1, 2]) == []


def test_predictor_finds_what_ultralytics_finds(untrained: Untrained) -> None:
    """Boxes, scores and classes the same; masks at a mean IoU of 0.97.

    Random prototypes change from cell to cell, where enlarging in one step or in two makes the most of a difference;
    a trained model's masks had a mean IoU of 0.999 and a lowest one of 0.994.
    """
    confidence = 0.05
    predictor = Predictor(untrained.weights, confidence, 0.7, 100)
    reference = YOLO(str(untrained.weights), task="segment")
    ious: list[float] = []
    images = untrained.images()
    rounding = rounding_of_scores(untrained.weights, images)
    exact = [image for image, difference in zip(images, rounding, strict=True) if difference < 1e-5]
    assert len(exact) >= len(images) / 2
    for image in exact[:6]:
        ours = predictor.predict(image)
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
        assert (engine.names, engine.imgsz, engine.precision) == (NAMES, IMGSZ, "f32")
    for image in untrained.images()[:3]:
        tensor, _ = image_to_tensor(read_image(image), IMGSZ)
        predictions, prototypes = engines["pytorch"].infer(tensor)
        assert predictions.shape == (1, 4 + 2 + 32, 189)
        assert np.ptp(predictions[:, 4:6]) > 0.1, "the scores do not vary: this compares nothing"
        for name in ("onnx", "openvino"):
            others = engines[name].infer(tensor)
            np.testing.assert_allclose(others[0][:, :4], predictions[:, :4], atol=0.02)
            np.testing.assert_allclose(others[0][:, 4:6], predictions[:, 4:6], atol=1e-3)
            np.testing.assert_allclose(others[0][:, 6:], predictions[:, 6:], atol=2e-3)
            np.testing.assert_allclose(others[1], prototypes, atol=2e-3)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_deployed_engines_need_neither_torch_nor_ultralytics(untrained: Untrained, name: str) -> None:
    code = """
import sys
from pathlib import Path

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "ultralytics"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
from seamline.runtime.predictor import Predictor

print(len(Predictor(Path(sys.argv[1]), 0.05).predict(Path(sys.argv[2])).scores))
"""
    arguments = [str(untrained.models()[name]), str(untrained.images()[0])]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_errors_say_which_file(untrained: Untrained, tmp_path: Path) -> None:
    import openvino

    with pytest.raises(SeamlineError, match=r"absent\.onnx: there is no such model"):
        open_engine(tmp_path / "absent.onnx", 1)
    (tmp_path / "model.txt").touch()
    with pytest.raises(SeamlineError, match=r"model\.txt: is no model"):
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
