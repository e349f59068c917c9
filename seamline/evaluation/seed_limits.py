"""How far the results of two experiments have to lie apart for it not to be the seeds' doing.

Trainings that differ in nothing but the seed give results that vary. Two experiments without any difference would seem
to differ for that reason alone; the limit here is exceeded by one in twenty of them (Student's t-test with a common
variance), however few seeds there are, because it grows with what few seeds do not know: with three seeds against one
training it is 5 standard deviations, with ten against ten 0.9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

FALSE_ALARMS = 0.05  # share of pairs of equal experiments that seem to differ


class OverSeeds(NamedTuple):
    """What the seeds of two experiments say about their difference."""

    first: int  # how many trainings of the first experiment
    other: int
    difference: float  # of the means, the other's minus the first's
    limit: float  # seeds alone would exceed it in 5% of cases


def over_seeds(first: Sequence[float], other: Sequence[float]) -> OverSeeds | None:
    """The difference of two experiments' means, and its limit.

    Args:
        first: a figure of each training of the first experiment, which differ by their seed.
        other: the same of the other experiment.

    Returns:
        None for one training of each, which say nothing about how far seeds alone differ.
    """
    if len(first) + len(other) < 3:
        return None
    difference = float(np.mean(other) - np.mean(first))
    return OverSeeds(len(first), len(other), difference, limit_between(first, other))


def limit_between(first: Sequence[float], other: Sequence[float]) -> float:
    """t(0.975, m + n - 2) * s * sqrt(1/m + 1/n) with the pooled standard deviation s; three trainings or more in all.

    A single new training of the second experiment is `other` with one value, whatever it is: it adds nothing to s.
    """
    freedom = len(first) + len(other) - 2
    squares = sum(float(np.sum((np.array(values) - np.mean(values)) ** 2)) for values in (first, other))
    deviation = math.sqrt(squares / freedom)
    return float(stdtrit(freedom, 1 - FALSE_ALARMS / 2)) * deviation * math.sqrt(1 / len(first) + 1 / len(other))


def is_beyond(found: OverSeeds, difference: float, interval: Sequence[float]) -> bool:
    """Whether neither photos nor seeds nor both together explain a difference.

    The interval that other photos give and the limit that seeds give add up as independent errors do. Two separate
    tests would give false alarms in up to 11 of 100 cases, because the same photos go into every seed's figure.

    Args:
        found: what the seeds say.
        difference: of the two trainings that were compared on the photos, not 0.
        interval: its 95% interval.
    """
    towards_zero = difference - interval[0] if difference > 0 else interval[1] - difference
    beyond = abs(found.difference) > math.hypot(found.limit, towards_zero)
    return beyond and (found.difference > 0) == (difference > 0)
