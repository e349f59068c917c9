"""pycocotools' matching of predictions to instances, all sizes, over flat arrays.

COCOeval.evaluateImg runs in Python over every image, class, size, threshold, prediction and instance. Here only the
pairs that overlap enough are looked at, and where a prediction and an instance have nobody else, no loop runs at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from seamline.base.coco import Record
from seamline.evaluation.kinds import shape_of

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
TOUCHED_IOU = 0.1  # from here on a prediction is about an instance


class Pairs(NamedTuple):
    """A prediction and an instance of the same image that overlap enough."""

    prediction: Ints
    instance: Ints
    overlap: Floats


class Matched(NamedTuple):
    """The part of Matches that is about predictions; see there."""

    image: Ints
    class_index: Ints
    score: Floats
    result: Ints
    instance: Ints
    touching: Pairs


def counted_instances(truth: COCO) -> list[Record]:
    """The instances that pycocotools evaluates, those of known images and classes, by id."""
    known = (record for record in truth.anns.values() if record["image_id"] in truth.imgs)
    return sorted((record for record in known if record["category_id"] in truth.cats), key=lambda record: record["id"])


def match(truth: COCO, results: Sequence[Record], kind: str, thresholds: Floats, most: int) -> Matched:
    """What COCOeval.evaluate finds for all sizes.

    Args:
        truth: its polygons become RLE, as COCOeval leaves them.
        results: COCO results with finite scores, of images that truth has.
        kind: "box" or "mask".
        thresholds: (t,) of IoU.
        most: detections of one class in one image that count.
    """
    image_ids = np.array(sorted(truth.imgs), dtype=np.int64)
    category_ids = np.array(sorted(truth.cats), dtype=np.int64)
    instances = counted_instances(truth)
    known = np.array([row for row, record in enumerate(results) if record["category_id"] in truth.cats], np.int64)
    evaluated = [results[row] for row in known.tolist()]
    image = np.searchsorted(image_ids, np.array([record["image_id"] for record in evaluated], np.int64))
    class_index = np.searchsorted(category_ids, np.array([record["category_id"] for record in evaluated], np.int64))
    score = np.array([record["score"] for record in evaluated], dtype=np.float64)

    order = np.lexsort((-score, class_index, image))  # equal scores stay in the order of the results
    order = order[rank_in_run(image[order] * len(category_ids) + class_index[order]) < most]
    image, class_index, score, result = image[order], class_index[order], score[order], known[order]
    predictions = [results[row] for row in result.tolist()]
    pairs, touching = overlapping(truth, predictions, image, instances, kind, thresholds)
    touching = touching._replace(prediction=result[touching.prediction])
    crowd = np.array([bool(record["iscrowd"]) for record in instances], dtype=np.bool_)
    instance = pairs_to_instances(pairs, crowd, len(result), thresholds)
    # As accumulate ranks them: by class, then score, equal ones by image.
    order = np.lexsort((-score, class_index))
    return Matched(image[order], class_index[order], score[order], result[order], instance[:, order], touching)


def rank_in_run(values: Ints) -> Ints:
    """How many equal values stand directly before each."""
    at = np.arange(len(values))
    starts = np.r_[True, values[1:] != values[:-1]][: len(values)]
    found: Ints = at - np.maximum.accumulate(np.where(starts, at, 0))
    return found


def overlapping(
    truth: COCO,
    predictions: Sequence[Record],
    image: Ints,
    instances: Sequence[Record],
    kind: str,
    thresholds: Floats,
) -> tuple[Pairs, Pairs]:
    """Pairs of one class from the lowest threshold on, and those of any class from TOUCHED_IOU on.

    In the order of predictions, which are sorted by image (their index).
    """
    row_of = {record["id"]: row for row, record in enumerate(instances)}
    of_image: dict[int, list[int]] = {}
    for number, record in truth.anns.items():  # in the file's order: the last of two that overlap alike is matched
        if number in row_of:
            of_image.setdefault(record["image_id"], []).append(row_of[number])
    lowest = min(float(thresholds.min()), 1 - 1e-10)
    parts: list[tuple[Ints, Ints, Floats]] = []
    touching: list[tuple[Ints, Ints, Floats]] = []
    bounds = np.searchsorted(image, np.arange(len(truth.imgs) + 1))
    for number, start, end in zip(sorted(truth.imgs), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = of_image.get(number, [])
        if start == end or not rows:
            continue
        shown, found = [instances[row] for row in rows], predictions[start:end]
        same = np.equal.outer([one["category_id"] for one in found], [one["category_id"] for one in shown])
        if kind == "mask":
            for record in shown:
                record["segmentation"] = truth.annToRLE(record)
        overlaps = coco_mask.iou(
            [shape_of(one, kind) for one in found],
            [shape_of(one, kind) for one in shown],
            [int(one["iscrowd"]) for one in shown],
        )
        for chosen_pairs, wanted in ((parts, same & (overlaps >= lowest)), (touching, overlaps >= TOUCHED_IOU)):
            first, second = np.nonzero(wanted)
            chosen_pairs.append((first + start, np.array(rows)[second], overlaps[first, second]))
    return joined(parts), joined(touching)


def joined(parts: Sequence[tuple[Ints, Ints, Floats]]) -> Pairs:
    if not parts:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def pairs_to_instances(pairs: Pairs, crowd: Bools, predictions: int, thresholds: Floats) -> Ints:
    """(thresholds, predictions): the instance that each is matched to, -1 where there is none."""
    found = np.full((len(thresholds), predictions), -1, dtype=np.int64)
    needed = np.minimum(thresholds, 1 - 1e-10)
    rivals = np.bincount(pairs.instance, minlength=len(crowd))[pairs.instance]
    choices = np.bincount(pairs.prediction, minlength=predictions)[pairs.prediction]
    alone = (choices == 1) & ((rivals == 1) | crowd[pairs.instance])  # a crowd region takes any number
    enough = pairs.overlap[alone] >= needed[:, None]
    found[:, pairs.prediction[alone]] = np.where(enough, pairs.instance[alone], -1)
    others = np.flatnonzero(~alone)
    for row, lowest in enumerate(needed.tolist()):
        taken: set[int] = set()
        first = 0
        while first < len(others):
            last = first
            while last < len(others) and pairs.prediction[others[last]] == pairs.prediction[others[first]]:
                last += 1
            own = others[first:last]
            best = chosen(pairs.instance[own].tolist(), pairs.overlap[own].tolist(), crowd, taken, lowest)
            if best >= 0:
                taken.add(best)
                found[row, pairs.prediction[own[0]]] = best
            first = last
    return found


def chosen(instances: Sequence[int], overlaps: Sequence[float], crowd: Bools, taken: set[int], lowest: float) -> int:
    """The free instance that overlaps most, the last of equal ones; a crowd region where there is none; else -1."""
    for in_crowd in (False, True):
        best, most = -1, lowest
        for instance, overlap in zip(instances, overlaps, strict=True):
            if crowd[instance] == in_crowd and (in_crowd or instance not in taken) and overlap >= most:
                best, most = instance, overlap
        if best >= 0:
            return best
    return -1
