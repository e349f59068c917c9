"""Seeds: how far the results lie apart when nothing but the seed of the training changes.

Trains the model of params.yaml once with every seed and evaluates each as the evaluate stage does. A difference in
`dvc metrics diff` that is smaller than the spread says nothing. No stage of dvc.yaml, since it takes as many trainings
as there are seeds (`make seeds`), less those that are kept, as the pipeline's own is. Killed, it resumes.

Example: python -m stages.seeds data/split data/yolo data/subset/images --report reports/train/seed_spread.json
"""

import argparse
import statistics
from pathlib import Path

import msgspec

from seamline.base.files import write_json
from seamline.base.process import run
from seamline.params.evaluate import Evaluate
from seamline.params.loader import load_params
from seamline.params.train import Train
from seamline.training.finished import KEPT_FINISHED, trainings_folder

METRICS = ("mAP50_95", "mAP50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", type=Path, help="folder with the splits, such as data/split")
    parser.add_argument("yolo", type=Path, help="folder with images and labels, such as data/yolo")
    parser.add_argument("images", type=Path, help="folder of the images, such as data/subset/images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="at least two")
    parser.add_argument(
        "--report", type=Path, required=True, help="file to write, such as reports/train/seed_spread.json"
    )
    args = parser.parse_args()
    if len(set(args.seeds)) < 2 or min(args.seeds) < 0:
        parser.error("a spread needs at least two different seeds, none below 0")
    params = load_params()
    train = params[Train]

    from seamline.benchmark.machine import machine_facts, usable_core_ids  # torch; kept from --help
    from seamline.evaluation.average_precision import average_precision, read_ground_truth
    from seamline.inference.detector import Detector
    from seamline.inference.predictions import predict_split
    from seamline.training.yolo import finished_training

    limits, most = params[Evaluate], max(len(set(args.seeds)), KEPT_FINISHED)
    truth = {name: read_ground_truth(args.split / f"{name}.json") for name in ("val", "test")}
    runs: dict[str, dict[str, float]] = {}
    for seed in sorted(set(args.seeds)):
        seeded = msgspec.structs.replace(train, seed=seed)
        numbers = runs[str(seed)] = {}
        with finished_training(seeded, args.split, args.yolo, trainings_folder(), most) as training:
            detector = Detector(training.weights, limits.confidence, limits.nms_iou, limits.max_detections)
        for name in truth:
            records = predict_split(detector, args.split / f"{name}.json", args.images, name)
            for kind in ("box", "mask"):
                summary = average_precision(truth[name], records, kind, limits.iou_thresholds).summary
                numbers |= {f"{name}_{kind}_{key}": summary[key] or 0.0 for key in METRICS}
        print(f"seed {seed}: test mask mAP50-95 {numbers['test_mask_mAP50_95']:.3f}", flush=True)

    values = msgspec.to_builtins(train)
    values |= values.pop("(others)")
    columns = {key: [run[key] for run in runs.values()] for key in next(iter(runs.values()))}
    write_json(
        args.report,
        {
            "spread": {key: round(max(column) - min(column), 6) for key, column in columns.items()},
            "mean": {key: round(statistics.mean(column), 6) for key, column in columns.items()},
            "seeds": runs,
            "train": {key: value for key, value in values.items() if key != "seed"},
            "machine": machine_facts(usable_core_ids(None)),
        },
    )
    for key in ("val_mask_mAP50_95", "test_mask_mAP50_95"):
        print(f"{key}: {min(columns[key]):.3f} to {max(columns[key]):.3f} over {len(runs)} seeds")


if __name__ == "__main__":
    run(main)
