"""What the seeds of several models say together: their mean with its interval, and whether two of them differ."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seamline.base.coco import Record
from seamline.benchmark.figures import median_interval
from seamline.evaluation.average_precision import Floats
from seamline.evaluation.bootstrap import FEWEST, groups_showing, interval, interval_of_difference, mean_of_classes
from seamline.evaluation.measure import MEASURES, Measured, of_measure
from seamline.evaluation.seed_limits import is_beyond, over_seeds

MAIN = "mAP50_95"  # what differences are judged by


class Figures(NamedTuple):
    """One model on test: a figure of each seed, and how far other photos would move it."""

    model: str
    seeds: list[float]
    draws: Floats  # (samples,): the mean over the seeds, on test sets that every model gets alike
    groups: int  # of photos that show an instance


def summary_of_seeds(measured: Sequence[Measured], measure: str) -> Record | None:
    """The mean over the seeds with its interval over photos, and the range over the seeds; None: nothing to measure.

    Args:
        measured: each seed's model on the same photos.
        measure: one of MEASURES.
    """
    values = [one.summary[measure] for one in measured]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    left_out = np.mean([mean_of_classes(of_measure(one.left_out, measure)) for one in measured], axis=0)
    mean, first = float(np.mean(known)), measured[0]
    return {
        "mean": round(mean, 6),
        "interval": interval(left_out, groups_showing(first.matches, first.groups), mean),
        "range": [round(min(known), 6), round(max(known), 6)],
    }


def summaries(tests: Sequence[dict[str, Measured]]) -> dict[str, Record | None]:
    """Of every kind of shapes and measure, such as test_mask_mAP50_95."""
    return {
        f"test_{kind}_{measure}": summary_of_seeds([one[kind] for one in tests], measure)
        for kind in tests[0]
        for measure in MEASURES
    }


def figures_of(model: str, measured: Sequence[Measured]) -> Figures:
    draws = np.mean([mean_of_classes(of_measure(one.samples, MAIN)) for one in measured], axis=0)
    first = measured[0]
    seeds = [one.summary[MAIN] or 0.0 for one in measured]
    return Figures(model, seeds, draws, groups_showing(first.matches, first.groups))


def differences(models: Sequence[Figures], kind: str) -> list[Record]:
    """Of each pair of models, the second minus the first, paired over the photos."""
    return [difference_of(first, other, kind) for first, other in itertools.combinations(models, 2)]


def difference_of(first: Figures, other: Figures, kind: str) -> Record:
    """Of the means over the seeds. It is known where neither photos nor seeds nor both together explain it."""
    difference = float(np.mean(other.seeds) - np.mean(first.seeds))
    span = interval_of_difference(other.draws - first.draws, first.groups, difference)
    seeds = over_seeds(first.seeds, other.seeds)
    if seeds is None:
        raise ValueError("one training of each says nothing about seeds")
    known = span is not None and difference != 0 and is_beyond(seeds, difference, span)
    return {
        "first": first.model,
        "other": other.model,
        "difference": round(difference, 6),
        "interval": span,
        "limit_of_seeds": round(seeds.limit, 6),
        "known": known,
        "says": difference_to_sentence(first, other, difference, span, seeds.limit, known, kind),
    }


def difference_to_sentence(
    first: Figures, other: Figures, difference: float, span: list[float] | None, limit: float, known: bool, kind: str
) -> str:
    """What may be said of two models."""
    pair, measure = f"{first.model} and {other.model}", f"{kind} mAP50-95"
    if difference == 0:
        return f"{pair} are equal: both have a mean {measure} of {np.mean(first.seeds):.3f}."
    if span is None:
        why = f"{first.groups} groups of test photos, and an interval needs {FEWEST}"
        if first.groups >= FEWEST:
            why = "every drawn test set gives the same difference"
        return f"Which of {pair} is better is not known: {why}."
    better, worse = (other, first) if difference > 0 else (first, other)
    low, high = span if difference > 0 else (-span[1], -span[0])
    if known:
        return (
            f"{better.model} is better than {worse.model}: its mean {measure} is higher by {abs(difference):.3f} "
            f"({low:.3f} to {high:.3f} with other photos), and seeds do not explain it."
        )
    between = f"{abs(difference):.3f} in favour of {better.model}"
    if low <= 0:
        return (
            f"No difference is known between {pair}: it is {between}, and with other photos it could be anything "
            f"from {low:+.3f} to {high:+.3f}."
        )
    return (
        f"No difference is known between {pair}: it is {between}, and other seeds and photos together may explain it "
        f"(seeds alone up to {limit:.3f})."
    )


def speed_ratios(rounds: Sequence[tuple[str, Sequence[float]]]) -> list[Record]:
    """How many times as fast the second of each pair is, round by round, in which all took turns.

    Args:
        rounds: of each model the images a second of every round.
    """
    found = []
    for (first, ours), (other, theirs) in itertools.combinations(rounds, 2):
        ratios = np.array(theirs) / np.array(ours)
        span = median_interval(ratios.tolist())
        found.append(
            {
                "first": first,
                "other": other,
                "ratio": round(float(np.median(ratios)), 4),
                "interval": None if span is None else [round(value, 4) for value in span],
                "says": ratio_to_sentence(first, other, float(np.median(ratios)), span),
            }
        )
    return found


def ratio_to_sentence(first: str, other: str, ratio: float, span: tuple[float, float] | None) -> str:
    if span is None:
        return f"{other} had {ratio:.2f} times the throughput of {first}; there were too few rounds for an interval."
    low, high = span
    if low <= 1 <= high:
        return f"No difference in speed is known between {first} and {other}: {low:.2f} to {high:.2f} times as fast."
    faster, slower = (other, first) if low > 1 else (first, other)
    times = sorted((low, high)) if low > 1 else sorted((1 / low, 1 / high))
    return f"{faster} is {times[0]:.2f} to {times[1]:.2f} times as fast as {slower}."
