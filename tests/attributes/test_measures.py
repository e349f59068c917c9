"""Against scikit-learn: confusion, accuracy, precision, recall, macro F1; weighted draws against repeated garments."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics

from seamline.attributes.evaluation import evaluate_attributes, measured
from seamline.attributes.labelled import MISSING
from seamline.attributes.measures import (
    accuracy,
    columns_of,
    labels_to_confusion,
    macro_f1,
    mean_macro_f1,
    per_value,
)


def drawn(seed: int, count: int = 60, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Labels, some missing, and predictions that are right more often than not; a value may be absent."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, size - seed % 2, count)
    predicted = np.where(rng.random(count) < 0.6, labels, rng.integers(0, size, count))
    labels[rng.random(count) < 0.3] = MISSING
    return labels, predicted


@pytest.mark.parametrize("seed", range(6))
def test_figures_are_scikit_learns(seed: int) -> None:
    labels, predicted = drawn(seed)
    there = labels != MISSING
    truth, found = labels[there], predicted[there]
    confusion = labels_to_confusion(labels, predicted, 4)
    assert np.array_equal(confusion[:, :4], metrics.confusion_matrix(truth, found, labels=range(4)))
    assert float(accuracy(confusion)) == pytest.approx(metrics.accuracy_score(truth, found))
    assert float(macro_f1(confusion)) == pytest.approx(metrics.f1_score(truth, found, average="macro"))
    own = per_value(confusion)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = metrics.precision_recall_fscore_support(truth, found, labels=range(4), zero_division=np.nan)
    for ours, theirs in zip(own, expected, strict=True):
        assert ours == pytest.approx(np.asarray(theirs, float), nan_ok=True)


def test_a_draw_counts_each_garment_as_often_as_it_was_drawn() -> None:
    labels, predicted = drawn(1)
    weights = np.random.default_rng(2).integers(0, 4, (5, len(labels)))
    found = labels_to_confusion(labels, predicted, 4, weights)
    for confusion, often in zip(found, weights, strict=True):
        repeated = np.repeat(labels, often), np.repeat(predicted, often)
        assert np.array_equal(confusion, labels_to_confusion(*repeated, 4))


def test_a_garment_that_was_not_found_counts_as_wrong() -> None:
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, MISSING, 1, 1])
    confusion = labels_to_confusion(labels, predicted, 2)
    assert float(accuracy(confusion)) == 0.75
    assert per_value(confusion).recall.tolist() == [0.5, 1.0]
    assert per_value(confusion).precision.tolist() == [1.0, 1.0]
    # As scikit-learn has it where "not found" is a value of its own that no label has.
    theirs = metrics.f1_score(labels, [0, 2, 1, 1], labels=[0, 1], average="macro")
    assert float(macro_f1(confusion)) == pytest.approx(theirs)


def test_without_a_label_there_is_nothing() -> None:
    confusion = labels_to_confusion(np.array([MISSING]), np.array([1]), 3)
    assert np.isnan(accuracy(confusion)) and np.isnan(macro_f1(confusion))
    assert mean_macro_f1(np.zeros((1, 3)), np.array([[MISSING]]), [3]) == 0.0
    assert mean_macro_f1(np.eye(5)[:2], np.array([[0, MISSING], [1, MISSING]]), [2, 3]) == 1.0


def test_outputs_are_split_by_attribute() -> None:
    logits = np.arange(10.0).reshape(2, 5)
    assert [own.tolist() for own in columns_of(logits, [2, 3])] == [[[0, 1], [5, 6]], [[2, 3, 4], [7, 8, 9]]]


def test_intervals_hold_the_figure_and_become_wider_with_fewer_groups() -> None:
    labels, predicted = drawn(0, 400, 3)
    alone = measured(labels, predicted, np.arange(400), ["a", "b", "c"], 0)
    together = measured(labels, predicted, np.arange(400) // 10, ["a", "b", "c"], 0)
    for name in ("accuracy", "macro_f1"):
        for figures in (alone, together):
            low, high = figures[f"{name}_interval"]
            assert low < figures[name] < high
        assert alone[name] == together[name]
    few = measured(labels[:14], predicted[:14], np.arange(14), ["a", "b", "c"], 0)
    assert few["macro_f1_interval"] is None  # of fewer than 15 groups nothing is claimed
    assert alone["observed"] + alone["missing"] == 400
    assert sum(map(sum, alone["confusion"])) == alone["observed"]


def test_the_majority_is_that_of_train() -> None:
    train = np.array([[0], [1], [1], [MISSING], [MISSING], [MISSING]])
    labels = np.array([[0], [0], [1]])
    logits = np.array([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    calibration = {"neck": {"temperature": 1.0, "threshold": None}}
    found = evaluate_attributes(logits, labels, np.arange(3), train, {"neck": ["a", "b"]}, calibration, 0)
    assert found["neck"]["accuracy"] == 1.0
    expected = metrics.f1_score([0, 0, 1], [1, 1, 1], average="macro", zero_division=0)
    assert found["neck"]["majority"] == {
        "value": "b", "accuracy": pytest.approx(1 / 3, abs=1e-6), "macro_f1": pytest.approx(expected, abs=1e-6)
    }  # fmt: skip
