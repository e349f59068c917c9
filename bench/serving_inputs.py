"""What the load test sends and serves: photos of 550x830 made from the sample, and INT8 models of any input size."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from bench.gpu_data import SAMPLE, photos_with_instances
from seamline.base.files import read_json, sha256_of, whole_folder, write_json
from seamline.export.exporters import exporter_of
from seamline.export.int8 import quantise
from seamline.export.metadata import model_metadata
from seamline.export.openvino import onnx_to_openvino
from seamline.export.quantising import FULL
from seamline.images.reading import ImageError, read_image
from seamline.inference.detector import Detector
from seamline.models.engines.opening import open_engine

SIZE = (550, 830)  # width and height of a photo of the street
GRAIN = 5  # standard deviation; a photo has some, and an enlarged picture would be a small file without it
QUALITY = 88
CALIBRATION = 32
OPSET = 20
INSTANCES = 3  # a photo, on average: weights trained at one size find much that is not there at another


class Model(NamedTuple):
    """An INT8 model, and the confidence at which it finds INSTANCES a photo."""

    path: Path
    confidence: float
    names: list[str]


def make_photos(folder: Path, count: int) -> list[Path]:
    """JPEG files of 50 to 100 KB, the same ones each time; kept if they are there."""
    if not folder.exists():
        random = np.random.default_rng(0)
        with zipfile.ZipFile(SAMPLE) as archive, whole_folder(folder) as target:
            coco = json.loads(archive.read("annotations.json"))
            for number, (image, _) in enumerate(photos_with_instances(coco)[:count], 1):
                name = Path(image["file_name"]).name
                picture = read_image(archive.read(f"images/{name}"), name)
                large = cv2.resize(picture, SIZE, interpolation=cv2.INTER_CUBIC)
                grainy = np.clip(large + random.normal(0, GRAIN, large.shape), 0, 255).astype(np.uint8)
                cv2.imwrite(str(target / f"{number:02}.jpg"), grainy, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return sorted(folder.iterdir())


def make_int8(weights: Path, imgsz: int, folder: Path, photos: list[Path]) -> Model:
    """best.pt as an INT8 model for this input size, all layers quantised; kept while the weights are the same.

    For its time alone: what it finds is not held to anything.
    """
    out, sha256 = folder / f"int8-{imgsz}", sha256_of(weights)
    made_of = out / "made.json"
    if made_of.exists() and (made := read_json(made_of))["weights"] == sha256:
        return Model(out, made["confidence"], made["names"])
    facts = open_engine(weights, 1).facts._replace(imgsz=imgsz)
    exporter = exporter_of(facts.family, weights)
    metadata = model_metadata(facts, exporter.PREPROCESSING, {}, sha256)
    f32 = folder / f"f32-{imgsz}"
    f32.mkdir(parents=True, exist_ok=True)
    exporter.weights_to_onnx(weights, f32 / "model.onnx", OPSET, metadata)
    onnx_to_openvino(f32 / "model.onnx", f32, metadata, "f32")
    with whole_folder(out) as new:
        quantise(f32, new, photos[:CALIBRATION], FULL, 1.0, lambda _: 0.0, [])
        confidence = confidence_for(new, photos)
        write_json(new / "made.json", {"weights": sha256, "confidence": confidence, "names": facts.names})
    return Model(out, confidence, facts.names)


def confidence_for(model: Path, photos: list[Path]) -> float:
    """The confidence from which a photo has INSTANCES instances on average; the model's own where it finds fewer."""
    scores: list[float] = []
    with Detector(model) as detector:
        lowest = detector.confidence
        for found in detector.detect_all(photos):
            if isinstance(found, ImageError):
                raise found
            scores += found.scores.tolist()
    wanted = INSTANCES * len(photos)
    return max(lowest, sorted(scores, reverse=True)[wanted]) if len(scores) > wanted else lowest
