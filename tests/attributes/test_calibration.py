"""Temperatures against scikit-learn's log-loss on a grid; thresholds against trying every one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss as reference_loss

from seamline.attributes.calibration import FEWEST, abstaining, find_temperature, find_threshold, log_loss
from seamline.attributes.labelled import MISSING


def overconfident(seed: int, sharpened: float, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from a softmax, and its outputs made sharper than the truth; a third of the labels is missing."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 4))
    labels = np.array([rng.choice(4, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    labels[rng.random(count) < 1 / 3] = MISSING
    return logits * sharpened, labels


def probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    powers = np.exp(logits / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("sharpened", [0.4, 1.0, 3.0])
def test_no_temperature_of_a_grid_has_less_log_loss(sharpened: float) -> None:
    logits, labels = overconfident(0, sharpened)
    there = labels != MISSING
    temperature = find_temperature(logits, labels)
    losses = {
        one: reference_loss(labels[there], probabilities(logits[there], one), labels=range(4))
        for one in (temperature, *np.geomspace(0.1, 10, 60))
    }
    assert min(losses.values()) == pytest.approx(losses[temperature], abs=1e-6)
    assert log_loss(logits, labels, temperature) == pytest.approx(losses[temperature])
    assert temperature == pytest.approx(sharpened, rel=0.25)  # what the outputs were sharpened by


def test_without_labels_nothing_is_changed() -> None:
    labels = np.full(5, MISSING)
    assert find_temperature(np.ones((5, 3)), labels) == 1.0
    assert log_loss(np.ones((5, 3)), labels) is None
    assert abstaining(np.ones((5, 3)), labels, 1.0, 0.5) == (0.5, 0, None, None)
    assert find_threshold(np.ones((5, 3)), labels, 1.0, 0.9) is None


@pytest.mark.parametrize("target", [0.7, 0.85, 0.95])
@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_names_as_many_as_can_be(seed: int, target: float) -> None:
    logits, labels = overconfident(seed, 1.0)
    there = labels != MISSING
    found = probabilities(logits[there], 1.0)
    confidence, right = found.max(axis=1), found.argmax(axis=1) == labels[there]
    allowed = {
        one: int((confidence >= one).sum())
        for one in confidence
        if right[confidence >= one].mean() >= target and (confidence >= one).sum() >= FEWEST
    }
    threshold = find_threshold(logits, labels, 1.0, target)
    if not allowed:
        assert threshold is None
        return
    assert threshold is not None
    result = abstaining(logits, labels, 1.0, threshold)
    assert result.named == max(allowed.values())
    assert result.accuracy is not None and result.accuracy >= target
    assert result.coverage == pytest.approx(result.named / there.sum())


def test_a_value_is_always_named_where_all_of_them_are_right_often_enough() -> None:
    labels = np.tile([0, 1], 20)
    logits = np.where(labels[:, None] == np.arange(2), 3.0, 0.0)
    assert find_threshold(logits, labels, 1.0, 0.95) is None
    assert abstaining(logits, labels, 1.0, None) == (None, 40, 1.0, 1.0)
    assert abstaining(np.full((40, 2), [0.0, 0.0]), labels, 1.0, 0.5).named == 40  # as sure as the threshold wants


def test_a_threshold_of_few_garments_is_not_taken() -> None:
    labels = np.zeros(40, np.int64)
    logits = np.zeros((40, 2))
    logits[: FEWEST - 1, 0], logits[FEWEST - 1 :, 1] = 5.0, 1.0  # sure and right, and less sure and wrong
    assert find_threshold(logits, labels, 1.0, 0.95) is None
    logits[FEWEST - 1] = 5.0, 0.0  # one more is enough; the threshold lies between the two confidences
    sure, unsure = probabilities(np.array([[5.0, 0.0], [0.0, 1.0]]), 1.0).max(axis=1)
    assert find_threshold(logits, labels, 1.0, 0.95) == pytest.approx((sure + unsure) / 2)
