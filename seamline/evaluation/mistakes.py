"""What a model gets wrong at a score threshold: the confusion of classes, mistakes by kind, and the worst images.

Mistakes follow TIDE (Bolya et al. 2020): a prediction's IoU with the instances of its image tells which one it is. The
IoU is that of masks, or of boxes where the model finds boxes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from seamline.base.coco import Record
from seamline.evaluation.average_precision import Ints, Matches
from seamline.evaluation.kinds import shape_of
from seamline.evaluation.matching import TOUCHED_IOU
from seamline.masks.rle import segmentation_to_rle

FOUND_IOU = 0.5  # from here on an instance is found
RIGHT = "right"
IN_CROWD = "in a crowd region"
MISSED = "missed"


class Judged(NamedTuple):
    """One image at a score threshold."""

    image_id: int
    instances: list[Record]  # those that count
    predictions: list[Record]  # from the threshold on, best first
    overlaps: npt.NDArray[np.float64]  # IoU, predictions x instances; it may be 0 below TOUCHED_IOU
    verdicts: list[str]  # of each prediction: RIGHT, IN_CROWD or one of false_verdicts
    found: list[int]  # of each prediction: index of the instance that it found, -1 where it found none
    missed: list[int]  # index of each instance that no prediction found
    quality: float  # panoptic quality, 1 is perfect


def false_verdicts(kind: str) -> tuple[str, ...]:
    """What can be wrong with a prediction, in the order in which it is looked for."""
    return ("duplicate", "wrong class", f"poor {kind}", f"wrong class and poor {kind}", "background")


def mistakes_of(kind: str) -> tuple[str, ...]:
    """Every mistake that a model can make."""
    return (*false_verdicts(kind), MISSED)


def is_false(verdict: str) -> bool:
    return verdict not in (RIGHT, IN_CROWD)


def judge(truth: COCO, results: Sequence[Record], matches: Matches, confidence: float, kind: str) -> list[Judged]:
    """Every image of a split, by id.

    Args:
        truth: the split's records.
        results: COCO results with shapes of that kind.
        matches: of the results by the IoU of that kind; they decide what is right.
        confidence: predictions with a lower score are left out.
        kind: "box" or "mask".
    """
    by_image: dict[int, list[int]] = {number: [] for number in matches.image_ids.tolist()}
    matched = {
        result: instance
        for result, instance in zip(matches.result.tolist(), matches.instance[0].tolist(), strict=True)
        if instance >= 0
    }
    for index, record in enumerate(results):
        if record["score"] >= confidence:
            by_image[record["image_id"]].append(index)
    row_of = {number: row for row, number in enumerate(matches.instance_id.tolist())}
    touched = touched_instances(matches, len(results))
    judged = []
    for image_id, indices in by_image.items():
        ranked = sorted(indices, key=lambda index: (-results[index]["score"], index))
        instances = [record for record in truth.imgToAnns[image_id] if not record["iscrowd"]]
        rows = {row_of[record["id"]]: index for index, record in enumerate(instances)}
        predictions = [results[index] for index in ranked]
        if touched is None:
            overlaps = shape_overlaps(predictions, instances, truth.imgs[image_id], kind)
        else:
            overlaps = np.zeros((len(predictions), len(instances)))
            for position, index in enumerate(ranked):
                for row, overlap in touched[index]:
                    if row in rows:
                        overlaps[position, rows[row]] = overlap
        verdicts, found = [], []
        for position, index in enumerate(ranked):
            instance = matched.get(index)
            found.append(rows.get(instance, -1) if instance is not None else -1)
            if instance is None:
                verdicts.append(false_verdict(predictions[position], instances, overlaps[position], kind))
            elif instance in rows:
                verdicts.append(RIGHT)
            else:
                verdicts.append(IN_CROWD)
        missed = [index for index in range(len(instances)) if index not in found]
        hits = [float(overlaps[position, index]) for position, index in enumerate(found) if index >= 0]
        wrong = sum(map(is_false, verdicts))
        quality = panoptic_quality(hits, wrong, len(missed))
        judged.append(Judged(image_id, instances, predictions, overlaps, verdicts, found, missed, quality))
    return judged


def touched_instances(matches: Matches, results: int) -> list[list[tuple[int, float]]] | None:
    """For each result the instances (rows of matches) that it touches, and their IoU.

    None where matching did not look at all results: pycocotools did it, or an image has more than it counts.
    """
    if matches.touching is None or len(matches.result) < results:
        return None
    found: list[list[tuple[int, float]]] = [[] for _ in range(results)]
    for result, row, overlap in zip(*(column.tolist() for column in matches.touching), strict=True):
        found[result].append((row, overlap))
    return found


def shape_overlaps(
    predictions: list[Record], instances: list[Record], image: Record, kind: str
) -> npt.NDArray[np.float64]:
    """IoU of masks or of boxes, predictions x instances."""
    if not predictions or not instances:
        return np.zeros((len(predictions), len(instances)))
    actual = [shape_of(record, kind) for record in instances]
    if kind == "mask":
        actual = [segmentation_to_rle(segmentation, image["height"], image["width"]) for segmentation in actual]
    overlaps: npt.NDArray[np.float64] = coco_mask.iou(
        [shape_of(record, kind) for record in predictions], actual, [0] * len(instances)
    )
    return overlaps


def false_verdict(prediction: Record, instances: list[Record], overlaps: npt.NDArray[np.float64], kind: str) -> str:
    """What is wrong with a prediction that is matched to no instance; overlaps (instances,) are its own."""
    same_class = np.array([record["category_id"] == prediction["category_id"] for record in instances], dtype=np.bool_)
    own = overlaps[same_class].max(initial=0)
    other = overlaps[~same_class].max(initial=0)
    if own >= FOUND_IOU:
        return "duplicate"  # a better prediction has that instance
    if other >= FOUND_IOU:
        return "wrong class"
    if own >= TOUCHED_IOU:
        return f"poor {kind}"
    return f"wrong class and poor {kind}" if other >= TOUCHED_IOU else "background"


def panoptic_quality(hits: Sequence[float], wrong: int, missed: int) -> float:
    """Sum of right ones' IoU / (right + wrong / 2 + missed / 2) (Kirillov et al. 2019); 1 where there is nothing."""
    whole = len(hits) + wrong / 2 + missed / 2
    return float(sum(hits) / whole) if whole else 1.0


def mistakes_by_class(judged: Iterable[Judged], names: dict[int, str], kind: str) -> dict[str, dict[str, int]]:
    """How often each class is predicted right, predicted wrongly in each way, and missed.

    A wrong prediction counts for the class that it names, a missed instance for its own class.
    """
    counts = {name: dict.fromkeys((RIGHT, *mistakes_of(kind)), 0) for _, name in sorted(names.items())}
    for image in judged:
        for prediction, verdict in zip(image.predictions, image.verdicts, strict=True):
            if verdict != IN_CROWD:
                counts[names[prediction["category_id"]]][verdict] += 1
        for index in image.missed:
            counts[names[image.instances[index]["category_id"]]][MISSED] += 1
    return counts


def confusion_matrix(judged: Iterable[Judged], names: dict[int, str]) -> tuple[list[str], Ints]:
    """What each instance was taken for: rows the truth, columns the prediction, background last.

    Each right prediction belongs to its instance. The others, best first, are each paired with the instance that
    overlaps them most, of any class, among those that are left, if the IoU is at least 0.5. What remains is missed or a
    false alarm. Predictions in a crowd region are left out.
    """
    numbers = sorted(names)
    position = {number: index for index, number in enumerate(numbers)}
    matrix = np.zeros((len(numbers) + 1, len(numbers) + 1), dtype=np.int64)
    for image in judged:
        free = np.array([index in image.missed for index in range(len(image.instances))], dtype=bool)
        for row, prediction, verdict, found in zip(
            image.overlaps, image.predictions, image.verdicts, image.found, strict=True
        ):
            if verdict == IN_CROWD:
                continue
            available = np.where(free, row, 0)
            best = int(available.argmax()) if len(available) else -1
            match = found if found >= 0 else best if best >= 0 and available[best] >= FOUND_IOU else -1
            actual = -1
            if match >= 0:
                free[match] = False
                actual = position[image.instances[match]["category_id"]]
            matrix[actual, position[prediction["category_id"]]] += 1
        for index in np.flatnonzero(free):
            matrix[position[image.instances[index]["category_id"]], -1] += 1
    classes = [names[number] for number in numbers]
    return [*classes, background_label(classes)], matrix


def background_label(classes: Sequence[str]) -> str:
    """What stands for no class at all: a name that none of them has."""
    label = "(background)"
    while label in classes:
        label = f"({label})"
    return label


def confusion_to_rows(names: Sequence[str], matrix: Ints) -> list[tuple[str, str]]:
    """One row per instance, its actual and predicted name, as DVC's confusion template counts them."""
    return [
        (names[row], names[column])
        for row in range(len(names))
        for column in range(len(names))
        for _ in range(int(matrix[row, column]))
    ]


def worst_images(judged: Sequence[Judged], count: int) -> list[Judged]:
    """At most `count` images with a quality below 1, the worst first; ties by the number of mistakes, then by id."""
    flawed = [image for image in judged if image.quality < 1]
    return sorted(flawed, key=lambda image: (image.quality, -mistakes_in(image), image.image_id))[:count]


def mistakes_in(image: Judged) -> int:
    return len(image.missed) + sum(map(is_false, image.verdicts))


def random_images(judged: Sequence[Judged], count: int, seed: int) -> list[Judged]:
    """At most `count` images at random, by id; the same ones for every model that is measured on these images."""
    chosen = np.random.default_rng(seed).choice(len(judged), min(count, len(judged)), replace=False)
    return [judged[index] for index in sorted(chosen.tolist())]


def judged_to_record(image: Judged, truth: COCO, kind: str) -> Record:
    """What is said of an image beside its picture."""
    mistakes = [verdict for verdict in image.verdicts if is_false(verdict)] + [MISSED] * len(image.missed)
    return {
        "image_id": image.image_id,
        "file_name": truth.imgs[image.image_id]["file_name"],
        "quality": round(image.quality, 4),
        "instances": len(image.instances),
        RIGHT: image.verdicts.count(RIGHT),
        "mistakes": {name: mistakes.count(name) for name in mistakes_of(kind) if name in mistakes},
    }
