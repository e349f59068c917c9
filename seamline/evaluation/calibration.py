"""Whether scores mean what they say, and how far they would seem not to by chance alone.

A prediction is right as in curves.py: matched to an instance at IoU 0.5. Even scores that are probabilities are some
way off the share that is right, and further the fewer predictions there are. So the error says nothing without what
chance would give on as many predictions with the same scores.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from seamline.evaluation.average_precision import Floats, Ints, Matches
from seamline.evaluation.curves import right_and_counted

BINS = 10
RELIABILITY_HEADER = ("score_from", "score_to", "predictions", "mean_score", "right")
# Lower scores are left out of the calibration error: hundreds of predictions that nobody is ever shown.
FLOOR = 0.05
SIMULATIONS = 2000
LEVEL = 0.95
STEPS = 1000  # scores that are equal to a thousandth are drawn together: the same to four digits, and quick


class ByChance(NamedTuple):
    """The calibration error of a model whose scores are probabilities, on these predictions."""

    mean: float
    limit: float  # 95% of the simulations are at most this far off


class Calibration(NamedTuple):
    """Whether scores are probabilities; errors are None where nothing is predicted."""

    rows: list[tuple[Any, ...]]  # one a bin of scores, under RELIABILITY_HEADER; None in an empty bin
    error: float | None
    by_chance: ByChance | None


def calibration(matches: Matches, seed: int) -> Calibration:
    """The expected calibration error (Guo et al. 2017), and what chance alone would make of it.

    It is the mean distance between a bin's mean score and its share of right predictions, weighted by predictions, for
    scores of at least FLOOR. See error_by_chance for the other.
    """
    right, counted = right_and_counted(matches)
    chosen = counted & (matches.score >= FLOOR)
    score, hit = matches.score[chosen], right[chosen]
    position = bin_of(score)
    rows: list[tuple[Any, ...]] = []
    distance = 0.0
    for index in range(BINS):
        inside = position == index
        count = int(inside.sum())
        mean, share = (float(score[inside].mean()), float(hit[inside].mean())) if count else (None, None)
        rows.append((max(index / BINS, FLOOR), (index + 1) / BINS, count, rounded(mean), rounded(share)))
        if mean is not None and share is not None:
            distance += count * abs(mean - share)
    error = round(distance / len(score), 6) if len(score) else None
    return Calibration(rows, error, error_by_chance(score, seed))


def error_by_chance(score: Floats, seed: int) -> ByChance | None:
    """The calibration error where each prediction is right with its score as probability, over SIMULATIONS draws.

    The predictions are drawn independently. In truth those of one image depend on each other a little, so that chance
    alone may give somewhat more.

    Args:
        score: (n,) from FLOOR to 1.
        seed: of the random generator.

    Returns:
        None without predictions.
    """
    if not len(score):
        return None
    random = np.random.default_rng(seed)
    position, step = bin_of(score), (score * STEPS).astype(int)
    distance = np.zeros(SIMULATIONS)
    for index in np.unique(position):
        own = score[position == index]
        _, together, counts = np.unique(step[position == index], return_inverse=True, return_counts=True)
        means = np.minimum(np.bincount(together, own) / counts, 1.0)
        distance += np.abs(random.binomial(counts, means, (SIMULATIONS, len(counts))).sum(axis=1) - own.sum())
    errors = distance / len(score)
    return ByChance(round(float(errors.mean()), 6), round(float(np.quantile(errors, LEVEL)), 6))


def bin_of(score: Floats) -> Ints:
    found: Ints = np.minimum((score * BINS).astype(np.int64), BINS - 1)
    return found


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
