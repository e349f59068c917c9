"""pycocotools' matching of predictions to instances over flat arrays.

COCOeval.evaluateImg runs in Python over every image, class, size, threshold, prediction and instance. Here only the
pairs that overlap enough are looked at, and where a prediction and an instance have nobody else, no loop runs at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

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


class Ranked(NamedTuple):
    """Predictions (n) as pycocotools ranks them: by class, then by falling score."""

    image: Ints  # index of the image
    class_index: Ints
    score: Floats
    result: Ints  # index of the record among the results
    rank: Ints  # among those of its class in its image, the best is 0
    area: Floats  # in pixels


class Matched(NamedTuple):
    """What COCOeval.evaluate finds, for each range of areas."""

    ranked: Ranked
    instance: Ints  # (sizes, thresholds, n): index of the instance matched, -1 where none
    ignored: Bools  # (sizes, m): a prediction matched to this instance counts as neither right nor wrong
    outside: Bools  # (sizes, n): nor does this prediction where it is matched to none
    touching: Pairs  # records of results and instances of any class


def counted_instances(truth: COCO) -> list[Record]:
    """The instances that pycocotools evaluates, those of known images and classes, by id."""
    known = (record for record in truth.anns.values() if record["image_id"] in truth.imgs)
    return sorted((record for record in known if record["category_id"] in truth.cats), key=lambda record: record["id"])


def match(
    truth: COCO,
    results: Sequence[Record],
    instances: Sequence[Record],
    kind: str,
    thresholds: Floats,
    sizes: Floats,
    most: int,
) -> Matched:
    """What COCOeval.evaluate finds.

    Args:
        truth: its polygons become RLE, as COCOeval leaves them.
        results: COCO results with finite scores, of images that truth has.
        instances: of counted_instances.
        kind: "box" or "mask".
        thresholds: (t,) of IoU, from TOUCHED_IOU to below 1.
        sizes: (s, 2): the ranges of areas, in pixels; both ends belong to a range.
        most: detections of one class in one image that count.
    """
    image_ids = np.array(sorted(truth.imgs), dtype=np.int64)
    category_ids = np.array(sorted(truth.cats), dtype=np.int64)
    known = np.array([row for row, record in enumerate(results) if record["category_id"] in truth.cats], np.int64)
    evaluated = [results[row] for row in known.tolist()]
    image = np.searchsorted(image_ids, np.array([record["image_id"] for record in evaluated], np.int64))
    class_index = np.searchsorted(category_ids, np.array([record["category_id"] for record in evaluated], np.int64))
    score = np.array([record["score"] for record in evaluated], dtype=np.float64)

    order = np.lexsort((-score, class_index, image))  # equal scores stay in the order of the results
    where = image[order] * len(category_ids) + class_index[order]
    rank = rank_in_run(where)
    order, where, rank = order[rank < most], where[rank < most], rank[rank < most]
    shapes = [shape_of(evaluated[row], kind) for row in order.tolist()]
    ranked = Ranked(image[order], class_index[order], score[order], known[order], rank, areas(shapes, kind))
    touching = overlapping(truth, shapes, ranked.image, instances, kind)

    crowd = np.array([bool(record["iscrowd"]) for record in instances], dtype=np.bool_)
    size = np.array([record.get("area") or 0 for record in instances], dtype=np.float64)
    ignored = crowd | (size < sizes[:, :1]) | (size > sizes[:, 1:])
    of_class = np.searchsorted(category_ids, np.array([record["category_id"] for record in instances], np.int64))
    same = of_class[touching.instance] == ranked.class_index[touching.prediction]
    pairs = Pairs._make(column[same & (touching.overlap >= thresholds.min())] for column in touching)
    instance = pairs_to_instances(pairs, where, crowd, ignored, thresholds)
    # As accumulate ranks them: by class, then score, equal ones by image.
    order = np.lexsort((-ranked.score, ranked.class_index))
    touching = touching._replace(prediction=ranked.result[touching.prediction])
    ranked = Ranked._make(column[order] for column in ranked)
    outside = (ranked.area < sizes[:, :1]) | (ranked.area > sizes[:, 1:])
    return Matched(ranked, instance[..., order], ignored, outside, touching)


def areas(shapes: Sequence[Any], kind: str) -> Floats:
    """Of boxes or of masks, as pycocotools' loadRes has them."""
    if kind == "box":
        sides = np.array(shapes, dtype=np.float64).reshape(-1, 4)
        return np.asarray(sides[:, 2] * sides[:, 3])
    # It fails for more than 255 at once.
    parts = [coco_mask.area(list(shapes[at : at + 255])) for at in range(0, len(shapes), 255)]
    return np.concatenate([np.zeros(0), *parts])


def rank_in_run(values: Ints) -> Ints:
    """How many equal values stand directly before each."""
    at = np.arange(len(values))
    starts = np.r_[True, values[1:] != values[:-1]][: len(values)]
    found: Ints = at - np.maximum.accumulate(np.where(starts, at, 0))
    return found


def overlapping(truth: COCO, shapes: Sequence[Any], image: Ints, instances: Sequence[Record], kind: str) -> Pairs:
    """Pairs of any class from TOUCHED_IOU on, which is below every threshold that evaluate.iou_thresholds may have.

    In the order of the predictions' shapes, which are sorted by image (their index).
    """
    row_of = {record["id"]: row for row, record in enumerate(instances)}
    of_image: dict[int, list[int]] = {}
    for number, record in truth.anns.items():  # in the file's order: the last of two that overlap alike is matched
        if number in row_of:
            of_image.setdefault(record["image_id"], []).append(row_of[number])
    if kind == "mask":
        for record in instances:
            record["segmentation"] = truth.annToRLE(record)
    crowd = [int(record["iscrowd"]) for record in instances]
    parts: list[tuple[Ints, Ints, Floats]] = []
    bounds = np.searchsorted(image, np.arange(len(truth.imgs) + 1)).tolist()
    for number, start, end in zip(sorted(truth.imgs), bounds[:-1], bounds[1:], strict=True):
        rows = of_image.get(number)
        if start == end or not rows:
            continue
        shown = [shape_of(instances[row], kind) for row in rows]
        overlaps = coco_mask.iou(shapes[start:end], shown, [crowd[row] for row in rows])
        first, second = np.nonzero(overlaps >= TOUCHED_IOU)
        parts.append((first + start, np.array(rows)[second], overlaps[first, second]))
    if not parts:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


def pairs_to_instances(pairs: Pairs, where: Ints, crowd: Bools, ignored: Bools, thresholds: Floats) -> Ints:
    """(sizes, thresholds, n): the instance that each prediction is matched to, -1 where there is none.

    Args:
        pairs: of one class, by prediction.
        where: (n,): a number for the image and class of each prediction.
        crowd: (m,).
        ignored: (sizes, m): these instances are taken only where no other is left; crowd regions are among them.
        thresholds: (t,) of IoU.
    """
    alone_found = np.full((len(thresholds), len(where)), -1, dtype=np.int64)
    rivals = np.bincount(pairs.instance, minlength=len(crowd))[pairs.instance]
    choices = np.bincount(pairs.prediction, minlength=len(where))[pairs.prediction]
    alone = (choices == 1) & ((rivals == 1) | crowd[pairs.instance])  # a crowd region takes any number
    enough = pairs.overlap[alone] >= thresholds[:, None]
    alone_found[:, pairs.prediction[alone]] = np.where(enough, pairs.instance[alone], -1)
    others = Pairs._make(column[~alone] for column in pairs)
    found = np.array([alone_found] * len(ignored))
    with_all = alone_found.copy()
    match_in_turn(others, crowd, crowd, thresholds, with_all)
    for row, of_size in enumerate(ignored):
        # Where all instances but crowd regions are ignored alike, and no crowd region is, they are matched as without.
        differs = (of_size != crowd)[others.instance]
        place = where[others.prediction]
        again = np.isin(place, np.intersect1d(place[differs], place[~differs]))
        found[row][:, others.prediction] = with_all[:, others.prediction]
        found[row][:, others.prediction[again]] = -1
        match_in_turn(Pairs._make(column[again] for column in others), crowd, of_size, thresholds, found[row])
    return found


def match_in_turn(pairs: Pairs, crowd: Bools, ignored: Bools, thresholds: Floats, found: Ints) -> None:
    """Each prediction of the pairs, one after the other, takes an instance; into found (thresholds, n)."""
    _, starts = np.unique(pairs.prediction, return_index=True)
    bounds = [*starts.tolist(), len(pairs.prediction)]
    prediction, instance, overlap = (column.tolist() for column in pairs)
    for row, lowest in enumerate(thresholds.tolist()):
        taken: set[int] = set()
        for first, last in itertools.pairwise(bounds):
            best = chosen(instance[first:last], overlap[first:last], crowd, ignored, taken, lowest)
            if best >= 0:
                taken.add(best)
                found[row, prediction[first]] = best


def chosen(
    instances: Sequence[int], overlaps: Sequence[float], crowd: Bools, ignored: Bools, taken: set[int], lowest: float
) -> int:
    """The free instance that overlaps most, the last of equal ones; an ignored one where there is none; else -1."""
    for of_ignored in (False, True):
        best, most = -1, lowest
        for instance, overlap in zip(instances, overlaps, strict=True):
            if overlap >= most and ignored[instance] == of_ignored and (instance not in taken or crowd[instance]):
                best, most = instance, overlap
        if best >= 0:
            return best
    return -1
