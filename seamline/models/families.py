"""Families of models: what the engines and Detector need to know of one, and the families there are.

A family is a module of this room with the functions below. Another one is such a module, a line in FAMILIES, and its
training and export in those rooms; Detector, evaluation and the benchmark stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from seamline.base.errors import SeamlineError
from seamline.images.reading import Image
from seamline.models import rcnn, yolo
from seamline.models.arrays import Canvas, Canvases, Floats, Outputs
from seamline.models.detections import Detections
from seamline.models.model_facts import YOLO, Limits, ModelFacts


class Family(Protocol):
    """From an image to the model's input, and from the model's outputs to detections."""

    LICENCE: str  # what the licence of the code that trained its models asks for
    EXPORTED_BATCH: int | None  # images a batch of an ONNX or OpenVINO model; None: any number

    def image_to_canvas(self, image: Image, facts: ModelFacts) -> tuple[Canvas, Any]:
        """The image fitted into the model's input, and its placement: how it lies there."""

    def canvases_to_tensor(self, canvases: Canvases) -> Floats:
        """What the model takes, as NCHW."""

    def add_openvino_steps(self, steps: Any) -> None:
        """The same for OpenVINO's preprocessing, where canvases are f32 and BGR already and become NCHW after it."""

    def outputs_to_detections(self, outputs: Outputs, placement: Any, facts: ModelFacts, limits: Limits) -> Detections:
        """Decode one image's raw outputs, of which nothing may be kept."""

    def limits_within(self, facts: ModelFacts, asked: Limits) -> Limits:
        """What is reported where this is asked for, as a network may leave out more by itself."""

    def load_module(self, path: Path, device: str) -> tuple[Any, ModelFacts]:
        """The torch module in a .pt file, which makes a tuple of outputs from a tensor; the batch is the first axis."""


class TensorFamily(Protocol):
    """The same in tensors, where they are: a second module of a family whose work a GPU can do as well."""

    def canvases_to_tensor(self, canvases: Any) -> Any:
        """What the model takes, as NCHW in f32, from a tensor of canvases in u8."""

    def convert_module(self, module: Any, dtype: Any) -> None:
        """Have the torch module compute in a kind of numbers, where these do not do harm."""

    def outputs_to_detections(
        self, outputs: Sequence[Any], placements: Sequence[Any], facts: ModelFacts, limits: Limits
    ) -> list[Detections]:
        """Decode a batch's raw outputs."""


FAMILIES: dict[str, Family] = {YOLO: yolo, rcnn.RCNN: rcnn}


def family_of(name: str, path: Path) -> Family:
    """Raises SeamlineError, naming the model file, for a family that there is not."""
    if name not in FAMILIES:
        raise SeamlineError(
            f"{path}: is a model of the family {name!r}; this version of Seamline opens {', '.join(FAMILIES)}."
        )
    return FAMILIES[name]
