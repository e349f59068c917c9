"""COCOeval.accumulate over flat arrays: the same numbers, without an object for each image, class and size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from seamline.evaluation.matching import Matched

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def accumulate(
    matched: Matched, instance_class: Ints, classes: int, recalls: Floats, most: Sequence[int]
) -> tuple[Floats, Floats]:
    """COCOeval's precision (IoU, recall, class, size, detections) and recall (without the second axis).

    Args:
        matched: what was found for each size.
        instance_class: (m,): index of the class of each instance.
        classes: how many classes there are.
        recalls: COCOeval's recThrs.
        most: COCOeval's maxDets: how many detections of a class in an image count.
    """
    sizes, thresholds, _ = matched.instance.shape
    precision = np.full((thresholds, len(recalls), classes, sizes, len(most)), -1.0)
    recall = np.full((thresholds, classes, sizes, len(most)), -1.0)
    bounds = np.searchsorted(matched.ranked.class_index, np.arange(classes + 1))
    for size, ignored in enumerate(matched.ignored):
        instances = np.bincount(instance_class[~ignored], minlength=classes)
        with_none = np.append(ignored, False)  # an instance of -1
        for number in np.flatnonzero(instances).tolist():
            own = slice(bounds[number], bounds[number + 1])
            instance = matched.instance[size][:, own]
            right = (instance >= 0) & ~with_none[instance]
            counted = right | ((instance < 0) & ~matched.outside[size, own])
            for column, limit in enumerate(most):
                chosen = matched.ranked.rank[own] < limit
                for row in range(thresholds):
                    found = precisions_and_recall(right[row, chosen], counted[row, chosen], instances[number], recalls)
                    precision[row, :, number, size, column], recall[row, number, size, column] = found
    return precision, recall


def precisions_and_recall(right: Bools, counted: Bools, instances: int, recalls: Floats) -> tuple[Floats, float]:
    """Precision at each of the recalls, 0 where it is not reached, and the highest recall.

    Args:
        right: (n,): predictions of a class, best first.
        counted: (n,): those that are right or wrong.
        instances: of that class, at least one.
        recalls: ascending.
    """
    predicted = np.cumsum(counted)[right]
    reached = np.arange(1, len(predicted) + 1)
    # Behind a right prediction precision only falls, so that its highest values are at right ones.
    envelope = np.maximum.accumulate((reached / (predicted + np.spacing(1)))[::-1])[::-1]
    at = np.searchsorted(reached / instances, recalls)
    return np.append(envelope, 0.0)[at], len(predicted) / instances
