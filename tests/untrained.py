"""A model nobody trained, on a handful of the sample's images: enough to hold formats to each other."""

from __future__ import annotations

import copy
import functools
import json
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from seamline.base.files import sha256_of
from seamline.export.metadata import model_metadata
from seamline.export.openvino import onnx_to_openvino
from seamline.export.yolo import PREPROCESSING, weights_to_onnx
from seamline.images.reading import read_image
from seamline.masks.rle import mask_iou
from seamline.models.arrays import Canvases
from seamline.models.detections import Detections
from seamline.models.engines.engine import copied
from seamline.models.engines.pytorch import TorchEngine
from seamline.models.exported import model_paths
from seamline.models.letterbox import image_to_letterbox
from seamline.models.model_facts import ModelFacts
from seamline.models.yolo import canvases_to_tensor
from seamline.params.benchmark import Benchmark
from seamline.params.export import Export
from seamline.params.loading.loader import Params, load_params
from seamline.params.loading.types import Section
from tests.conftest import PARAMS, PROJECT, TINY

NAMES = ["short sleeve top", "trousers"]
IMGSZ = 96
IMAGES_A_SPLIT = 6

# The beginning of a script in which neither torch nor ultralytics can be imported.
WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "ultralytics"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""


class Untrained(NamedTuple):
    weights: Path
    split: Path  # train.json, val.json, test.json
    images_folder: Path
    exported: Path  # onnx/, openvino/ and, once the export stage ran, openvino_int8/

    def images(self) -> list[Path]:
        return sorted(self.images_folder.iterdir())

    def models(self) -> dict[str, Path]:
        return model_paths(self.weights, self.exported)


def make_untrained(folder: Path, description: Path = TINY) -> Untrained:
    """best.pt, ONNX and OpenVINO f32 of a model with random weights, and a small split."""
    untrained = Untrained(folder / "train" / "best.pt", folder / "split", folder / "images", folder / "export")
    write_split(untrained.split, untrained.images_folder)
    write_checkpoint(untrained.weights, untrained.images(), description)
    models = untrained.models()
    models["onnx"].parent.mkdir(parents=True)
    models["openvino"].mkdir()
    weights_to_onnx(untrained.weights, models["onnx"], 20, metadata_of(untrained))
    onnx_to_openvino(models["onnx"], models["openvino"], metadata_of(untrained), "f32")
    return untrained


def metadata_of(untrained: Untrained) -> dict[str, str]:
    training = {"training_revision": "0123456789abcdef", "data_sha256": "d" * 64}
    return model_metadata(ModelFacts(NAMES, IMGSZ, 0.2, 0.6, 50), PREPROCESSING, training, sha256_of(untrained.weights))


def canvas_of(image: Path) -> Canvases:
    """A batch of one."""
    return image_to_letterbox(read_image(image), IMGSZ)[0][None]


def write_split(split: Path, images: Path) -> None:
    """Three splits of images from the embedded sample that show one of the two classes."""
    images.mkdir(parents=True)
    split.mkdir(parents=True)
    with zipfile.ZipFile(PROJECT / "samples" / "garments.zip") as archive:
        coco: dict[str, Any] = json.loads(archive.read("annotations.json"))
        categories = [category for category in coco["categories"] if category["name"] in NAMES]
        wanted = {category["id"] for category in categories}
        annotations = [record for record in coco["annotations"] if record["category_id"] in wanted]
        shown = {record["image_id"] for record in annotations}
        chosen = [record for record in coco["images"] if record["id"] in shown][: 3 * IMAGES_A_SPLIT]
        groups = {str(record["id"]): index for index, record in enumerate(chosen)}
        (split / "groups.json").write_text(json.dumps(groups))
        for index, name in enumerate(("train", "val", "test")):
            own = chosen[index::3]
            ids = {record["id"] for record in own}
            for record in own:
                (images / record["file_name"]).write_bytes(archive.read(f"images/{record['file_name']}"))
            own_annotations = [record for record in annotations if record["image_id"] in ids]
            text = json.dumps({"images": own, "annotations": own_annotations, "categories": categories})
            (split / f"{name}.json").write_text(text)


def write_checkpoint(path: Path, images: list[Path], description: Path) -> None:
    """best.pt as the trainer writes it: f16 weights in `ema`, the arguments in `train_args`.

    Normalisation statistics come from the images and the scores are spread, so that outputs vary as they do after
    training; an untouched model says nearly the same everywhere.
    """
    import torch
    from ultralytics.nn.tasks import SegmentationModel

    torch.manual_seed(0)
    model = SegmentationModel(str(description), ch=3, nc=len(NAMES), verbose=False)
    model.names = dict(enumerate(NAMES))
    model.args = {"imgsz": IMGSZ, "task": "segment"}
    batch = torch.from_numpy(canvases_to_tensor(np.concatenate([canvas_of(image) for image in images])))
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        model(batch)
        for branch in model.model[-1].cv3:
            branch[-1].weight *= 3
            branch[-1].bias.fill_(-2)
    checkpoint = {"epoch": -1, "model": None, "ema": model.half().eval(), "train_args": model.args}
    path.parent.mkdir(parents=True)
    torch.save(checkpoint, path)


def rounding_of_scores(weights: Path, images: list[Path]) -> list[float]:
    """By how much PyTorch's own f32 scores differ from f64's on each image.

    2e-7 as a rule; but on some image random weights blow rounding up to 1e-3, whoever computes.
    """
    import torch

    engine = TorchEngine(weights, threads=1, streams=1)
    exact = copy.deepcopy(engine.model).double()
    differences = []
    for image in images:
        canvas = canvas_of(image)
        with torch.inference_mode():
            predictions, _ = exact(torch.from_numpy(canvases_to_tensor(canvas)).double())
        scores = slice(4, 4 + len(NAMES))
        differences.append(
            float(np.abs(engine.infer(canvas, copied)[0][:, scores] - predictions.numpy()[:, scores]).max())
        )
    return differences


def small_params() -> Params:
    """The project's parameters, with limits that an untrained model passes and little work."""
    params = load_params(PARAMS)
    replace = msgspec.structs.replace
    int8 = replace(params[Export].int8, calibration_images=4, max_drop=1.0)
    changed: dict[type[Section], Section] = {
        Export: replace(params[Export], min_matched=0.0, int8=int8),
        Benchmark: replace(params[Benchmark], threads=1, rounds=2, images=3, timeout_s=120),
    }
    return Params({**params.by_type, **changed})


def run_stage(monkeypatch: pytest.MonkeyPatch, main: Any, *arguments: Path | str) -> None:
    """Run a stage's main() in this process, with small_params()."""
    monkeypatch.setattr(sys, "argv", ["stage", *map(str, arguments)])
    monkeypatch.setitem(main.__globals__, "load_params", small_params)
    main()


@functools.cache
def steady_images(untrained: Untrained) -> list[Path]:
    """Those on which random weights do not blow the rounding of f32 up."""
    images = untrained.images()
    rounding = rounding_of_scores(untrained.weights, images)
    steady = [image for image, difference in zip(images, rounding, strict=True) if difference < 1e-5]
    assert len(steady) >= len(images) / 2
    return steady


def alike(first: Detections, other: Detections) -> None:
    np.testing.assert_allclose(first.scores, other.scores, atol=1e-4)
    np.testing.assert_array_equal(first.classes, other.classes)
    np.testing.assert_allclose(first.boxes, other.boxes, atol=0.05)
    for ours, theirs in zip(first.masks, other.masks, strict=True):
        assert mask_iou(ours, theirs) > 0.98
