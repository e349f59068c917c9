"""R-CNNs through the detector: in every format what torchvision finds, where nothing is found and in batches too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from seamline.images.reading import Image, read_image
from seamline.inference.detector import Detector
from seamline.masks.rle import mask_iou
from seamline.models.canvases import canvases_to_tensor
from seamline.models.detections import Detections
from seamline.models.engines.device import onnx_on_device, weights_on_device
from seamline.models.letterbox import image_to_letterbox, letterbox_of
from seamline.models.rcnn_weights import load_network
from tests.conftest import PROJECT
from tests.untrained_rcnn import IMGSZ, NAMES, UntrainedRcnn

FORMATS = ("pytorch", "onnx", "openvino")
GREY = np.full((120, 90, 3), 114, np.uint8)
LEAST = 0.002


@pytest.fixture(params=["mask_rcnn", "faster_rcnn"])
def made(request: pytest.FixtureRequest) -> UntrainedRcnn:
    found: UntrainedRcnn = request.getfixturevalue(request.param)
    return found


def torchvisions(made: UntrainedRcnn, image: Image) -> dict[str, Any]:
    """What torchvision's own network finds on an image's canvas, in the image's pixels, pasted there."""
    network: Any = load_network(made.weights).network
    canvas, _ = image_to_letterbox(image, IMGSZ)
    raw: list[dict[str, torch.Tensor]] = []
    network.roi_heads.register_forward_hook(lambda _module, _inputs, output: raw.extend(map(dict, output[0])))
    with torch.inference_mode():
        [pasted] = network([torch.from_numpy(canvases_to_tensor(canvas[None]))[0]])
    height, width = image.shape[:2]
    own = letterbox_of(height, width, IMGSZ)
    gain = torch.tensor([own.scaled_width / width, own.scaled_height / height] * 2)
    boxes = (raw[0]["boxes"] - torch.tensor([own.left, own.top] * 2)) / gain
    found: dict[str, Any] = {"boxes": boxes.clip(min=0).minimum(torch.tensor([width, height] * 2)).numpy()}
    found |= {name: raw[0][name].numpy() for name in ("scores", "labels")}
    if made.architecture.has_masks:
        masks = torch.zeros(len(boxes), 1, height, width)
        shown = torch.from_numpy((found["boxes"][:, 2:] - found["boxes"][:, :2]).min(axis=1) > 1)
        masks[shown] = paste_masks_in_image(raw[0]["masks"][shown], boxes[shown], (height, width))
        if (height, width) == (IMGSZ, IMGSZ):
            assert torch.equal(masks[shown], pasted["masks"][shown])
        found["masks"] = (masks[:, 0] > 0.5).numpy().astype(np.uint8)
        found["shown"] = shown.numpy()  # torchvision fails to paste what lies in the border of the letterbox
    return found


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("square", [True, False])
def test_every_format_finds_what_torchvision_finds(made: UntrainedRcnn, name: str, square: bool) -> None:
    """Boxes within 0.01 px on the canvas and masks of IoU 0.99, of a canvas itself and of photos of any shape."""
    count = 0
    with Detector(made.models()[name], LEAST, 1.0, 1000, threads=1) as detector:
        assert (detector.names, detector.imgsz, detector.has_masks) == (NAMES, IMGSZ, made.architecture.has_masks)
        for path in made.images()[:5]:
            image = read_image(path)
            image = (
                image_to_letterbox(image, IMGSZ)[0] if square else np.ascontiguousarray(image[: image.shape[0] // 2])
            )
            expected, found = torchvisions(made, image), detector.detect(image)
            certain = expected["scores"] > LEAST + 1e-4
            assert len(found) >= certain.sum()
            pixels = max(image.shape[:2]) / IMGSZ  # of the photo, in one of the canvas
            for index in np.flatnonzero(certain).tolist():
                same = closest(found, expected, index, pixels)
                if made.architecture.has_masks and expected["shown"][index]:
                    mask = expected["masks"][index]
                    assert mask_iou(found.mask(same), mask) >= 0.99 or found.mask(same).sum() == mask.sum() == 0
            count += int(certain.sum())
    assert count > 15


def closest(found: Detections, expected: dict[str, Any], index: int, pixels: float) -> int:
    """Which of ours is one of torchvision's."""
    away = np.abs(found.boxes - expected["boxes"][index]).max(axis=1)
    away[found.classes + 1 != expected["labels"][index]] = np.inf
    away[np.abs(found.scores - expected["scores"][index]) > 1e-3] = np.inf
    assert away.min() < 0.01 * pixels
    return int(away.argmin())


@pytest.mark.parametrize("name", FORMATS)
def test_a_photo_without_a_detection_comes_between_others(made: UntrainedRcnn, name: str) -> None:
    photos = [path for path in made.images() if len(found_by(made, "pytorch", path)) > 2][:2]
    with Detector(made.models()[name], LEAST, threads=1) as detector:
        counts = [len(detector.detect(source)) for source in (GREY, photos[0], GREY, photos[1], GREY, GREY)]
        nothing = detector.detect(GREY)
    assert [count > 0 for count in counts] == [False, True, False, True, False, False]
    assert (nothing.boxes.shape, nothing.shapes) == ((0, 4), [] if made.architecture.has_masks else None)
    assert nothing.to_coco(1, [1, 2]) == []


def found_by(made: UntrainedRcnn, name: str, source: Any, **settings: Any) -> Detections:
    with Detector(made.models()[name], LEAST, threads=1, **settings) as detector:
        return detector.detect(source)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("batch", [1, 4])
def test_batches_of_any_size(made: UntrainedRcnn, name: str, batch: int) -> None:
    """The files of ONNX and OpenVINO take one image at once, and the engine hands them one."""
    sources: list[Any] = [*made.images()[:5], GREY]
    with Detector(made.models()[name], LEAST, threads=2, batch=batch) as detector:
        for source, found in zip(sources, detector.detect_all(sources), strict=True):
            assert isinstance(found, Detections)
            alike(found, detector.detect(source))
            alike(found, detector.submit(source).result())


def alike(first: Detections, other: Detections) -> None:
    np.testing.assert_allclose(first.scores, other.scores, atol=1e-4)
    np.testing.assert_allclose(np.sort(first.boxes, axis=0), np.sort(other.boxes, axis=0), atol=0.02)


@pytest.mark.parametrize("name", ["pytorch", "onnx"])
def test_a_gpus_engine_finds_the_same(made: UntrainedRcnn, name: str) -> None:
    """On a CPU, which is how that engine is tested."""
    opened = weights_on_device if name == "pytorch" else onnx_on_device
    sources: list[Any] = [*made.images()[:3], GREY]
    with Detector(opened(made.models()[name], 1, "cpu"), LEAST, batch=4) as detector:
        for source, found in zip(sources, detector.detect_all(sources), strict=True):
            assert isinstance(found, Detections)
            alike(found, found_by(made, "pytorch", source))


def test_half_precision_keeps_boxes_in_f32(mask_rcnn: UntrainedRcnn) -> None:
    engine: Any = weights_on_device(mask_rcnn.weights, 1, "cpu", "bf16")
    assert engine.precision == "bf16"
    kinds = {name: value.dtype for name, value in engine.network.module.named_buffers()}
    assert {kind for name, kind in kinds.items() if name.startswith("anchors")} == {torch.float32}
    with Detector(engine, LEAST) as detector:
        assert sum(len(detector.detect(path)) for path in mask_rcnn.images()) > 5


def test_nothing_of_ultralytics_is_imported(mask_rcnn: UntrainedRcnn, tmp_path: Path) -> None:
    """Exported, opened and predicted with where ultralytics is not installed."""
    script = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ultralytics":
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocker())
from pathlib import Path
from seamline.export.exporters import EXPORTERS
from seamline.export.openvino import onnx_to_openvino
from seamline.inference.detector import Detector
from tests.untrained_rcnn import metadata_of, UntrainedRcnn

made = UntrainedRcnn(None, *map(Path, sys.argv[1:5]))
weights, image, out = made.weights, made.images()[2], Path(sys.argv[5])
with Detector(weights, {LEAST}, threads=1) as detector:
    expected = len(detector.detect(image))
metadata = {{"names": '["a", "b"]', "imgsz": "{IMGSZ}", "confidence": "{LEAST}", "nms_iou": "0.7",
            "max_detections": "100", "family": "rcnn"}}
EXPORTERS["rcnn"].weights_to_onnx(weights, out / "model.onnx", 20, metadata)
onnx_to_openvino(out / "model.onnx", out, metadata, "f32")
for path in (out / "model.onnx", out):
    with Detector(path, threads=1) as detector:
        assert len(detector.detect(image)) == expected > 0
assert not [name for name in sys.modules if name.startswith("ultralytics")]
"""
    arguments = [str(part) for part in (*mask_rcnn[1:], tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
