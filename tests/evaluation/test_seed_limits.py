"""The limit of seeds is the t-test's, beside scipy's tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from seamline.evaluation.seed_limits import is_beyond, limit_between, over_seeds


@pytest.mark.parametrize(("ours", "theirs"), [(2, 1), (3, 1), (1, 3), (3, 3), (2, 5), (10, 10)])
def test_it_is_exceeded_where_scipy_finds_a_difference(ours: int, theirs: int) -> None:
    random = np.random.default_rng([ours, theirs])
    beyond = 0
    for _ in range(200):
        first, other = random.normal(0, 1, ours), random.normal(1, 1, theirs)
        found = over_seeds(first.tolist(), other.tolist())
        assert found is not None and found[:2] == (ours, theirs)
        # A line through two places has the t-test's p-value, with a single value at one of them too.
        p = stats.linregress(np.repeat([0, 1], [ours, theirs]), np.concatenate([first, other])).pvalue
        assert (abs(found.difference) > found.limit) == (p < 0.05)
        if ours > 1 and theirs > 1:
            assert p == pytest.approx(stats.ttest_ind(first, other).pvalue)
        assert found.difference == pytest.approx(other.mean() - first.mean())
        beyond += abs(found.difference) > found.limit
    assert 0 < beyond <= 200


def test_three_seeds_and_a_training_are_five_standard_deviations() -> None:
    values = [0.65, 0.66, 0.67]
    assert limit_between(values, [0.9]) == pytest.approx(stats.t.ppf(0.975, 2) * 0.01 * np.sqrt(4 / 3))
    assert limit_between(values, [0.9]) == limit_between(values, [0.1])
    assert limit_between(values, [0.9]) == pytest.approx(0.0497, abs=1e-4)


def test_one_training_of_each_says_nothing_about_seeds() -> None:
    assert over_seeds([0.5], [0.9]) is None
    found = over_seeds([0.5, 0.5], [0.9])
    assert found is not None and found.difference == pytest.approx(0.4) and found.limit == 0


def test_photos_and_seeds_add_up_as_independent_errors() -> None:
    found = over_seeds([0.65, 0.66, 0.67], [0.76])
    assert found is not None
    assert is_beyond(found, 0.1, [0.02, 0.13])  # 0.1 beside hypot(0.08, 0.0497) = 0.094
    assert not is_beyond(found, 0.1, [0.01, 0.13])  # 0.103
    assert not is_beyond(found, -0.1, [-0.1, -0.1])  # of the two trainings compared the other one was better
    assert is_beyond(found._replace(difference=-0.1), -0.1, [-0.13, -0.02])
