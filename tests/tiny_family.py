"""A second family, as small as can be: bright squares in a grid of cells are found as boxes, red ones and blue ones.

Unlike YOLO in all that a family decides: images are stretched into the square, the input is BGR from -1 to 1, and there
are three outputs, without masks and with nothing left for NMS. It is what shows that engines, Detector and everything
above them work for any family. python -m tests.tiny_family STAGE ... starts a stage that knows it.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from seamline.base.process import run
from seamline.export.exporters import EXPORTERS
from seamline.images.reading import Image
from seamline.models.arrays import Canvas, Canvases, Floats, Outputs
from seamline.models.detections import Detections
from seamline.models.families import FAMILIES
from seamline.models.model_facts import Limits, ModelFacts, facts_to_metadata

NAMES = ["red", "blue"]
IMGSZ, CELLS = 32, 4
LICENCE = "Apache-2.0"
EXPORTED_BATCH: int | None = None
PREPROCESSING = "stretched into imgsz x imgsz; BGR, -1 to 1, NCHW"
FACTS = ModelFacts(NAMES, IMGSZ, 0.3, 0.7, 10, family="tiny", masks=False)


class Placement(NamedTuple):
    height: int
    width: int


def image_to_canvas(image: Image, facts: ModelFacts) -> tuple[Canvas, Placement]:
    """Stretched, whatever its shape."""
    size = (facts.imgsz, facts.imgsz)
    canvas = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    return np.asarray(canvas, np.uint8), Placement(*image.shape[:2])


def canvases_to_tensor(canvases: Canvases) -> Floats:
    return np.ascontiguousarray(((canvases.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2))


def add_openvino_steps(steps: Any) -> None:
    steps.mean(127.5).scale(127.5)


def limits_within(facts: ModelFacts, asked: Limits) -> Limits:
    return asked


def outputs_to_detections(outputs: Outputs, placement: Placement, facts: ModelFacts, limits: Limits) -> Detections:
    boxes, scores, classes = outputs
    best = np.argsort(-scores, kind="stable")[: limits.max_detections]
    best = best[scores[best] > limits.confidence]
    sides = np.array([placement.width, placement.height] * 2, np.float32)
    return Detections(
        (boxes[best] * sides).astype(np.float32),
        scores[best].astype(np.float32),
        classes[best].astype(np.int64),
        None,
        placement.height,
        placement.width,
    )


def load_module(path: Path, device: str) -> tuple[Any, ModelFacts]:
    import torch

    checkpoint = torch.load(path, weights_only=True, map_location=device)
    module = make_module()
    module.load_state_dict(checkpoint["weights"])
    return module.to(device), FACTS._replace(names=checkpoint["names"], imgsz=checkpoint["imgsz"])


def make_module() -> Any:
    """A convolution that knows red and blue, and a sigmoid: nothing to train."""
    import torch

    side = IMGSZ // CELLS

    class Cells(torch.nn.Module):
        boxes: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.cells = torch.nn.Conv2d(3, len(NAMES), side, stride=side)
            corners = [[x, y, x + 1, y + 1] for y in range(CELLS) for x in range(CELLS)]
            self.register_buffer("boxes", torch.tensor(corners, dtype=torch.float32)[None] / CELLS)
            assert self.cells.bias is not None
            with torch.no_grad():
                self.cells.weight.fill_(-6 / side**2)
                self.cells.weight[0, 2] = self.cells.weight[1, 0] = 8 / side**2  # B, G, R
                self.cells.bias.fill_(-12)

        def forward(self, tensor: Any) -> Any:
            scores, classes = self.cells(tensor).sigmoid().flatten(2).max(dim=1)
            return self.boxes.expand(scores.shape[0], -1, -1), scores, classes

    return Cells()


class Tiny(NamedTuple):
    weights: Path
    split: Path  # train.json, val.json, test.json
    images: Path
    exported: Path  # onnx/ and openvino/

    def models(self) -> dict[str, Path]:
        return {
            "pytorch": self.weights,
            "onnx": self.exported / "onnx" / "model.onnx",
            "openvino": self.exported / "openvino",
        }

    def photos(self) -> list[Path]:
        return sorted(self.images.iterdir())


def make_tiny(folder: Path) -> Tiny:
    """best.pt, ONNX and OpenVINO f32, and a split on which the model is good and not perfect."""
    tiny = Tiny(folder / "train" / "best.pt", folder / "split", folder / "yolo" / "images", folder / "export")
    write_split(tiny.split, tiny.images)
    write_models(tiny)
    return tiny


def write_models(tiny: Tiny) -> None:
    import openvino
    import torch

    models = tiny.models()
    for path in (models["pytorch"].parent, models["onnx"].parent, models["openvino"]):
        path.mkdir(parents=True)
    module = make_module()
    checkpoint = {"family": "tiny", "names": NAMES, "imgsz": IMGSZ, "weights": module.state_dict()}
    torch.save(checkpoint, models["pytorch"])
    weights_to_onnx(models["pytorch"], models["onnx"], 20, facts_to_metadata(FACTS))
    converted = openvino.convert_model(models["onnx"])
    for key, value in facts_to_metadata(FACTS).items():
        converted.set_rt_info(value, ["seamline", key])
    openvino.save_model(converted, models["openvino"] / "model.xml", compress_to_fp16=False)


def weights_to_onnx(weights: Path, out: Path, opset: int, metadata: Mapping[str, str]) -> None:
    import onnx
    import torch

    module, _ = load_module(weights, "cpu")
    names = ["boxes", "scores", "classes"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter itself, which is to be replaced one day
        torch.onnx.export(
            module.eval(),
            (torch.zeros(1, 3, IMGSZ, IMGSZ),),
            str(out),
            input_names=["image"],
            output_names=names,
            opset_version=opset,
            dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
            dynamo=False,
        )
    model = onnx.load(out)
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, out)


def ignored_operations(names: Sequence[str], rung: str) -> list[str]:
    """All but the convolution, of which the scores are made."""
    return [name for name in names if "Conv" not in name] if rung != "head in f32" else list(names)


def largest_differences(
    outputs: Sequence[Outputs], reference: Sequence[Outputs], facts: ModelFacts
) -> dict[str, float]:
    pairs = zip(outputs, reference, strict=True)
    return {"max_abs_score_difference": float(max(np.abs(ours[1] - theirs[1]).max() for ours, theirs in pairs))}


def write_split(split: Path, images: Path) -> None:
    """Photos of coloured squares, most of them as large as a cell; some are pale, some too small, some of no class."""
    rng = np.random.default_rng(0)
    split.mkdir(parents=True)
    images.mkdir(parents=True)
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    groups = {}
    for part, name in enumerate(("train", "val", "test")):
        records: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(part * 10 + 1, part * 10 + 11):
            cell = int(rng.integers(10, 20))
            photo = np.full((CELLS * cell, CELLS * (cell + 4), 3), 20, np.uint8)
            for place in rng.choice(CELLS**2, 3, replace=False):
                row, column = divmod(int(place), CELLS)
                kind = int(rng.integers(0, 3))  # the third is green, and nothing
                share = float(rng.choice([1, 1, 1, 0.8]))
                x, y, width, height = column * (cell + 4), row * cell, int(share * (cell + 4)), int(share * cell)
                photo[y : y + height, x : x + width, (2, 0, 1)[kind]] = rng.integers(150, 256)
                if kind < len(NAMES):
                    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": number,
                            "category_id": kind + 1,
                            "bbox": [x, y, width, height],
                            "area": width * height,
                            "segmentation": [polygon],
                            "iscrowd": 0,
                        }
                    )
            cv2.imwrite(str(images / f"{number:03d}.png"), photo)
            groups[str(number)] = number
            size = {"width": photo.shape[1], "height": photo.shape[0]}
            records.append({"id": number, "file_name": f"{number:03d}.png", **size})
        coco = {"images": records, "annotations": annotations, "categories": categories}
        (split / f"{name}.json").write_text(json.dumps(coco))
    (split / "groups.json").write_text(json.dumps(groups))


# In a process that a stage has started as well, which imports what the stage was started with.
if __name__ in ("__main__", "__mp_main__"):
    FAMILIES["tiny"] = EXPORTERS["tiny"] = sys.modules[__name__]

if __name__ == "__main__":
    run(importlib.import_module(f"stages.{sys.argv.pop(1)}").main)
