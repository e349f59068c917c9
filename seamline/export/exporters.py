"""Exporters: what the export stage needs to know of a family of models, and the families that can be exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from seamline.base.errors import SeamlineError
from seamline.export import rcnn, yolo
from seamline.models.arrays import Outputs
from seamline.models.families import FAMILIES
from seamline.models.model_facts import YOLO, Limits, ModelFacts
from seamline.models.rcnn import RCNN


class Exporter(Protocol):
    """From a family's weights to ONNX, and what is special about its outputs."""

    PREPROCESSING: str  # how an image becomes the model's input, for people who read the metadata

    def weights_to_onnx(self, weights: Path, out: Path, opset: int, metadata: Mapping[str, str]) -> None:
        """Write an f32 ONNX file, a batch as the family has it, with this metadata and no other, without dates."""

    def ignored_operations(self, names: Sequence[str], rung: str) -> list[str]:
        """Which operations of the converted model have to stay in f32 on a rung of int8.RUNGS."""

    def largest_differences(
        self, outputs: Sequence[Outputs], reference: Sequence[Outputs], facts: ModelFacts
    ) -> dict[str, float]:
        """Largest absolute differences between the raw outputs of two models for the same images."""


EXPORTERS: dict[str, Exporter] = {YOLO: yolo, RCNN: rcnn}


def exporter_of(family: str, path: Path) -> Exporter:
    """Raises SeamlineError, naming the weights, for a family that cannot be exported."""
    if family not in EXPORTERS:
        raise SeamlineError(
            f"{path}: is a model of the family {family!r}; this version of Seamline exports {', '.join(EXPORTERS)}."
        )
    return EXPORTERS[family]


def exported_facts(facts: ModelFacts, asked: Limits) -> ModelFacts:
    """Those of the weights, with the limits that an exported model goes by unless its caller sets others."""
    return facts._replace(**FAMILIES[facts.family].limits_within(facts, asked)._asdict())
