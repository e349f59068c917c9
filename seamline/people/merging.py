"""What was found in parts of a photo, put together: each garment once, and tied to the person who wears it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from seamline.models.detections import Detections, Persons
from seamline.people.cutouts import areas

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WORN = 0.5  # share of a garment that has to lie on a person, so that it is that person's
CONTAINED = 0.8  # share of the smaller one that has to lie in the larger one, so that both are one garment
NOBODY = -1


def merge(views: Mapping[int, Detections], people: Detections, merge_iou: float, most: int) -> Detections:
    """Each garment once, best score first, and the person it belongs to.

    A garment belongs to the person on whom most of it lies, and to nobody where that is less than WORN. It is taken
    from that person's part of the photo, where it is whole and large, and nobody's from the whole photo. Where two
    parts show one garment, which another person's mask or a cut through it may have hidden, so that the masks of one
    class overlap by more than merge_iou, or one lies in the other, the one is taken that lies better in its own person;
    where both lie as well, the larger one, of which less is cut off.

    Args:
        views: what was found in parts of the photo, in the photo's pixels, by the person whose part it is; NOBODY's is
            the whole photo, and stands for those who have none.
        people: who was found in the photo, in the photo's pixels.
        merge_iou: of two masks, or boxes where there are no masks.
        most: detections in the photo at most.
    """
    every = joined([*views.values()])
    view = np.repeat(np.array([*views], np.int64), [len(found) for found in views.values()])
    with_masks = every.has_masks and people.has_masks
    owner, share = owners(every, people, with_masks)
    home = np.where(np.isin(owner, [*views]), owner, NOBODY)
    taken = np.flatnonzero(view == home)
    taken = taken[np.lexsort((-areas(every.boxes[taken]), -share[taken].round(2)))]
    left = best_of_each(every.chosen(taken), view[taken], merge_iou)
    taken = taken[left]
    taken = taken[np.argsort(-every.scores[taken], kind="stable")][:most]
    return every.chosen(taken).tied(Persons(people.boxes, people.scores, owner[taken]))


def joined(parts: Sequence[Detections]) -> Detections:
    """One after the other; all are of one photo and one model."""
    first = parts[0]
    shapes = None if first.shapes is None else [shape for part in parts for shape in part.shapes or []]
    return Detections(
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        classes=np.concatenate([part.classes for part in parts]),
        shapes=shapes,
        height=first.height,
        width=first.width,
    )


def owners(garments: Detections, people: Detections, with_masks: bool) -> tuple[Ints, Floats]:
    """Of each garment the person on whom most of it lies, or NOBODY, and the share of it that does.

    Boxes of people overlap, and where two have all of a garment in them, it is the smaller one's.
    """
    if not len(people) or not len(garments):
        return np.full(len(garments), NOBODY, np.int64), np.zeros(len(garments))
    on = contained(shapes_of(garments, with_masks), shapes_of(people, with_masks))
    smallest_first = np.argsort(areas(people.boxes), kind="stable")
    owner = smallest_first[np.argmax(on[:, smallest_first], axis=1)]
    share = on[np.arange(len(garments)), owner]
    return np.where(share >= WORN, owner, NOBODY), share


def best_of_each(garments: Detections, view: Ints, merge_iou: float) -> Bools:
    """Which are left, where those that come later and show the same garment as one before, in another view, go."""
    left = np.ones(len(garments), np.bool_)
    if len(garments) < 2:
        return left
    shapes = shapes_of(garments, garments.has_masks)
    inside = contained(shapes, shapes)
    same = (overlaps(shapes, shapes) > merge_iou) | (np.maximum(inside, inside.T) >= CONTAINED)
    same &= garments.classes[:, None] == garments.classes
    same &= view[:, None] != view
    for index in range(len(garments)):
        if left[index]:
            left[index + 1 :] &= ~same[index, index + 1 :]
    return left


def shapes_of(found: Detections, masks: bool) -> list[Any]:
    """What pycocotools compares: masks as RLE, or boxes as x, y, width, height."""
    if masks:
        return [found.rle(index) for index in range(len(found))]
    x1, y1, x2, y2 = found.boxes.astype(np.float64).T
    return list(np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).tolist())


def overlaps(shapes: list[Any], others: list[Any]) -> Floats:
    """(shapes, others): IoU of each two."""
    return np.asarray(coco_mask.iou(shapes, others, [0] * len(others)), np.float64).reshape(len(shapes), len(others))


def contained(shapes: list[Any], others: list[Any]) -> Floats:
    """(shapes, others): the share of each shape that lies in each of the others, as COCO has it with crowd regions."""
    return np.asarray(coco_mask.iou(shapes, others, [1] * len(others)), np.float64).reshape(len(shapes), len(others))
