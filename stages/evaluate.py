"""Evaluate: the trained model on val and test, boxes and masks, by pycocotools on the original annotations.

Writes REPORT/metrics.json (twelve numbers each), REPORT/accuracy.json (what dvc metrics show prints), and in
REPORT/evaluate what explains them: intervals, classes, slices, curves, confusion, mistakes and pictures, of masks or,
where the model finds boxes only, of boxes. REPORT/people.json says what looking for people first changes, where
people.model is set. The predictions go to OUT as COCO results. The model can be best.pt, an ONNX file or an OpenVINO
folder.

Example: python -m stages.evaluate models/train/best.pt data/split data/subset/images data/predictions
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import beside, check_out, whole_folder, write_json
from seamline.base.process import run
from seamline.models.model_facts import Limits
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import load_params
from seamline.params.people import People

if TYPE_CHECKING:
    from seamline.inference.detector import Detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model, such as models/train/best.pt")
    parser.add_argument("split", type=Path, help="folder with the splits, such as data/split")
    parser.add_argument("images", type=Path, help="folder of the images, such as data/subset/images")
    parser.add_argument("out", type=Path, help="folder for the predictions, such as data/predictions")
    parser.add_argument("--report", type=Path, help="folder for figures and charts (default: OUT-report)")
    args = parser.parse_args()
    report = args.report or beside(args.out, "report")
    inputs = [args.model, args.split, args.images]
    check_out(args.out, ("*_box.json", "*_mask.json"), inputs)
    check_out(report / "evaluate", ("*.csv", "*.json", "*.png", "sample", "worst"), inputs)
    params = load_params()
    limits = params[Evaluate]
    if not args.split.is_dir():
        raise SeamlineError(
            f"{args.split}: is not a folder; give the one with val.json and test.json, such as data/split."
        )
    if report.exists() and not report.is_dir():
        raise SeamlineError(f"{report}: is not a folder; --report names the folder for the reports.")

    from seamline.base.splits import MEASURED_SPLITS
    from seamline.evaluation.average_precision import results_of_kind
    from seamline.evaluation.explanation import write_evaluation
    from seamline.evaluation.kinds import kinds_of, primary_kind
    from seamline.evaluation.measure import evaluate_files
    from seamline.inference.detector import Detector
    from seamline.inference.predictions import predict_split
    from seamline.inference.threads import limit_other_threads
    from seamline.people.measuring import measure_people

    limit_other_threads()
    detector = Detector(args.model, limits.confidence, limits.nms_iou, limits.max_detections, device=limits.device)
    kinds = kinds_of(detector.has_masks)
    with whole_folder(args.out) as out:
        for split in MEASURED_SPLITS:
            records = predict_split(detector, args.split / f"{split}.json", args.images, split)
            for kind in kinds:
                write_json(out / f"{split}_{kind}.json", results_of_kind(records, kind))

    evaluations = evaluate_files(args.split, args.out, limits)
    metrics = {split: {kind: evaluations[split, kind].summary for kind in kinds} for split in MEASURED_SPLITS}
    primary = primary_kind(kinds)
    write_json(report / "metrics.json", metrics)
    write_json(
        report / "accuracy.json",
        {
            split: {f"{primary}_{key}": metrics[split][primary][key] for key in ("mAP50_95", "mAP50")}
            for split in MEASURED_SPLITS
        },
    )
    with whole_folder(report / "evaluate") as folder:
        write_json(folder / "model.json", model_to_record(detector))
        write_evaluation(evaluations, args.model, args.split, args.out, args.images, limits, folder)

    people = measure_people(detector, params[People], args.split / "test.json", args.images, limits)
    write_json(report / "people.json", people)
    print_figures(metrics, people)


def model_to_record(detector: "Detector") -> Record:
    """What the model file says of itself, how it was computed, and which detections it was measured with."""
    facts = detector.engine.facts
    asked = Limits(detector.confidence, detector.nms_iou, detector.max_detections)
    reported = detector.family.limits_within(facts, asked)._asdict()
    return {**facts._asdict(), "precision": detector.precision, "device": detector.device, "reported": reported}


def print_figures(metrics: Record, people: Record) -> None:
    for split, kinds in metrics.items():
        numbers = ", ".join(
            f"{kind} mAP50-95 {shown(summary['mAP50_95'])} mAP50 {shown(summary['mAP50'])}"
            for kind, summary in kinds.items()
        )
        print(f"{split}: {numbers}")
    if "said" in people:
        print(people["said"])


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    run(main)
