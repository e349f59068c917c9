"""Scores as probabilities: the error, and what chance alone would make of it, beside scipy's exact distributions."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from scipy import stats

from seamline.evaluation.average_precision import Matches, average_precision, read_ground_truth
from seamline.evaluation.calibration import FLOOR, ByChance, calibration, error_by_chance
from seamline.masks.rle import mask_to_rle
from tests.conftest import write_dataset
from tests.evaluation.test_average_precision import COCO_IOUS, perfect_results


@pytest.fixture
def truth(tmp_path: Path) -> COCO:
    return read_ground_truth(write_dataset(tmp_path / "in", count=8) / "instances.json")


def matches_of(truth: COCO, results: list[Any]) -> Matches:
    return average_precision(truth, results, "mask", COCO_IOUS).matches


def test_scores_that_are_probabilities_have_no_error(truth: COCO) -> None:
    """Of 16 perfect masks and 16 false alarms, all with score 0.5, half are right; with score 0.9 still half."""
    perfect = [{**record, "score": 0.5} for record in perfect_results(truth)]
    alarms = [{**record, "segmentation": mask_to_rle(np.eye(60, 40, dtype=np.uint8))} for record in perfect]
    rows, error, by_chance = calibration(matches_of(truth, perfect + alarms), 0)
    assert error == 0
    assert rows[5] == (0.5, 0.6, 32, 0.5, 0.5)
    assert [row[2] for row in rows] == [0, 0, 0, 0, 0, 32, 0, 0, 0, 0]
    assert rows[0][:2] == (0.05, 0.1)  # what is below is left out
    assert rows[0][3:] == (None, None)
    assert by_chance is not None and 0 < by_chance.mean < by_chance.limit
    too_sure = [{**record, "score": 0.9} for record in perfect + alarms]
    found = calibration(matches_of(truth, too_sure), 0)
    assert found.error == pytest.approx(0.4)
    assert found.by_chance is not None and found.error is not None and found.error > found.by_chance.limit
    unseen = [{**record, "score": 0.01} for record in perfect]
    assert calibration(matches_of(truth, unseen), 0)[1:] == (None, None)


@pytest.mark.parametrize(("count", "score"), [(1, 0.3), (8, 0.95), (40, 0.55), (2000, 0.85)])
def test_chance_is_the_binomial_distribution_where_all_scores_are_equal(count: int, score: float) -> None:
    found = error_by_chance(np.full(count, score), 0)
    assert found is not None
    right = np.arange(count + 1)
    share, distance = stats.binom.pmf(right, count, score), np.abs(right / count - score)
    assert found.mean == pytest.approx(float(share @ distance), rel=0.05)
    below = float(share[distance < found.limit - 1e-6].sum())
    reached = float(share[distance <= found.limit + 1e-6].sum())
    assert below <= 0.96 and reached >= 0.94


def plain_error(score: Any, right: Any) -> float:
    """The error by its definition, a bin at a time."""
    edges = [FLOOR, *np.arange(1, 10) / 10, 1.01]
    total = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (score >= low) & (score < high)
        total += abs(float((score[inside] - right[inside]).sum()))
    return total / len(score)


def drawn(count: int, seed: int) -> tuple[Any, Any]:
    """Scores as a model gives them, few in the middle, and a generator."""
    random = np.random.default_rng(seed)
    return np.clip(random.beta(0.6, 0.6, count), FLOOR, 1), random


@pytest.mark.parametrize("count", [97, 1500])
def test_chance_is_that_of_predictions_drawn_one_by_one(count: int) -> None:
    score, random = drawn(count, 1)
    errors = [plain_error(score, random.random(count) < score) for _ in range(4000)]
    found = error_by_chance(score, 0)
    assert found is not None
    assert found.mean == pytest.approx(np.mean(errors), rel=0.03)
    assert found.limit == pytest.approx(np.quantile(errors, 0.95), rel=0.05)


def test_one_in_twenty_models_whose_scores_are_probabilities_is_warned_of() -> None:
    score, random = drawn(97, 2)
    found = error_by_chance(score, 0)
    assert found is not None
    beyond = np.mean([plain_error(score, random.random(97) < score) > found.limit for _ in range(2000)])
    assert 0.035 < beyond < 0.065
    too_sure = score**3  # what is right as often as before is said to be rarer
    assert np.mean([plain_error(too_sure, random.random(97) < score) > found.limit for _ in range(200)]) > 0.5


def test_the_same_seed_gives_the_same_limit_and_more_predictions_a_lower_one() -> None:
    score = drawn(100, 3)[0]
    assert error_by_chance(score, 5) == error_by_chance(score, 5) != error_by_chance(score, 6)
    few, many = error_by_chance(score, 5), error_by_chance(np.tile(score, 100), 5)
    assert few is not None and many is not None
    assert many.limit == pytest.approx(few.limit / 10, rel=0.2)
    assert error_by_chance(np.ones(3), 0) == ByChance(0.0, 0.0)
    assert error_by_chance(np.zeros(0), 0) is None


def test_what_counts_is_a_score_of_the_floor_or_more_and_no_crowd(truth: COCO) -> None:
    """The score of a certain prediction lies in the last bin; what lies on a crowd region counts neither way."""
    perfect = [{**record, "score": FLOOR} for record in perfect_results(truth)]
    assert [row[2] for row in calibration(matches_of(truth, perfect), 0).rows] == [len(perfect)] + [0] * 9
    sure = [{**record, "score": 1.0} for record in perfect]
    assert calibration(matches_of(truth, sure), 0).rows[-1] == (0.9, 1.0, len(perfect), 1.0, 1.0)
    for record in truth.dataset["annotations"][:3]:
        record["iscrowd"] = 1
    assert calibration(matches_of(truth, sure), 0).rows[-1][2] == len(perfect) - 3
