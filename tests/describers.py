"""Tiny models that describe garments: attributes that can be worked out by hand, and vectors; put together without
torch."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seamline.models.attribute_facts import AttributeFacts, attribute_facts_to_metadata
from seamline.models.embedder_facts import EmbedderFacts, facts_to_metadata
from seamline.verbs.catalogue import main as keep
from tests.tiny_encoder import DIMENSION, IMGSZ, image_model, model_of, save_encoder

ATTRIBUTES = {"colour": ["red", "blue"], "tone": ["dark", "bright"]}
NAMES = {"file": "filename", "columns": {"colour": "colour_code", "tone": "=tone"}}
CODES = {"colour": {"red": "0", "blue": "1"}, "tone": {"dark": "10", "bright": "11"}}
SURE = 0.7  # of the tone


class Models(NamedTuple):
    """All that a service may have, and the photos that are in its catalogue."""

    detector: Path
    attributes: Path
    embed: Path
    catalogue: Path
    photos: list[Path]

    def options(self) -> list[str]:
        """Of seamline serve."""
        paths = {"--attributes": self.attributes, "--embed": self.embed, "--catalogue": self.catalogue}
        return [word for name, path in paths.items() for word in (name, str(path))]


def make_models(folder: Path, detector: Path, photos: list[Path]) -> Models:
    """In an empty folder; every second photo is of brand a, the others of b."""
    embed, attributes = make_embedder(folder / "embedder"), make_classifier(folder / "attributes", 1.0)
    lines = ["file_name,brand", *(f"{path},{'ab'[number % 2]}" for number, path in enumerate(photos))]
    (folder / "photos.csv").write_text("\n".join(lines))
    words = ["--model", detector, "--embedder", embed, "--csv", folder / "photos.csv", "--attributes", attributes]
    with contextlib.chdir(folder):  # the project's params.yaml is not for tests
        keep([*map(str, ["add", folder / "catalogue", *words])])
    return Models(detector, attributes, embed, folder / "catalogue", photos)


def make_classifier(folder: Path, steepness: float = 12.0, classes: list[str] | None = None) -> Path:
    """What is red has more red than blue, and what is bright is above a quarter of white; as an OpenVINO folder."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {
        "layer": steepness * np.array([[1, -1, -1, 1], [0, 0, -1, 1], [-1, 1, -1, 1]]),
        "bias": steepness * np.array([0, 0, 0.75, -0.75]),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "layer"], ["weighed"], name="layer"),
        helper.make_node("Add", ["weighed", "bias"], ["embedding"], name="bias"),
    ]
    facts = AttributeFacts(
        attributes=ATTRIBUTES,
        imgsz=IMGSZ,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        margin=0.0,
        background="keep",
        backbone="tiny",
        licence="none",
        training_revision="a",
        data_sha256="b",
        temperatures=dict.fromkeys(ATTRIBUTES, 1.0),
        thresholds={"colour": None, "tone": SURE},
        names={**NAMES, "codes": CODES},
        classes=classes,
    )
    metadata = attribute_facts_to_metadata(facts)
    shape, made = [1, 3, IMGSZ, IMGSZ], [1, 4]
    model = model_of(nodes, weights, ("images", TensorProto.FLOAT, shape), made, numpy_helper, metadata)
    return save_encoder(model, folder)[1].parent


def make_embedder(folder: Path, revision: str = "a") -> Path:
    """As an OpenVINO folder; one of another revision is another embedder."""
    facts = EmbedderFacts(
        name="tiny",
        revision=revision,
        weights_sha256=revision * 64,
        licence="none",
        dimension=DIMENSION,
        imgsz=IMGSZ,
        squaring="squash",
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        margin=0.1,
        background="white",
    )
    metadata: dict[str, Any] = {**facts_to_metadata(facts)}
    return save_encoder(image_model(**metadata), folder)[1].parent
