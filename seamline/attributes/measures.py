"""What attributes are measured by: confusion, and accuracy, precision, recall and F1 from it.

A confusion is (..., values, values), actual by predicted; leading axes are other draws of the same garments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seamline.attributes.labelled import MISSING, Ints

Floats = npt.NDArray[np.float64]


class PerValue(NamedTuple):
    """(..., values) each; NaN where nothing was predicted (precision), there (recall), or either (f1)."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Floats


def labels_to_confusion(labels: Ints, predicted: Ints, size: int, weights: Ints | None = None) -> Floats:
    """How often each value was taken for each, among the garments whose label is there.

    Args:
        labels, predicted: (n,) index of the value, labels also MISSING; a garment that was not found is predicted
            MISSING and counts as taken for none: it stands in a last column.
        size: how many values there are.
        weights: (draws, n): how often each garment counts; None: once.

    Returns:
        (size, size + 1), or (draws, size, size + 1).
    """
    there = labels != MISSING
    cells = labels[there] * (size + 1) + np.where(predicted[there] == MISSING, size, predicted[there])
    shape = (size, size + 1)
    if weights is None:
        return np.bincount(cells, minlength=size * (size + 1)).reshape(shape).astype(np.float64)
    one_hot = np.zeros((len(cells), size * (size + 1)))
    one_hot[np.arange(len(cells)), cells] = 1
    found: Floats = (weights[:, there] @ one_hot).reshape(len(weights), *shape)
    return found


def accuracy(confusion: Floats) -> Floats:
    """Share of right ones; NaN without a garment."""
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return ratio(right, confusion.sum((-2, -1)))


def per_value(confusion: Floats) -> PerValue:
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    support = confusion.sum(-1)
    predicted = confusion.sum(-2)[..., : confusion.shape[-2]]
    return PerValue(ratio(right, predicted), ratio(right, support), ratio(2 * right, support + predicted), support)


def macro_f1(confusion: Floats) -> Floats:
    """The mean F1 of the values that occur among labels or predictions, as scikit-learn takes it; NaN without any."""
    f1 = per_value(confusion).f1
    there = ~np.isnan(f1)
    return ratio(np.where(there, f1, 0).sum(-1), there.sum(-1).astype(np.float64))


def ratio(part: Floats, whole: Floats) -> Floats:
    """NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1e-12), np.nan)


def columns_of(logits: npt.NDArray[np.floating], sizes: Sequence[int]) -> Iterator[npt.NDArray[np.floating]]:
    """The outputs of each attribute, of all (n, outputs)."""
    start = 0
    for size in sizes:
        yield logits[:, start : start + size]
        start += size


def mean_macro_f1(logits: npt.NDArray[np.floating], labels: Ints, sizes: Sequence[int]) -> float:
    """The mean over the attributes that have a label; 0 where none has."""
    values = [
        float(macro_f1(labels_to_confusion(labels[:, column], own.argmax(axis=1), sizes[column])))
        for column, own in enumerate(columns_of(logits, sizes))
    ]
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else 0.0
