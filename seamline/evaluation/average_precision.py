"""Average precision as pycocotools has it, the one official number, and the matches that it rests on.

Matches and arrays are made over flat arrays; every number is pycocotools' to the last digit, which tests hold, and
pycocotools does it all for records that it takes in a way of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.evaluation.accumulating import accumulate
from seamline.evaluation.kinds import COCO_KEYS
from seamline.evaluation.matching import Pairs, counted_instances, match
from seamline.params.evaluate import IouThresholds

METRIC_NAMES = (
    "mAP50_95",
    "mAP50",
    "mAP75",
    "mAP_small",
    "mAP_medium",
    "mAP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
IOU_TYPES = {"box": "bbox", "mask": "segm"}
LARGEST_AREA = 1e10  # pycocotools', of all sizes
MAX_DETECTIONS = (1, 10, 100)  # of one class in one image: pycocotools' defaults, which its summary needs

Summary = dict[str, float | None]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Curve(NamedTuple):
    """A class's precision over recall at IoU 0.5, as pycocotools interpolates it."""

    name: str
    recall: list[float]
    precision: list[float]


class Matches(NamedTuple):
    """Which prediction pycocotools matched to which instance: all sizes, at most 100 detections per image and class.

    Predictions (n) are sorted by class, then by falling score, as pycocotools ranks them; instances (m) by their id.
    """

    names: list[str]  # of the classes
    image_ids: Ints  # of the images, ascending
    ious: Floats  # (t,): the thresholds
    image: Ints  # (n,): index into image_ids
    class_index: Ints  # (n,): index into names
    score: Floats  # (n,)
    result: Ints  # (n,): index of the record among the results
    instance: Ints  # (t, n): index of the instance matched, -1 where none
    instance_id: Ints  # (m,)
    instance_image: Ints  # (m,)
    instance_class: Ints  # (m,): index into names
    crowd: Bools  # (m,): a prediction matched to one counts as neither right nor wrong
    touching: Pairs | None = None  # records of results and instances of any class that overlap; None: not looked for


class Evaluation(NamedTuple):
    summary: Summary  # pycocotools' twelve numbers; None where there is nothing to count
    per_class: dict[str, dict[str, float | None]]  # class name -> mAP50_95, mAP50
    curves: list[Curve]
    matches: Matches


class Found(NamedTuple):
    """What either way of evaluating gives."""

    stats: Floats  # pycocotools' twelve numbers, -1 where there is nothing to count
    precision: Floats  # IoU, recall, class, size, detections, as COCOeval has it
    recalls: list[float]
    matches: Matches


def read_ground_truth(path: Path) -> COCO:
    """A split's COCO file in pycocotools' index; nothing is printed.

    Raises:
        SeamlineError: when the file is missing or is not a COCO file.
    """
    try:
        index = COCO()
        data = path.read_bytes()
        try:
            index.dataset = msgspec.json.decode(data)
        except msgspec.DecodeError:
            index.dataset = json.loads(data)  # takes NaN and numbers of any length, in several times the time
        with contextlib.redirect_stdout(io.StringIO()):
            index.createIndex()
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file; the split stage makes it.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SeamlineError(f"{path}: is not a COCO file ({error}); the split stage makes it.") from None
    return index


def average_precision(truth: COCO, results: list[Record], kind: str, ious: IouThresholds) -> Evaluation:
    """pycocotools' COCOeval with its own settings: 101 recalls, at most 1, 10 and 100 detections of a class.

    Args:
        truth: ground truth in the original images' pixels.
        results: COCO results with the key of that kind, and perhaps the other's; they are left as they are.
        kind: "box" or "mask".
        ious: evaluate.iou_thresholds, pycocotools' 0.50:0.05:0.95 by default.
    """
    left_out = COCO_KEYS["mask" if kind == "box" else "box"]
    # Copies of a large split's results take as much memory as they do; pycocotools writes into its own.
    as_kept = results_of_kind(results, kind) if any(left_out in record for record in results) else results
    found = quick_evaluation(truth, as_kept, kind, ious)
    found = found or reference_evaluation(truth, results_of_kind(results, kind), kind, ious)
    summary = {name: number_or_none(value) for name, value in zip(METRIC_NAMES, found.stats, strict=True)}
    per_class: dict[str, dict[str, float | None]] = {}
    curves = []
    for index, name in enumerate(found.matches.names):
        precision = found.precision[:, :, index, 0, 2]  # all sizes, 100 detections
        per_class[name] = {"mAP50_95": mean_or_none(precision), "mAP50": mean_or_none(precision[0])}
        if (precision[0] > -1).any():
            curves.append(Curve(name, found.recalls, precision[0].tolist()))
    return Evaluation(summary, per_class, curves, found.matches)


def reference_evaluation(truth: COCO, results: list[Record], kind: str, ious: IouThresholds) -> Found:
    """pycocotools' own COCOeval, from end to end."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(truth, results_index(truth, results), IOU_TYPES[kind])
        evaluator.params.iouThrs = ious.values()
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names = [truth.cats[number]["name"] for number in evaluator.params.catIds]
    matches = evaluator_to_matches(evaluator, names)
    return Found(evaluator.stats, evaluator.eval["precision"], evaluator.params.recThrs.tolist(), matches)


def quick_evaluation(truth: COCO, results: list[Record], kind: str, ious: IouThresholds) -> Found | None:
    """The same numbers in a tenth of the time: our own matches and arrays, pycocotools' means over them.

    None for records that pycocotools takes in a way of its own.
    """
    if not is_plain(truth, results):
        return None
    evaluator = COCOeval(iouType=IOU_TYPES[kind])
    params = evaluator.params
    params.iouThrs = ious.values()
    instances = counted_instances(truth)
    matched = match(truth, results, instances, kind, ious.values(), np.array(params.areaRng), params.maxDets[-1])
    image_ids, category_ids = np.array(sorted(truth.imgs), np.int64), np.array(sorted(truth.cats), np.int64)
    ranked = matched.ranked
    matches = Matches(
        names=[truth.cats[number]["name"] for number in category_ids.tolist()],
        image_ids=image_ids,
        ious=ious.values(),
        image=ranked.image,
        class_index=ranked.class_index,
        score=ranked.score,
        result=ranked.result,
        instance=matched.instance[0],  # of all sizes
        instance_id=np.array([record["id"] for record in instances], np.int64),
        instance_image=np.searchsorted(image_ids, np.array([record["image_id"] for record in instances], np.int64)),
        instance_class=np.searchsorted(
            category_ids, np.array([record["category_id"] for record in instances], np.int64)
        ),
        crowd=np.array([bool(record["iscrowd"]) for record in instances], np.bool_),
        touching=matched.touching,
    )
    classes = len(category_ids)
    precision, recall = accumulate(matched, matches.instance_class, classes, params.recThrs, params.maxDets)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.eval = {"precision": precision, "recall": recall}
        evaluator.summarize()
    return Found(evaluator.stats, precision, params.recThrs.tolist(), matches)


def is_plain(truth: COCO, results: list[Record]) -> bool:
    """Nothing in the records that pycocotools takes in a way of its own: ids of 0, areas or scores without end."""
    annotations = truth.dataset["annotations"]
    return (
        len(truth.anns) == len(annotations)
        and all(
            record["id"] > 0 and "iscrowd" in record and 0 <= (record.get("area") or 0) < LARGEST_AREA
            for record in annotations
        )
        and all(record["image_id"] in truth.imgs and abs(record["score"]) < np.inf for record in results)
    )


def results_of_kind(results: list[Record], kind: str) -> list[Record]:
    """COCO results with boxes alone or masks alone.

    With a box beside it pycocotools would take the box's area for the mask's, and sort masks into the wrong sizes.
    """
    left_out = COCO_KEYS["mask" if kind == "box" else "box"]
    return [{key: value for key, value in record.items() if key != left_out} for record in results]


def results_index(truth: COCO, results: list[Record]) -> COCO:
    """loadRes, which writes into the records and cannot read an empty list."""
    if results:
        return truth.loadRes(results)
    empty = COCO()
    empty.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": [],
    }
    empty.createIndex()
    return empty


def evaluator_to_matches(evaluator: Any, names: Sequence[str]) -> Matches:
    """What a COCOeval that has evaluated found, for all areas, in flat arrays."""
    params = evaluator.params
    image_ids, category_ids = np.array(params.imgIds, dtype=np.int64), list(params.catIds)
    records = sorted(
        (record for records in evaluator._gts.values() for record in records), key=lambda record: record["id"]
    )
    ids = np.array([record["id"] for record in records], dtype=np.int64)
    of_class = {number: index for index, number in enumerate(category_ids)}
    parts: list[tuple[Ints, Ints, Floats, Ints, Ints]] = []
    for index in range(len(category_ids)):
        # evalImgs runs over classes, then areas, of which "all" is the first, then images.
        start = index * len(params.areaRng) * len(image_ids)
        found = [
            (row, one)
            for row, one in enumerate(evaluator.evalImgs[start : start + len(image_ids)])
            if one is not None and one["dtIds"]
        ]
        if not found:
            continue
        scores = np.concatenate([one["dtScores"] for _, one in found])
        order = np.argsort(-scores, kind="mergesort")  # as in accumulate
        rows = np.repeat([row for row, _ in found], [len(one["dtIds"]) for _, one in found])
        results = np.concatenate([one["dtIds"] for _, one in found]).astype(np.int64) - 1  # loadRes counts from 1
        matched = np.concatenate([one["dtMatches"] for _, one in found], axis=1).astype(np.int64)
        instance = np.where(matched > 0, np.searchsorted(ids, matched), -1)
        parts.append((rows[order], np.full(len(rows), index), scores[order], results[order], instance[:, order]))
    return Matches(
        names=list(names),
        image_ids=image_ids,
        ious=np.array(params.iouThrs, dtype=np.float64),
        image=np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, np.int64),
        class_index=np.concatenate([part[1] for part in parts]) if parts else np.zeros(0, np.int64),
        score=np.concatenate([part[2] for part in parts]) if parts else np.zeros(0),
        result=np.concatenate([part[3] for part in parts]) if parts else np.zeros(0, np.int64),
        instance=np.concatenate([part[4] for part in parts], axis=1)
        if parts
        else np.zeros((len(params.iouThrs), 0), np.int64),
        instance_id=ids,
        instance_image=np.searchsorted(image_ids, np.array([record["image_id"] for record in records], np.int64)),
        instance_class=np.array([of_class[record["category_id"]] for record in records], dtype=np.int64),
        crowd=np.array([bool(record["iscrowd"]) for record in records], dtype=np.bool_),
    )


def number_or_none(value: float) -> float | None:
    """None for pycocotools' -1, which stands for "nothing to count"."""
    return None if value < 0 else float(value)


def mean_or_none(values: Floats) -> float | None:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else None
