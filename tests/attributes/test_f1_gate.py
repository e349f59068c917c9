"""INT8's gate on macro F1: the drop beside scikit-learn's, three outcomes, and bounds where nothing has changed."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from seamline.attributes.exporting import (
    Gate,
    check_agreement,
    drop_to_record,
    mean_f1,
    measure_drop,
    most_lost,
    outcome_to_sentence,
)
from seamline.attributes.labelled import MISSING
from seamline.attributes.measures import labels_to_confusion
from seamline.base.errors import SeamlineError
from seamline.export.quantising import FULL
from seamline.models.exported import ACCEPTED, NOT_KNOWN, REFUSED


def gate(count: int, seed: int = 0) -> tuple[Gate, np.ndarray]:
    """Labels of two attributes, and outputs that are right in nine of ten cases."""
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.integers(0, 3, count), rng.integers(0, 2, count)], axis=1)
    logits = rng.normal(0, 1, (count, 5)).astype(np.float32)
    for column, start in ((0, 0), (1, 3)):
        right = rng.random(count) < 0.9
        logits[right, start + labels[right, column]] += 9
    return Gate(labels, np.arange(count), [3, 2], logits), logits


def test_the_gate_has_three_outcomes() -> None:
    truth, logits = gate(300)
    worse, other = logits.copy(), logits.copy()
    worse[:150] = np.roll(worse[:150], 1, axis=1)
    rng = np.random.default_rng(1)
    few = rng.choice(300, 12, replace=False)
    other[few] = np.roll(other[few], 1, axis=1)
    outcomes = [
        drop_to_record(FULL, measure_drop(found, truth), "int8", most)["outcome"]
        for found, most in ((other, 0.1), (worse, 0.02), (other, 0.03))
    ]
    assert outcomes == [ACCEPTED, REFUSED, NOT_KNOWN]
    small, found = gate(30)
    found = np.roll(found, 1, axis=1)
    rung = drop_to_record(FULL, measure_drop(found, small), "int8", 0.02)
    assert rung["outcome"] == NOT_KNOWN and rung["interval"] is None
    assert "only 30 groups" in outcome_to_sentence(rung, 0.02)
    assert drop_to_record(FULL, measure_drop(logits, truth), "f32", 0.5)["outcome"] == REFUSED  # nothing is INT8


def test_the_drop_is_scikit_learns_difference() -> None:
    truth, logits = gate(200)
    found = logits.copy()
    found[:40] = np.roll(found[:40], 1, axis=1)
    wanted = []
    for one in (logits, found):
        scores = [
            metrics.f1_score(truth.labels[:, column], one[:, own].argmax(axis=1), average="macro")
            for column, own in ((0, slice(0, 3)), (1, slice(3, 5)))
        ]
        wanted.append(np.mean(scores))
    drop = measure_drop(found, truth)
    assert drop.value == pytest.approx(wanted[0] - wanted[1])
    assert drop.value is not None and drop.interval is not None
    assert drop.interval[0] < drop.value < drop.interval[1]


def test_what_few_garments_lose_may_be_more_rather_than_less() -> None:
    truth, logits = gate(300)
    found = logits.copy()
    found[:6] = np.roll(found[:6], 1, axis=1)
    drop = measure_drop(found, truth)
    assert drop.value is not None and drop.interval is not None
    low, high = drop.interval
    assert high - drop.value > 1.3 * (drop.value - low) > 0


def test_an_attribute_counts_where_it_has_labels() -> None:
    truth, logits = gate(60)
    truth.labels[20:, 1] = MISSING
    truth.labels[50:] = MISSING
    assert measure_drop(np.roll(logits, 1, axis=1), truth).groups == 50
    weights = np.repeat([[0], [1]], [20, 40]).reshape(1, 60)  # a draw in which the second one has none
    wanted = metrics.f1_score(truth.labels[20:50, 0], logits[20:50, :3].argmax(axis=1), average="macro")
    assert mean_f1(logits, truth, weights) == pytest.approx([wanted])


def balanced(count: int) -> tuple[Gate, np.ndarray]:
    """One attribute of two values, as many garments of each, all of them named rightly."""
    labels = np.arange(count)[:, None] % 2
    logits = np.where(labels == [0, 1], np.float32(3), np.float32(-3))
    return Gate(labels, np.arange(count), [2], logits), logits


@pytest.mark.parametrize(("count", "outcome"), [(20, NOT_KNOWN), (100, NOT_KNOWN), (400, ACCEPTED)])
def test_where_nothing_changes_the_bound_is_that_of_counts(count: int, outcome: str) -> None:
    truth, logits = balanced(count)
    drop = measure_drop(logits + np.float32(0.01), truth)
    share = binomtest(0, count).proportion_ci(0.9).high
    assert drop.value == 0 and drop.interval is not None
    # Of two values that are equally frequent, a share that is named otherwise costs that share of macro F1.
    assert drop.interval == pytest.approx([-share, share], rel=0.02)
    rung = drop_to_record(FULL, drop, "int8", 0.02)
    assert rung["outcome"] == outcome
    said = outcome_to_sentence(rung, 0.02)
    assert f"costs nothing measurable (-{share:.2f}"[:-1] in said
    assert ("more garments on val would tell more" in said) == (outcome == NOT_KNOWN)


def test_garments_of_one_group_or_without_a_label_tell_nothing_more() -> None:
    truth, logits = balanced(400)
    pairs = measure_drop(logits, truth._replace(groups=truth.groups // 4))
    labels = np.where(np.arange(400)[:, None] < 100, truth.labels, MISSING)
    fewer, changed = truth._replace(labels=labels), logits.copy()
    changed[100:] = -changed[100:]  # of which nobody knows what is right
    alone = measure_drop(balanced(100)[1], balanced(100)[0])
    assert pairs.interval == pytest.approx(alone.interval, rel=0.03)
    assert measure_drop(changed, fewer).interval == alone.interval
    two = Gate(np.hstack([truth.labels, labels]), truth.groups, [2, 2], np.hstack([logits, logits]))
    highest = [one.interval[1] for one in (measure_drop(logits, truth), alone) if one.interval is not None]
    assert measure_drop(two.reference, two).interval == pytest.approx([-np.mean(highest), np.mean(highest)], abs=1e-5)
    assert measure_drop(logits, truth._replace(labels=np.full((400, 1), MISSING))).interval is None


def test_as_much_agreement_as_is_asked_for_is_enough() -> None:
    check_agreement("onnx", {"agreement": 1.0}, 1.0)
    with pytest.raises(SeamlineError, match=r"onnx: names the same value as PyTorch in only 98\.90% of cases"):
        check_agreement("onnx", {"agreement": 0.989}, 0.99)


def f1(values: list[str], named: list[str]) -> float:
    """Macro F1, counted in the plainest way; scikit-learn's takes a millisecond."""
    pairs = list(zip(values, named, strict=True))
    return float(np.mean([2 * pairs.count((one, one)) / (values.count(one) + named.count(one)) for one in set(values)]))


def test_what_is_lost_at_most_is_what_all_ways_of_naming_a_few_otherwise_cost_at_most() -> None:
    values = ["a"] * 3 + ["b"] * 4 + ["c"] * 6
    named = [*values[:-1], "b"]
    labels, predicted = (np.array(["abc".index(one) for one in own]) for own in (values, named))
    before = f1(values, named)
    assert before == pytest.approx(metrics.f1_score(values, named, average="macro"))
    for count in (1, 2):
        worst = 0.0
        for chosen in combinations(range(len(values)), count):
            for new in product("abc", repeat=count):
                other = list(named)
                for at, name in zip(chosen, new, strict=True):
                    other[at] = name
                worst = max(worst, before - f1(values, other))
        found = most_lost(labels_to_confusion(labels, predicted, 3), count / len(values))
        assert found == pytest.approx(worst)
    everything = most_lost(labels_to_confusion(labels, predicted, 3), 1.0)
    assert 0.9 < everything <= before
