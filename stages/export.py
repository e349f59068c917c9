"""Export: best.pt as ONNX, OpenVINO f32, OpenVINO with f16 weights and INT8, each shown to predict what PyTorch does.

All but INT8 have to reach PyTorch's mAP50-95 on val within export.max_drift and to find its detections again: of masks,
or of boxes where the model finds boxes only. Where rounding to f16 alone prevents that, the reason takes its model's
place. INT8 is calibrated on train and may cost export.int8.max_drop. If full quantisation is known to cost more, the
head stays in f32; then NNCF's accuracy control looks for what does the harm; if that fails there is no INT8 model but
the reason in its place. If neither is known, the model is kept and says so. Every model says in its metadata what it
is. What was measured is written to REPORT.

Example: python -m stages.export models/train/best.pt data/split data/subset/images models/export
"""

import argparse
from pathlib import Path

from seamline.base.coco import Record, images_of_split
from seamline.base.files import beside, check_out, read_json, sha256_of, whole_folder, write_json
from seamline.base.process import run
from seamline.base.spacing import evenly_spaced
from seamline.export.comparison import (
    Reference,
    compared_row,
    gate_records,
    kind_of,
    measure,
    measure_reference,
    read_validation,
)
from seamline.export.drops import Drop, Gate, measure_drop, read_gate
from seamline.export.exporters import exported_facts, exporter_of
from seamline.export.gates import Drifted
from seamline.export.int8 import outcome_metadata, quantise, rungs_to_report, rungs_until_one_holds
from seamline.export.metadata import model_metadata
from seamline.export.openvino import add_metadata, onnx_to_openvino
from seamline.inference.threads import limit_other_threads
from seamline.models.engines.opening import NO_MODEL
from seamline.models.exported import leave_reason, model_paths
from seamline.models.model_facts import Limits
from seamline.params.evaluate import Evaluate
from seamline.params.export import Export
from seamline.params.loading.loader import load_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="trained model, such as models/train/best.pt")
    parser.add_argument("split", type=Path, help="folder with train.json and val.json, such as data/split")
    parser.add_argument("images", type=Path, help="folder of the images, such as data/subset/images")
    parser.add_argument("out", type=Path, help="folder for a model of each format, such as models/export")
    parser.add_argument("--report", type=Path, help="what the gates measured (default: OUT-report.json)")
    args = parser.parse_args()
    models = model_paths(args.weights, args.out)
    for model in models.values():
        if model != args.weights:
            folder = model.parent if model.suffix else model
            check_out(folder, ("model.*", NO_MODEL), [args.weights, args.split, args.images])
    params = load_params()
    settings, evaluation = params[Export], params[Evaluate]

    limit_other_threads()
    limits = Limits(evaluation.confidence, evaluation.nms_iou, evaluation.max_detections)
    validation = read_validation(
        args.split / "val.json", args.images, limits, evaluation.iou_thresholds, evaluation.device
    )
    reference = measure_reference(args.weights, validation, images_of_split(validation.split_file, args.images))
    calibration = evenly_spaced(
        images_of_split(args.split / "train.json", args.images), settings.int8.calibration_images
    )
    rows = {"pytorch": compared_row("pytorch", args.weights, args.weights, reference, settings)}
    rows |= make_f32_models(models, reference, settings)
    rows |= make_int8(models, reference, read_gate(args.split, settings.int8.gate_on), calibration, settings)
    write_json(
        args.report or beside(args.out, "report.json"),
        {
            "opset": settings.opset,
            "imgsz": reference.measured.detector.imgsz,
            "weights_sha256": sha256_of(args.weights),
            "calibration_images": len(calibration),
            **rows,
        },
    )


def make_f32_models(models: dict[str, Path], reference: Reference, settings: Export) -> dict[str, Record]:
    """ONNX and OpenVINO, each in its place only when it has passed the gates; their entries in the report.

    Raises:
        SeamlineError: when one does not predict what PyTorch predicts.
    """
    weights, facts = models["pytorch"], reference.measured.detector.engine.facts
    exporter, origin = exporter_of(facts.family, weights), weights.with_name("training.json")
    limits = reference.validation.limits
    training = read_json(origin) if origin.exists() else {}
    own = exported_facts(facts, limits._replace(confidence=settings.confidence))
    metadata = model_metadata(own, exporter.PREPROCESSING, training, sha256_of(weights))
    rows: Record = {}
    with whole_folder(models["onnx"].parent) as folder:
        exporter.weights_to_onnx(weights, folder / models["onnx"].name, settings.opset, metadata)
        rows["onnx"] = compared_row("onnx", folder, folder / models["onnx"].name, reference, settings)
    for name, precision in (("openvino", "f32"), ("openvino_f16", "f16")):
        with whole_folder(models[name]) as folder:
            onnx_to_openvino(models["onnx"], folder, metadata, precision)
            try:
                rows[name] = compared_row(name, folder, folder, reference, settings)
            except Drifted as drifted:
                if precision == "f32":
                    raise
                rows["f16_refused"] = leave_reason(folder, drifted)  # the others are as good without it
    return rows


def make_int8(
    models: dict[str, Path], reference: Reference, gate: Gate, calibration: list[Path], settings: Export
) -> Record:
    """INT8, or the reason why there is none; its entries in the report."""
    validation, name = reference.validation, "openvino_int8"
    allowed, kind = settings.int8.max_drop, kind_of(reference.measured.detector)
    val_images = images_of_split(validation.split_file, validation.images)
    expected = gate_records(reference.measured, gate, validation)
    with whole_folder(models[name]) as folder:

        def make(rung: str) -> None:
            quantise(
                models["openvino"], folder, calibration, rung, allowed,
                lambda engine: measure(engine, validation).average_precision, val_images,
            )  # fmt: skip

        def measure_made() -> tuple[float, str, Drop]:
            made = measure(folder, validation)
            drop = measure_drop(gate, expected, gate_records(made, gate, validation), kind, validation.iou_thresholds)
            return made.average_precision, made.detector.precision, drop

        rungs = rungs_until_one_holds(make, measure_made, kind, reference.measured.average_precision, allowed)
        said = rungs_to_report(rungs, kind, gate, allowed)
        if said["int8_refused"] is None:
            add_metadata(folder, outcome_metadata(rungs[-1], gate))
            row = compared_row(name, folder, folder, reference, settings) | {"outcome": said["int8_outcome"]}
            said = {name: row, **said}
        else:
            leave_reason(folder, said["int8_refused"])
    print(f"{name}: {said['int8_refused'] or said['int8_not_known'] or said['int8_outcome']}", flush=True)
    return said


if __name__ == "__main__":
    run(main)
