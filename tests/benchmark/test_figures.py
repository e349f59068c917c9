"""The benchmark's figures of speed: percentiles, medians, and how far another run may lie."""

from __future__ import annotations

import numpy as np
import pytest

from seamline.benchmark.figures import (
    interval_of_another_run,
    measurements_to_latency,
    measurements_to_pace,
    measurements_to_throughput,
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
    low, high = figures["throughput_interval_img_s"]
    assert low <= 50 <= high


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
        low, high = interval_of_another_run(values)
        assert low <= float(np.median(values)) <= high
        inside += low <= other <= high
        draws = np.median(random.choice(values, (200, len(values))), axis=1)
        plain += bool(np.percentile(draws, 2.5) <= other <= np.percentile(draws, 97.5))
    assert inside / 300 > holds
    assert plain / 300 < plainly


def test_an_interval_of_one_round_is_its_value_and_of_equal_ones_a_point() -> None:
    assert interval_of_another_run([3.0]) == [3.0, 3.0]
    assert interval_of_another_run([5.0] * 12) == [5.0, 5.0]
    assert interval_of_another_run([1.0, 100.0])[0] == 0.0  # no image takes less than no time


def of_ten(*walls_s: float) -> list[Measurement]:
    return [Measurement(wall_s, 10) for wall_s in walls_s]


def test_the_pace_is_what_all_rows_share() -> None:
    slow = {"a": of_ten(1, 2, 1), "b": of_ten(3, 6, 3)}
    assert measurements_to_pace((slow,)) == [1, 2, 1]
    alone = {"a": of_ten(1, 9, 1), "b": of_ten(3, 3, 3), "c": of_ten(5, 5, 5)}
    assert measurements_to_pace((alone,)) == [1, 1, 1]
    assert measurements_to_pace((alone, alone)) == [1, 1, 1]
    assert measurements_to_pace((alone, slow, slow)) == [1, 2, 1]
