"""Evaluate: the trained model on val and test, boxes and masks, by pycocotools on the original annotations.

Writes reports/metrics.json (twelve numbers each), reports/accuracy.json (what dvc metrics show prints), and below
reports/evaluate: per-class figures, precision-recall curves, the confusion matrix and test images with truth beside
prediction. The predictions themselves are kept as COCO results below OUT.

Example: python stages/evaluate.py models/train/best.pt data/split data/yolo data/predictions
"""

import argparse
from pathlib import Path

from seamline.files import whole_folder, write_csv, write_json
from seamline.params import load_params
from seamline.stage import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="trained weights, such as models/train/best.pt")
    parser.add_argument("split", type=Path, help="folder with the splits, such as data/split")
    parser.add_argument("yolo", type=Path, help="folder with images, such as data/yolo")
    parser.add_argument("out", type=Path, help="folder for the predictions, such as data/predictions")
    parser.add_argument("--report", type=Path, default=Path("reports"))
    args = parser.parse_args()
    params = load_params().evaluate

    from seamline.charts import confusion_chart, overlay_sheet, precision_recall_chart  # matplotlib; not for --help
    from seamline.metrics import (
        average_precision,
        best_f1_score,
        confusion_matrix,
        confusion_to_rows,
        curves_to_table,
        read_ground_truth,
        results_of_kind,
    )
    from seamline.predictions import predict_split
    from seamline.runtime.predictor import Predictor

    predictor = Predictor(args.model, params.confidence, params.nms_iou, params.max_detections)
    truth = {name: read_ground_truth(args.split / f"{name}.json") for name in ("val", "test")}
    results = {
        name: predict_split(predictor, args.split / f"{name}.json", args.yolo / "images", name) for name in truth
    }
    with whole_folder(args.out) as out:
        for name, records in results.items():
            for kind in ("box", "mask"):
                write_json(out / f"{name}_{kind}.json", results_of_kind(records, kind))

    evaluations = {
        name: {kind: average_precision(truth[name], results[name], kind) for kind in ("box", "mask")} for name in truth
    }
    write_json(
        args.report / "metrics.json",
        {name: {kind: found.summary for kind, found in kinds.items()} for name, kinds in evaluations.items()},
    )
    write_json(
        args.report / "accuracy.json",
        {
            name: {f"mask_{key}": kinds["mask"].summary[key] for key in ("mAP50_95", "mAP50")}
            for name, kinds in evaluations.items()
        },
    )

    folder = args.report / "evaluate"
    # The threshold is chosen on val, so that the confusion matrix and pictures of test are not tuned on test.
    threshold = best_f1_score(evaluations["val"]["mask"].curves)
    write_json(
        folder / "per_class.json",
        {
            "confidence_of_best_f1_on_val": threshold,
            "evaluated_with": {
                "confidence": params.confidence,
                "nms_iou": params.nms_iou,
                "max_detections": params.max_detections,
            },
            **{name: {kind: found.per_class for kind, found in kinds.items()} for name, kinds in evaluations.items()},
        },
    )
    curves = evaluations["test"]["mask"].curves
    write_csv(folder / "precision_recall.csv", *curves_to_table(curves))
    names, matrix = confusion_matrix(truth["test"], results["test"], threshold)
    write_csv(folder / "confusion.csv", ("actual", "predicted"), confusion_to_rows(names, matrix))
    precision_recall_chart(curves, folder / "precision_recall.png")
    confusion_chart(names, matrix, threshold, folder / "confusion.png")
    overlay_sheet(
        truth["test"], results["test"], args.yolo / "images", threshold, params.overlays, folder / "overlays.png"
    )

    for name, kinds in evaluations.items():
        numbers = ", ".join(
            f"{kind} mAP50-95 {found.summary['mAP50_95'] or 0:.3f} mAP50 {found.summary['mAP50'] or 0:.3f}"
            for kind, found in kinds.items()
        )
        print(f"{name}: {numbers}")


if __name__ == "__main__":
    run(main)
