"""Confidences that are probabilities, and below which of them a value is not named: both are chosen on val."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from seamline.attributes.labelled import MISSING, Ints

Floats = npt.NDArray[np.floating]
HIGHEST = 20.0  # and its inverse: between which temperatures are looked for
DECIMALS = 4  # of temperatures
FEWEST = 20  # garments above a threshold, of which the accuracy says something


class Abstaining(NamedTuple):
    """What a threshold does to garments whose label is known."""

    threshold: float | None  # None: a value is always named
    named: int  # of them, as many as are named
    coverage: float | None  # share of them; None where there are none
    accuracy: float | None  # of those that are named


def log_loss(logits: Floats, labels: Ints, temperature: float = 1.0) -> float | None:
    """The mean of -log p of the right value over the labels that are there; None where there are none."""
    there = labels != MISSING
    if not there.any():
        return None
    found = log_softmax(logits[there].astype(np.float64) / temperature, axis=1)
    return float(-found[np.arange(len(found)), labels[there]].mean())


def find_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature of least log-loss (Guo et al. 2017, On calibration of modern neural networks).

    Args:
        logits: (n, values) of one attribute, on val.
        labels: (n,) index of the value, or MISSING; without a label the temperature is 1.
    """
    if not (labels != MISSING).any():
        return 1.0

    def loss(logarithm: float) -> float:
        return log_loss(logits, labels, math.exp(logarithm)) or 0.0

    limit = math.log(HIGHEST)
    found = minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-5})
    temperature: float = math.exp(found.x)
    return round(temperature, DECIMALS)


def find_threshold(logits: Floats, labels: Ints, temperature: float, target_accuracy: float) -> float | None:
    """The lowest confidence from which on predictions are as often right as is wanted: the most garments are named.

    None where a value may always be named, and where no threshold with FEWEST garments above it reaches the accuracy;
    `abstaining` on val tells the two apart.

    Args:
        logits, labels: as for find_temperature.
        target_accuracy: of the garments that are named.
    """
    confidence, right = confidences(logits, labels, temperature)
    order = np.argsort(-confidence, kind="stable")
    confidence, right = confidence[order], right[order]
    accuracy = np.cumsum(right) / np.arange(1, len(right) + 1)
    ends = np.append(confidence[1:] < confidence[:-1], True) if len(right) else np.zeros(0, bool)  # of equal ones
    enough = np.flatnonzero(ends & (accuracy >= target_accuracy) & (np.arange(1, len(right) + 1) >= FEWEST))
    if not len(enough) or enough[-1] == len(right) - 1:
        return None
    last = enough[-1]
    return float(confidence[last] + confidence[last + 1]) / 2


def confidences(
    logits: Floats, labels: Ints, temperature: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Of the garments whose label is there: the probability of the likeliest value, and whether it is right."""
    there = labels != MISSING
    probabilities = softmax(logits[there].astype(np.float64) / temperature, axis=1)
    right = probabilities.argmax(axis=1) == labels[there]
    return probabilities.max(axis=1, initial=0.0), right


def abstaining(logits: Floats, labels: Ints, temperature: float, threshold: float | None) -> Abstaining:
    confidence, right = confidences(logits, labels, temperature)
    named = confidence >= (0.0 if threshold is None else threshold)
    count = int(named.sum())
    return Abstaining(
        threshold,
        count,
        count / len(named) if len(named) else None,
        float(right[named].mean()) if count else None,
    )
