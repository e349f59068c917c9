"""The same training with several seeds, and how much the results differ."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from seamline.base.coco import Record
from seamline.base.processors import note_processor, processor_of_training, times_written
from seamline.benchmark.machine import machine_facts, usable_core_ids
from seamline.evaluation.average_precision import average_precision, read_ground_truth
from seamline.evaluation.kinds import kinds_of, primary_kind
from seamline.evaluation.seed_limits import limit_between
from seamline.inference.detector import Detector
from seamline.inference.predictions import predict_split
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import Params
from seamline.params.rcnn import Rcnn
from seamline.params.train import Train
from seamline.training.finished import FINISHED, MAX_FINISHED, trainings_folder
from seamline.training.run import family_of_model, finished_training

SPLITS = ("val", "test")
METRICS = ("mAP50_95", "mAP50")


def seed_spread(params: Params, split: Path, yolo: Path, images: Path, seeds: Sequence[int]) -> Record:
    """Metrics of every seed's model, their spread and mean, and what they were trained with and on.

    Raises:
        SeamlineError: what a training raises.
    """
    most = max(len(seeds), MAX_FINISHED)
    by_seed: dict[str, dict[str, float]] = {}
    trained: dict[str, Record] = {}
    before = times_written(trainings_folder() / FINISHED)
    for seed in seeds:
        seeded = Params({**params.by_type, Train: msgspec.structs.replace(params[Train], seed=seed)})
        with finished_training(seeded, split, yolo, trainings_folder(), most) as training:
            note_processor(training.weights.parent, before)
            trained[str(seed)] = {
                "device": training.facts["device"],
                "threads": training.facts["threads"],
                "processor": processor_of_training(training.weights.parent, training.facts),
            }
            metrics = by_seed[str(seed)] = measured(training.weights, params[Evaluate], split, images)
        kind = primary_kind(metrics)
        print(f"seed {seed}: test {kind} mAP50-95 {metrics[f'test_{kind}_mAP50_95']:.3f}", flush=True)

    train = msgspec.to_builtins(params[Train])
    train |= train.pop("(others)")
    if family_of_model(params[Train].model) == "rcnn":
        train["rcnn"] = msgspec.to_builtins(params[Rcnn])
    columns = {key: [metrics[key] for metrics in by_seed.values()] for key in next(iter(by_seed.values()))}
    return {
        "spread": {key: round(max(column) - min(column), 6) for key, column in columns.items()},
        "mean": {key: round(statistics.mean(column), 6) for key, column in columns.items()},
        "seeds": by_seed,
        "train": {key: value for key, value in train.items() if key != "seed"},
        "trained": trained,
        "machine": machine_facts(usable_core_ids(None)),
    }


def measured(weights: Path, limits: Evaluate, split: Path, images: Path) -> dict[str, float]:
    """The evaluate stage's metrics of a model on val and test."""
    detector = Detector(weights, limits.confidence, limits.nms_iou, limits.max_detections)
    metrics: dict[str, float] = {}
    for name in SPLITS:
        truth = read_ground_truth(split / f"{name}.json")
        records = predict_split(detector, split / f"{name}.json", images, name)
        for kind in kinds_of(detector.has_masks):
            summary = average_precision(truth, records, kind, limits.iou_thresholds).summary
            metrics |= {f"{name}_{kind}_{key}": summary[key] or 0.0 for key in METRICS}
    return metrics


def spread_to_lines(spread: Record) -> list[str]:
    """What the seeds gave, and what that means for another experiment."""
    lines, kind = [], primary_kind(spread["spread"])
    for key in (f"{split}_{kind}_mAP50_95" for split in SPLITS):
        values = [metrics[key] for metrics in spread["seeds"].values()]
        lines.append(
            f"{key}: {min(values):.3f} to {max(values):.3f} over {len(values)} seeds, mean {spread['mean'][key]:.3f}; "
            f"one training of another experiment has to differ from the mean by {limit_between(values, values[:1]):.3f}"
        )
    if len({(one["device"], one["threads"]) for one in spread["trained"].values()}) > 1:
        kinds = sorted({f"{one['device']} with {one['threads']} threads" for one in spread["trained"].values()})
        lines.append(f"note: not the seed alone differs, the trainings ran on {' and '.join(kinds)}")
    return lines
