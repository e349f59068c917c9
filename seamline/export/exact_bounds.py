"""Bounds of a share that hold for any number of observations, where drawing them again says nothing."""

from __future__ import annotations

from scipy.special import betaincinv

from seamline.evaluation.average_precision import Floats

LEVEL = 0.95  # of each of the two one-sided bounds


def bounds_of_mean(shares: Floats) -> tuple[float, float]:
    """One-sided bounds of a mean of shares, each from 0 to 1, by Clopper and Pearson's formula for counts.

    Of all shares with one mean, those that are 0 or 1 vary most, so that the bounds of counts are safe for others too.
    Unlike drawing again, that says something where nothing was lost: of 59 groups with no loss, at most 0.05 is lost.
    """
    count, total = len(shares), float(shares.sum())
    low = 0.0 if total <= 0 else float(betaincinv(total, count - total + 1, 1 - LEVEL))
    high = 1.0 if total >= count else float(betaincinv(total + 1, count - total, LEVEL))
    return low, high
