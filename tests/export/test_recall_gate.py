"""INT8's gate on recall: neighbours counted by hand, bounds beside scipy's and a simulation, three outcomes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest

from seamline.evaluation.average_precision import Floats
from seamline.export.exact_bounds import bounds_of_mean
from seamline.export.recall_gate import AMONG, Lost, lost_to_record, measure_lost, outcome_of, outcome_to_sentence


def unit(vectors: Floats) -> npt.NDArray[np.float32]:
    made: npt.NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def test_a_garment_is_lost_if_its_nearest_is_not_among_the_ten_nearest() -> None:
    rng = np.random.default_rng(0)
    reference = unit(rng.standard_normal((60, 8)))
    reference[1::2] = unit(reference[::2] + 0.02 * rng.standard_normal((30, 8)))  # nearest, but of one photo
    found = unit(reference + 0.9 * rng.standard_normal((60, 8)))
    photos, groups = np.arange(60) // 2, np.arange(60) // 6
    lost = []
    for index in range(60):
        others = [one for one in range(60) if photos[one] != photos[index]]
        nearest = max(others, key=lambda one: reference[index] @ reference[one])
        ten = sorted(others, key=lambda one: -(found[index] @ found[one]))[:AMONG]
        lost.append(nearest not in ten)
    measured = measure_lost(reference, found, photos, groups)
    assert 0.05 < float(np.mean(lost)) < 0.95
    assert measured.value == pytest.approx(np.mean(lost))
    assert (measured.garments, measured.groups) == (60, 10)
    assert measure_lost(reference, reference, photos, groups).value == 0


def test_groups_count_alike_whatever_their_size() -> None:
    reference = unit(np.random.default_rng(1).standard_normal((30, 4)))
    found = reference.copy()
    found[29] = -found[29]
    photos, groups = np.arange(30), np.array([0] * 29 + [1])
    measured = measure_lost(reference, found, photos, groups)
    assert measured.value is not None
    assert 0.5 <= measured.value < 0.7  # the last garment's group is half of all


def test_of_counts_the_bounds_are_clopper_and_pearsons() -> None:
    for lost, groups in ((0, 59), (3, 40), (40, 40), (1, 2)):
        shares = np.array([1.0] * lost + [0.0] * (groups - lost))
        interval = binomtest(lost, groups).proportion_ci(0.9)
        assert bounds_of_mean(shares) == pytest.approx((interval.low, interval.high), abs=1e-6)
    assert bounds_of_mean(np.zeros(59))[1] == pytest.approx(0.05, abs=0.001)


@pytest.mark.parametrize(("alpha", "beta"), [(0.05, 0.95), (0.2, 3.8), (2.0, 38.0)])
def test_of_shares_each_bound_is_wrong_in_at_most_five_of_a_hundred_cases(alpha: float, beta: float) -> None:
    rng, true = np.random.default_rng(2), alpha / (alpha + beta)
    bounds = np.array([bounds_of_mean(rng.beta(alpha, beta, 40)) for _ in range(1500)])
    assert (bounds[:, 1] < true).mean() < 0.05 + 0.015
    assert (bounds[:, 0] > true).mean() < 0.05 + 0.015


def test_three_outcomes() -> None:
    known = [(Lost(0.01, 0.0, 0.04, 90, 80), "accepted"), (Lost(0.2, 0.1, 0.3, 90, 80), "refused")]
    known += [
        (Lost(0.08, 0.02, 0.2, 90, 80), "not known"),
        (Lost(0.02, 0.0, 0.1, 90, 80), "not known"),
        (Lost(None, 0.0, 1.0, 1, 1), "not known"),
    ]
    for lost, outcome in known:
        assert outcome_of(lost, 0.05) == outcome
        record = lost_to_record(lost, "all layers", "int8", 0.05)
        sentence = outcome_to_sentence([record], "val", 0.05)
        assert {"accepted": "is accepted", "refused": "loses more than", "not known": "is not known"}[
            outcome
        ] in sentence
    record = lost_to_record(Lost(0.0, 0.0, 0.01, 90, 80), "all layers", "f32", 0.05)
    assert record["outcome"] == "refused"
    assert outcome_to_sentence([record], "val", 0.05) == "There is no INT8 embedder: the quantiser left nothing INT8."


def test_garments_of_one_photo_alone_say_nothing() -> None:
    vectors = unit(np.random.default_rng(3).standard_normal((4, 5)))
    assert measure_lost(vectors, vectors, np.zeros(4, np.int64), np.zeros(4, np.int64)).value is None
    assert measure_lost(vectors[:0], vectors[:0], np.zeros(0, np.int64), np.zeros(0, np.int64)).value is None
