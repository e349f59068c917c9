"""Export: best.pt as ONNX, OpenVINO f32 and OpenVINO INT8, each shown to predict what PyTorch predicts.

f32 formats have to reach PyTorch's mask mAP50-95 on val within export.max_drift. INT8 is calibrated on train
and may cost export.int8.max_drop; the head stays in f32 if that is what it takes, and where even that costs more there
is no INT8 model but the reason in its place. What was measured goes to reports/export.json.

Example: python stages/export.py models/train/best.pt data/split data/yolo models/export
"""

import argparse
from pathlib import Path

from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.exporting import (
    check_drift,
    evenly_spaced,
    image_files,
    largest_differences,
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
from seamline.files import sha256_of, whole_folder, write_json, write_text
from seamline.params import load_params
from seamline.runtime.engines import NO_MODEL
from seamline.stage import run

PARITY_IMAGES = 16  # val images whose raw outputs are compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="trained model, such as models/train/best.pt")
    parser.add_argument("split", type=Path, help="folder with train.json and val.json, such as data/split")
    parser.add_argument("yolo", type=Path, help="folder with images/, such as data/yolo")
    parser.add_argument("out", type=Path, help="folder for onnx/, openvino/ and openvino_int8/, such as models/export")
    parser.add_argument("--report", type=Path, default=Path("reports/export.json"))
    args = parser.parse_args()
    params = load_params()
    limits = (params.evaluate.confidence, params.evaluate.nms_iou, params.evaluate.max_detections)

    from seamline.metrics import average_precision, read_ground_truth
    from seamline.predictions import predict_split
    from seamline.runtime.predictor import Predictor

    truth = read_ground_truth(args.split / "val.json")
    parity_images = evenly_spaced(image_files(args.split / "val.json", args.yolo / "images"), PARITY_IMAGES)
    calibration_images = evenly_spaced(
        image_files(args.split / "train.json", args.yolo / "images"), params.export.int8.calibration_images
    )

    def val_mask_map(predictor: Predictor) -> float:
        records = predict_split(predictor, args.split / "val.json", args.yolo / "images", "val")
        value = average_precision(truth, records, "mask", params.evaluate.iou_thresholds).summary["mAP50_95"]
        if value is None:
            raise SeamlineError(f"{args.split}/val.json: has no instances, so that no export can be checked.")
        return value

    pytorch = Predictor(args.weights, *limits)
    reference_map = val_mask_map(pytorch)
    reference = raw_outputs(pytorch.engine, parity_images)
    sha256 = sha256_of(args.weights)
    formats: dict[str, Record] = {}

    def record(name: str, model: Path, predictor: Predictor, mask_map: float) -> None:
        formats[name] = {
            "precision": predictor.precision,
            "model_mb": megabytes(model),
            "val_mask_mAP50_95": round(mask_map, 5),
            "drop": round(reference_map - mask_map, 5),
            **largest_differences(raw_outputs(predictor.engine, parity_images), reference, len(pytorch.names)),
        }
        print(f"{name}: {formats[name]['model_mb']:.1f} MB, mask mAP50-95 on val {mask_map:.4f}", flush=True)

    record("pytorch", args.weights, pytorch, reference_map)
    models = model_paths(args.weights, args.out)
    metadata = model_metadata(pytorch.names, pytorch.imgsz, sha256, "f32")
    with whole_folder(args.out / "onnx") as folder:
        weights_to_onnx(args.weights, folder / "model.onnx", params.export.opset, pytorch.imgsz, metadata)
        predictor = Predictor(folder / "model.onnx", *limits)
        mask_map = val_mask_map(predictor)
        record("onnx", folder, predictor, mask_map)
        check_drift("onnx", reference_map - mask_map, params.export.max_drift)
    with whole_folder(args.out / "openvino") as folder:
        onnx_to_openvino(models["onnx"], folder, metadata)
        predictor = Predictor(folder, *limits)
        mask_map = val_mask_map(predictor)
        record("openvino", folder, predictor, mask_map)
        check_drift("openvino", reference_map - mask_map, params.export.max_drift)
    with whole_folder(args.out / "openvino_int8") as folder:
        metadata = model_metadata(pytorch.names, pytorch.imgsz, sha256, "int8")
        rungs = rungs_until_one_holds(
            lambda rung: quantise(
                models["openvino"], folder, calibration_images, pytorch.imgsz, rung, {**metadata, "int8": rung}
            ),
            lambda: val_mask_map(Predictor(folder, *limits)),
            reference_map,
            params.export.int8.max_drop,
        )
        refused = why_no_int8(rungs, params.export.int8.max_drop)
        if refused is None:
            record("openvino_int8", folder, Predictor(folder, *limits), rungs[-1]["val_mask_mAP50_95"])
        else:
            for file in folder.iterdir():
                file.unlink()
            write_text(folder / NO_MODEL, f"{refused}\n")
            print(f"openvino_int8: no model; {refused}", flush=True)
    write_json(
        args.report,
        {
            "opset": params.export.opset,
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
