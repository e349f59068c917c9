"""The benchmark's figures of speed: percentiles, medians, and how far another run may lie."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from seamline.benchmark.figures import (
    interval_of_another_run,
    measurements_to_latency,
    measurements_to_pace,
    measurements_to_throughput,
    median_interval,
)
from seamline.benchmark.timing import PROFILES, Measurement


def test_latencies_are_percentiles_of_all_rounds() -> None:
    turns = [
        Measurement(0.5, 50, [float(value) for value in range(1, 51)], [(1, 2, 3)] * 50),
        Measurement(1.0, 50, [float(value) for value in range(51, 101)], [(3, 4, 5)] * 50),
        Measurement(2.0, 50, [50.5] * 50, [(2, 3, 4)] * 50),
    ]
    figures = measurements_to_latency(turns)
    assert figures["latency_ms"] == {"p50": 50.5, "p90": 85.1, "p99": 98.51}
    assert (figures["preprocess_ms"], figures["inference_ms"], figures["postprocess_ms"]) == (2, 3, 4)
    assert figures["queries"] == 150


def test_throughput_is_the_median_rounds() -> None:
    figures = measurements_to_throughput([Measurement(0.5, 50), Measurement(1.0, 50), Measurement(2.0, 50)])
    assert figures["throughput_img_s"] == 50
    assert figures["throughput_spread"] == 1.2  # 10th and 90th percentile of 25, 50, 100 are 30 and 90
    assert (figures["rounds"], figures["images_timed"]) == (3, 150)
    assert figures["throughput_rounds_img_s"] == [100, 50, 25]
    assert figures["throughput_interval_img_s"] is None  # three rounds say nothing of another run


def drifting(random: np.random.Generator, stays: float) -> list[float]:
    """Rounds on a machine that keeps this share of its pace from one to the next, as shared ones do."""
    pace = random.normal(0, 2 / (1 - stays**2) ** 0.5)
    values = []
    for _ in range(PROFILES["quick"].rounds):
        pace = stays * pace + random.normal(0, 2)
        values.append(1000 + pace + random.normal(0, 2))
    return values


@pytest.mark.parametrize(("stays", "holds", "plainly"), [(0, 0.97, 0.9), (0.8, 0.9, 0.55), (0.95, 0.65, 0.35)])
def test_an_interval_holds_the_median_of_another_run(stays: float, holds: float, plainly: float) -> None:
    """How often, as docs/benchmark.md says, and how much less often the usual interval of a median does."""
    random = np.random.default_rng(0)
    inside = plain = 0
    for _ in range(300):
        values, other = drifting(random, stays), float(np.median(drifting(random, stays)))
        low, high = interval_of_another_run(values) or (0, 0)
        assert low <= float(np.median(values)) <= high
        inside += low <= other <= high
        draws = np.median(random.choice(values, (200, len(values))), axis=1)
        plain += bool(np.percentile(draws, 2.5) <= other <= np.percentile(draws, 97.5))
    assert inside / 300 > holds
    assert plain / 300 < plainly


def test_too_few_rounds_have_no_range_and_equal_ones_a_point() -> None:
    for count in (1, 2, 5):
        assert interval_of_another_run([3.0] * count) is None
        assert median_interval([3.0] * count) is None
    assert interval_of_another_run([5.0] * 12) == [5.0, 5.0]
    assert median_interval([5.0] * 6) == (5.0, 5.0)


def test_a_disturbed_machine_has_a_wide_range_but_none_that_begins_at_0() -> None:
    low, high = interval_of_another_run([100.0, 3.0, 90.0, 1.0, 80.0, 100.0]) or (0, 0)
    assert 0 < low < 85 < high
    assert low * high == pytest.approx(85**2, rel=1e-2)  # so many times slower or faster


@pytest.mark.parametrize("count", [6, 7, 16, 30, 101])
def test_the_interval_of_a_median_is_that_of_its_ranks(count: int) -> None:
    """scipy's binomial distribution: how many of so many values lie below the median."""
    values = np.random.default_rng(count).permutation(count).tolist()
    low, high = median_interval(values) or (0, 0)
    rank = int(low) + 1
    assert high == count - rank
    assert 1 - 2 * scipy.stats.binom.cdf(rank - 1, count, 0.5) >= 0.95
    assert 1 - 2 * scipy.stats.binom.cdf(rank, count, 0.5) < 0.95  # the next ranks would be too close


@pytest.mark.parametrize("distribution", ["norm", "expon", "cauchy", "lognorm"])
def test_the_interval_of_a_median_holds_it_whatever_the_values_are(distribution: str) -> None:
    family = getattr(scipy.stats, distribution)(*([1.5] if distribution == "lognorm" else []))
    drawn = family.rvs((2000, 16), random_state=np.random.default_rng(0))
    spans = [median_interval(values) or (0, 0) for values in drawn]
    held = float(np.mean([low <= family.median() <= high for low, high in spans]))
    assert held == pytest.approx(1 - 2 * scipy.stats.binom.cdf(3, 16, 0.5), abs=0.012)  # 97.9%


def of_ten(*walls_s: float) -> list[Measurement]:
    return [Measurement(wall_s, 10) for wall_s in walls_s]


def test_the_pace_is_what_all_rows_share() -> None:
    slow = {"a": of_ten(1, 2, 1), "b": of_ten(3, 6, 3)}
    assert measurements_to_pace((slow,)) == [1, 2, 1]
    alone = {"a": of_ten(1, 9, 1), "b": of_ten(3, 3, 3), "c": of_ten(5, 5, 5)}
    assert measurements_to_pace((alone,)) == [1, 1, 1]
    assert measurements_to_pace((alone, alone)) == [1, 1, 1]
    assert measurements_to_pace((alone, slow, slow)) == [1, 2, 1]
