"""Models of several families exported and timed by the benchmark, all in turn over the same images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from seamline.base.coco import Record, images_of_split
from seamline.base.files import megabytes, sha256_of
from seamline.base.spacing import evenly_spaced
from seamline.benchmark.machine import machine_facts, usable_core_ids
from seamline.benchmark.measuring import Measured, SplitFiles, measure_rows
from seamline.benchmark.rows import Row, formats_on_gpu, start_row
from seamline.benchmark.timing import profile_of
from seamline.evaluation.average_precision import average_precision, read_ground_truth
from seamline.export.exporters import exported_facts, exporter_of
from seamline.export.metadata import model_metadata
from seamline.export.openvino import onnx_to_openvino
from seamline.inference.detector import Detector
from seamline.models.families import family_of
from seamline.models.model_facts import Limits
from seamline.params.benchmark import Benchmark
from seamline.params.evaluate import Evaluate
from seamline.params.export import Export
from seamline.params.loading.loader import Params

TIMED = "openvino"  # the format that the page shows speed and memory of


class Exported(NamedTuple):
    """A model in the formats that are timed."""

    model: str  # as train.model names it
    weights: Path
    openvino: Path
    licence: str
    parameters: int  # of the network that predicts


def exported(model: str, weights: Path, training: Record, params: Params) -> Exported:
    """ONNX and OpenVINO f32 beside the weights."""
    evaluation, settings = params[Evaluate], params[Export]
    with Detector(weights) as detector:
        facts, family = detector.engine.facts, detector.family
    exporter = exporter_of(facts.family, weights)
    asked = Limits(settings.confidence, evaluation.nms_iou, evaluation.max_detections)
    metadata = model_metadata(exported_facts(facts, asked), exporter.PREPROCESSING, training, sha256_of(weights))
    onnx, openvino = weights.parent / "model.onnx", weights.parent / "openvino"
    print(f"{model}: exporting", flush=True)
    exporter.weights_to_onnx(weights, onnx, settings.opset, metadata)
    openvino.mkdir()
    onnx_to_openvino(onnx, openvino, metadata, "f32")
    module, _ = family_of(facts.family, weights).load_module(weights, "cpu")
    return Exported(model, weights, openvino, family.LICENCE, sum(one.numel() for one in module.parameters()))


def timed(
    models: Sequence[Exported], split: Path, images: Path, params: Params, kind: str
) -> tuple[dict[str, dict[str, Record]], Record]:
    """The benchmark's figures of each model and format, and the machine with what disturbed it.

    Args:
        split: folder with test.json.
        images: folder of the image files.
        kind: of shapes that accuracy is measured on, to show that what is timed finds what was evaluated.
    """
    settings, limits = params[Benchmark], params[Evaluate]
    profile, cores = profile_of(settings), usable_core_ids(settings.threads)
    rows = rows_of(models)
    files = SplitFiles(split / "test.json", images)
    every = images_of_split(files.file, files.images)
    start = partial(
        start_row, cores=cores, confidence=params[Export].confidence, limits=limits, timeout_s=profile.timeout_s
    )
    chosen = evenly_spaced(every, settings.images)
    measured = measure_rows(list(rows.values()), start, chosen, profile, cores, files, len(every), limits)
    found: dict[str, dict[str, Record]] = {one.model: {} for one in models}
    for (model, name), row in rows.items():
        accuracy = accuracy_on_test(files.file, measured, row, kind, limits)
        found[model][name] = {
            **measured.speed[row.name],
            "images": len(chosen),
            "model_mb": megabytes(row.path),
            f"{kind}_mAP50_95": accuracy,
            "steady": measured.stable[row.name],
        }
    return found, {**machine_facts(cores), "profile": settings.profile, **measured.conditions}


def rows_of(models: Sequence[Exported]) -> dict[tuple[str, str], Row]:
    """The rows of the benchmark by model and format; on a GPU PyTorch as well, where there is one."""
    found = {}
    for one in models:
        found[one.model, TIMED] = Row(f"{one.model} {TIMED}", one.openvino)
        found[one.model, "pytorch"] = Row(f"{one.model} pytorch", one.weights)
        if formats_on_gpu(["pytorch"]):
            found[one.model, "pytorch_cuda"] = Row(f"{one.model} pytorch_cuda", one.weights, device="cuda")
    return found


def accuracy_on_test(test: Path, measured: Measured, row: Row, kind: str, limits: Evaluate) -> float | None:
    truth = read_ground_truth(test)
    return average_precision(truth, measured.found[row.name], kind, limits.iou_thresholds).summary["mAP50_95"]
