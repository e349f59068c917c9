"""A model's predictions on val beside those of the weights in PyTorch, which every export is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pycocotools.coco import COCO

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import megabytes
from seamline.base.spacing import evenly_spaced
from seamline.evaluation.average_precision import average_precision, read_ground_truth
from seamline.evaluation.kinds import kinds_of, primary_kind
from seamline.export.drops import Gate
from seamline.export.exporters import exporter_of
from seamline.export.gates import check_drift, matched_share
from seamline.images.reading import read_image
from seamline.inference.detector import Detector
from seamline.inference.predictions import predict_split
from seamline.models.arrays import Outputs
from seamline.models.engines.engine import Engine, copied
from seamline.models.model_facts import Limits
from seamline.params.evaluate import IouThresholds
from seamline.params.export import Export

PARITY_IMAGES = 16  # val images whose raw outputs are compared


class Validation(NamedTuple):
    """On what models are compared, and how they are measured."""

    truth: COCO
    split_file: Path
    images: Path
    limits: Limits
    iou_thresholds: IouThresholds
    device: str = "cpu"  # of the weights; what is exported is measured where it is made for, on the CPU


class Measured(NamedTuple):
    """A model on val."""

    detector: Detector
    records: list[Record]  # COCO results
    average_precision: float  # mAP50-95, of masks where there are masks, else of boxes


class Reference(NamedTuple):
    """The weights in PyTorch on val: what every export is compared with."""

    measured: Measured
    images: list[Path]  # the few whose raw outputs are compared
    outputs: list[Outputs]
    validation: Validation


class Compared(NamedTuple):
    """A model on val beside the reference."""

    precision: str
    average_precision: float
    drop: float
    matched: float | None
    differences: dict[str, float]  # of raw outputs


def kind_of(detector: Detector) -> str:
    """What average precision is of: mask where the model finds masks, else box."""
    return primary_kind(kinds_of(detector.has_masks))


def figure_name(kind: str) -> str:
    """What mAP50-95 on val is called in reports/export.json."""
    return f"val_{kind}_mAP50_95"


def read_validation(
    split_file: Path, images: Path, limits: Limits, iou_thresholds: IouThresholds, device: str = "cpu"
) -> Validation:
    return Validation(read_ground_truth(split_file), split_file, images, limits, iou_thresholds, device)


def measure(model: Path | Engine, validation: Validation) -> Measured:
    """Predict val, and measure it.

    Raises:
        SeamlineError: when the split has no instances, or the model's classes are others.
    """
    is_weights = isinstance(model, Path) and model.suffix == ".pt"
    limits = validation.limits
    detector = Detector(model, *limits, device=validation.device) if is_weights else Detector(model, *limits)
    records = predict_split(detector, validation.split_file, validation.images, "val")
    figures = average_precision(validation.truth, records, kind_of(detector), validation.iou_thresholds)
    value = figures.summary["mAP50_95"]
    if value is None:
        raise SeamlineError(f"{validation.split_file}: has no instances, so that no export can be checked.")
    return Measured(detector, records, value)


def gate_records(measured: Measured, gate: Gate, validation: Validation) -> list[Record]:
    """A model's COCO results on all photos of a gate; those on val are there already."""
    if gate.test is None:
        return measured.records
    return measured.records + predict_split(measured.detector, gate.test, validation.images, "test")


def measure_reference(weights: Path, validation: Validation, images: Sequence[Path]) -> Reference:
    """Measure the weights in PyTorch; images: those of val."""
    measured = measure(weights, validation)
    few = evenly_spaced(images, PARITY_IMAGES)
    return Reference(measured, few, raw_outputs(measured.detector, few), validation)


def compare(model: Path, reference: Reference) -> Compared:
    """Measure a model on val, and compare it with the reference."""
    found, facts = measure(model, reference.validation), reference.measured.detector.engine.facts
    return Compared(
        found.detector.precision,
        found.average_precision,
        reference.measured.average_precision - found.average_precision,
        matched_share(found.records, reference.measured.records),
        exporter_of(facts.family, model).largest_differences(
            raw_outputs(found.detector, reference.images), reference.outputs, facts
        ),
    )


def compared_to_record(compared: Compared, kind: str, size_mb: float) -> Record:
    """A model's entry in reports/export.json."""
    return {
        "precision": compared.precision,
        "model_mb": size_mb,
        figure_name(kind): round(compared.average_precision, 5),
        "drop": round(compared.drop, 5),
        "matched": None if compared.matched is None else round(compared.matched, 5),
        **compared.differences,
    }


def compared_row(name: str, folder: Path, model: Path, reference: Reference, settings: Export) -> Record:
    """Measure a model for the report; raises Drifted where it has to equal PyTorch and does not."""
    kind, found = kind_of(reference.measured.detector), compare(model, reference)
    row = compared_to_record(found, kind, megabytes(folder))
    print(f"{name}: {row['model_mb']:.1f} MB, {kind} mAP50-95 on val {found.average_precision:.4f}", flush=True)
    if name != "openvino_int8":
        check_drift(name, kind, found.drop, settings.max_drift, found.matched, settings.min_matched)
    return row


def raw_outputs(detector: Detector, images: Sequence[Path]) -> list[Outputs]:
    """Of the same canvases, whichever engine computes."""
    found = []
    for image in images:
        canvas, _ = detector.family.image_to_canvas(read_image(image), detector.engine.facts)
        found.append(detector.engine.infer(canvas[None], copied))
    return found
