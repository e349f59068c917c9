"""Export: best.pt as ONNX, OpenVINO f32, OpenVINO with f16 weights and INT8, each shown to predict what PyTorch does.

All but INT8 have to reach PyTorch's mask mAP50-95 on val within export.max_drift and to find its detections again.
INT8 is calibrated on train and may cost export.int8.max_drop; where full quantisation costs more, the head stays in
f32, then NNCF's accuracy control looks for what does the harm, and if that fails there is no INT8 model but the reason
in its place. Every model says in its metadata what it is. What was measured goes to REPORT.

Example: python -m stages.export models/train/best.pt data/split data/subset/images models/export
"""

import argparse
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import beside, check_out, read_json, sha256_of, whole_folder, write_json, write_text
from seamline.base.process import run
from seamline.export.yolo import (
    check_drift,
    evenly_spaced,
    image_files,
    largest_differences,
    matched_share,
    megabytes,
    model_metadata,
    model_paths,
    onnx_to_openvino,
    quantise,
    raw_outputs,
    rungs_until_one_holds,
    weights_to_onnx,
    why_no_int8,
)
from seamline.models.engines.engine import Engine
from seamline.models.engines.opening import NO_MODEL
from seamline.models.model_facts import ModelFacts
from seamline.params.evaluate import Evaluate
from seamline.params.export import Export
from seamline.params.loader import load_params

PARITY_IMAGES = 16  # val images whose raw outputs are compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="trained model, such as models/train/best.pt")
    parser.add_argument("split", type=Path, help="folder with train.json and val.json, such as data/split")
    parser.add_argument("images", type=Path, help="folder of the images, such as data/subset/images")
    parser.add_argument("out", type=Path, help="folder for a model of each format, such as models/export")
    parser.add_argument("--report", type=Path, help="what the gates measured (default: OUT-report.json)")
    args = parser.parse_args()
    for model in model_paths(args.weights, args.out).values():
        if model != args.weights:
            folder = model.parent if model.suffix else model
            check_out(folder, ("model.*", NO_MODEL), [args.weights, args.split, args.images])
    params = load_params()
    settings, thresholds = params[Export], params[Evaluate]
    limits = (thresholds.confidence, thresholds.nms_iou, thresholds.max_detections)

    from seamline.evaluation.average_precision import average_precision, read_ground_truth
    from seamline.inference.detector import Detector
    from seamline.inference.predictions import predict_split
    from seamline.inference.threads import limit_other_threads

    limit_other_threads()
    val, train, images = args.split / "val.json", args.split / "train.json", args.images
    truth, val_images = read_ground_truth(val), image_files(val, images)
    parity_images = evenly_spaced(val_images, PARITY_IMAGES)
    calibration_images = evenly_spaced(image_files(train, images), settings.int8.calibration_images)

    def predict_val(model: Path | Engine) -> tuple[Detector, list[Record], float]:
        detector = Detector(model, *limits)
        found = predict_split(detector, val, images, "val")
        value = average_precision(truth, found, "mask", thresholds.iou_thresholds).summary["mAP50_95"]
        if value is None:
            raise SeamlineError(f"{val}: has no instances, so that no export can be checked.")
        return detector, found, value

    pytorch, reference_found, reference_map = predict_val(args.weights)
    reference = raw_outputs(pytorch.engine, parity_images)
    facts = ModelFacts(pytorch.names, pytorch.imgsz, settings.confidence, *limits[1:])
    sha256, origin = sha256_of(args.weights), args.weights.with_name("training.json")
    metadata = model_metadata(facts, read_json(origin) if origin.exists() else {}, sha256)
    formats: dict[str, Record] = {}

    def record(name: str, model: Path, opened: Path | None = None) -> None:
        """Measure a model, and stop where it is to be PyTorch's equal and is not."""
        detector, found, value = predict_val(opened or model)
        drop, matched = reference_map - value, matched_share(found, reference_found)
        formats[name] = {
            "precision": detector.precision,
            "model_mb": megabytes(model),
            "val_mask_mAP50_95": round(value, 5),
            "drop": round(drop, 5),
            "matched": None if matched is None else round(matched, 5),
            **largest_differences(raw_outputs(detector.engine, parity_images), reference, len(facts.names)),
        }
        print(f"{name}: {formats[name]['model_mb']:.1f} MB, mask mAP50-95 on val {value:.4f}", flush=True)
        if name != "openvino_int8":
            check_drift(name, drop, settings.max_drift, matched, settings.min_matched)

    record("pytorch", args.weights)
    models = model_paths(args.weights, args.out)
    with whole_folder(args.out / "onnx") as folder:
        weights_to_onnx(args.weights, folder / "model.onnx", settings.opset, metadata)
        record("onnx", folder, folder / "model.onnx")
    for name, precision in (("openvino", "f32"), ("openvino_f16", "f16")):
        with whole_folder(args.out / name) as folder:
            onnx_to_openvino(models["onnx"], folder, metadata, precision)
            record(name, folder)
    with whole_folder(args.out / "openvino_int8") as folder:
        allowed = settings.int8.max_drop

        def make(rung: str) -> None:
            source, train_images = models["openvino"], calibration_images
            quantise(source, folder, train_images, rung, allowed, lambda model: predict_val(model)[2], val_images)

        def measure() -> tuple[float, str]:
            detector, _, value = predict_val(folder)
            return value, detector.precision

        rungs = rungs_until_one_holds(
            make,
            measure,
            reference_map,
            allowed,
        )
        refused = why_no_int8(rungs, allowed)
        if refused is None:
            record("openvino_int8", folder)
        else:
            for file in folder.iterdir():
                file.unlink()
            write_text(folder / NO_MODEL, f"{refused}\n")
            print(f"openvino_int8: no model; {refused}", flush=True)
    write_json(
        args.report or beside(args.out, "report.json"),
        {
            "opset": settings.opset,
            "imgsz": pytorch.imgsz,
            "weights_sha256": sha256,
            "calibration_images": len(calibration_images),
            **formats,
            "int8_refused": refused,
            "int8_rungs": [
                {**rung, **{key: round(rung[key], 5) for key in ("val_mask_mAP50_95", "drop")}} for rung in rungs
            ],
        },
    )


if __name__ == "__main__":
    run(main)
