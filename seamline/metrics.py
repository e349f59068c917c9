"""Average precision by pycocotools, the one official number, and what is drawn from the same evaluation."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.masks import segmentation_to_rle

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
BACKGROUND = "background"
CONFUSION_IOU = 0.5

Summary = dict[str, float | None]


class Curve(NamedTuple):
    """A class's precision over recall at IoU 0.5, as pycocotools interpolates it."""

    name: str
    recall: list[float]
    precision: list[float]
    score: list[float]


class Evaluation(NamedTuple):
    summary: Summary  # pycocotools' twelve numbers; None where there is nothing to count
    per_class: dict[str, dict[str, float | None]]  # class name -> mAP50_95, mAP50
    curves: list[Curve]


def read_ground_truth(path: Path) -> COCO:
    """A split's COCO file in pycocotools' index; nothing is printed.

    Raises:
        SeamlineError: when the file is missing.
    """
    if not path.exists():
        raise SeamlineError(f"{path}: there is no such file; the split stage makes it.")
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def average_precision(truth: COCO, results: list[Record], kind: str) -> Evaluation:
    """pycocotools' COCOeval with its own settings (IoU 0.50:0.05:0.95, 101 recalls, maxDets 1, 10, 100).

    Args:
        truth: ground truth in the original images' pixels.
        results: COCO results records, each with bbox and segmentation; left as they are.
        kind: "box" or "mask".
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(truth, results_index(truth, results_of_kind(results, kind)), IOU_TYPES[kind])
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    summary = {name: number_or_none(value) for name, value in zip(METRIC_NAMES, evaluator.stats, strict=True)}
    precision = evaluator.eval["precision"][:, :, :, 0, 2]  # IoU, recall, class; all areas, 100 detections
    scores = evaluator.eval["scores"][0, :, :, 0, 2]
    names = [truth.cats[number]["name"] for number in evaluator.params.catIds]
    per_class: dict[str, dict[str, float | None]] = {}
    curves = []
    for index, name in enumerate(names):
        per_class[name] = {
            "mAP50_95": mean_or_none(precision[:, :, index]),
            "mAP50": mean_or_none(precision[0, :, index]),
        }
        if (precision[0, :, index] > -1).any():
            curves.append(
                Curve(
                    name,
                    evaluator.params.recThrs.tolist(),
                    precision[0, :, index].tolist(),
                    scores[:, index].tolist(),
                )
            )
    return Evaluation(summary, per_class, curves)


def results_of_kind(results: list[Record], kind: str) -> list[Record]:
    """COCO results for boxes or for masks alone.

    With a box beside it pycocotools would take the box's area for the mask's, and sort masks into the wrong sizes.
    """
    left_out = "segmentation" if kind == "box" else "bbox"
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


def number_or_none(value: float) -> float | None:
    """pycocotools says -1 where there is nothing to count; that is no number."""
    return None if value < 0 else float(value)


def mean_or_none(values: npt.NDArray[np.float64]) -> float | None:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else None


def best_f1_score(curves: Sequence[Curve]) -> float:
    """The score threshold with the best F1 averaged over the classes; 0 where nothing was found.

    From the interpolated curve, so it is one of the scores at its 101 recall points.
    """
    thresholds = sorted({score for curve in curves for score in curve.score if score > 0})
    best, best_f1 = 0.0, -1.0
    for threshold in thresholds:
        f1s = []
        for curve in curves:
            reached = [i for i, score in enumerate(curve.score) if score >= threshold]
            precision, recall = (curve.precision[reached[-1]], curve.recall[reached[-1]]) if reached else (0.0, 0.0)
            f1s.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        if np.mean(f1s) > best_f1:
            best, best_f1 = threshold, float(np.mean(f1s))
    return best


def confusion_matrix(truth: COCO, results: list[Record], confidence: float) -> tuple[list[str], npt.NDArray[np.int64]]:
    """What each instance was taken for: rows the truth, columns the prediction, background last.

    In each image predictions above the confidence go, best first, to the unmatched instance, of whatever class,
    whose mask overlaps most, at IoU 0.5 at least; what is left over is missed or a false alarm.
    """
    numbers = sorted(truth.cats)
    position = {number: index for index, number in enumerate(numbers)}
    matrix = np.zeros((len(numbers) + 1, len(numbers) + 1), dtype=np.int64)
    found: dict[int, list[Record]] = {}
    for record in results:
        if record["score"] >= confidence:
            found.setdefault(record["image_id"], []).append(record)
    for image_id, image in sorted(truth.imgs.items()):
        instances = [record for record in truth.imgToAnns[image_id] if not record["iscrowd"]]
        predictions = sorted(found.get(image_id, []), key=lambda record: -record["score"])
        overlaps = mask_overlaps(predictions, instances, image)
        free = np.ones(len(instances), dtype=bool)
        for row, prediction in zip(overlaps, predictions, strict=True):
            available = np.where(free, row, 0)
            match = int(available.argmax()) if len(available) else -1
            if match >= 0 and available[match] >= CONFUSION_IOU:
                free[match] = False
                matrix[position[instances[match]["category_id"]], position[prediction["category_id"]]] += 1
            else:
                matrix[-1, position[prediction["category_id"]]] += 1
        for index in np.flatnonzero(free):
            matrix[position[instances[index]["category_id"]], -1] += 1
    return [truth.cats[number]["name"] for number in numbers] + [BACKGROUND], matrix


def curves_to_table(curves: Sequence[Curve]) -> tuple[list[str], list[list[float]]]:
    """A row a recall point: the mean precision of all classes, then each class's, as header and rows."""
    recalls = curves[0].recall if curves else []
    rows = []
    for index, recall in enumerate(recalls):
        precisions = [curve.precision[index] for curve in curves]
        mean = sum(precisions) / len(precisions)
        rows.append([recall, *(round(value, 6) for value in (mean, *precisions))])
    return ["recall", "precision", *(curve.name for curve in curves)], rows


def confusion_to_rows(names: Sequence[str], matrix: npt.NDArray[np.int64]) -> list[tuple[str, str]]:
    """A row an instance, actual and predicted name, as DVC's confusion template counts them."""
    return [
        (names[row], names[column])
        for row in range(len(names))
        for column in range(len(names))
        for _ in range(int(matrix[row, column]))
    ]


def mask_overlaps(predictions: list[Record], instances: list[Record], image: Record) -> npt.NDArray[np.float64]:
    """IoU of masks, predictions x instances."""
    if not predictions or not instances:
        return np.zeros((len(predictions), len(instances)))
    height, width = image["height"], image["width"]
    overlaps: npt.NDArray[np.float64] = coco_mask.iou(
        [record["segmentation"] for record in predictions],
        [segmentation_to_rle(record["segmentation"], height, width) for record in instances],
        [0] * len(instances),
    )
    return overlaps
