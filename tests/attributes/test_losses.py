"""Cross-entropy over the labels that are there, against a loop over them; the balances against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from seamline.attributes.labelled import MISSING
from seamline.attributes.losses import Balance, inverse_weights, masked_cross_entropy, value_shares

SIZES = [3, 2]


def batch(seed: int) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.integers(0, size, 12) for size in SIZES], axis=1)
    labels[rng.random(labels.shape) < 0.4] = MISSING
    return torch.tensor(rng.normal(0, 2, (12, 5)), dtype=torch.float32, requires_grad=True), labels


def by_hand(logits: np.ndarray, labels: np.ndarray, shares: list[np.ndarray], how: str) -> float:
    total, start = 0.0, 0
    for column, size in enumerate(SIZES):
        losses, weights = [], []
        for row, label in zip(logits[:, start : start + size], labels[:, column], strict=True):
            if label == MISSING:
                continue
            row = row + (np.log(shares[column]) if how == "logits" else 0)
            losses.append(math.log(np.exp(row).sum()) - row[label])
            weights.append(1 / shares[column][label] / size if how == "weights" else 1.0)
        total += float(np.average(losses, weights=weights))
        start += size
    return total / len(SIZES)


@pytest.mark.parametrize("how", ["none", "weights", "logits"])
def test_it_is_the_mean_over_the_labels_that_are_there(how: str) -> None:
    logits, labels = batch(0)
    shares = [value_shares(labels[:, column], size) for column, size in enumerate(SIZES)]
    found = masked_cross_entropy(logits, torch.from_numpy(labels), Balance(how, labels, SIZES))
    assert found.item() == pytest.approx(by_hand(logits.detach().numpy(), labels, shares, how), rel=1e-5)


def test_a_missing_label_teaches_nothing() -> None:
    logits, labels = batch(1)
    masked_cross_entropy(logits, torch.from_numpy(labels), Balance("none", labels, SIZES)).backward()  # type: ignore[no-untyped-call]
    gradient = logits.grad
    assert gradient is not None
    for column, own in enumerate((slice(0, 3), slice(3, 5))):
        missing = labels[:, column] == MISSING
        assert (gradient[missing, own] == 0).all()
        assert (gradient[~missing, own] != 0).all()


def test_a_batch_without_labels_has_no_loss() -> None:
    nothing = np.full((4, 2), MISSING)
    loss = masked_cross_entropy(torch.ones(4, 5), torch.from_numpy(nothing), Balance("none", nothing, SIZES))
    assert loss.item() == 0


def test_weights_count_a_label_once_on_average() -> None:
    shares = np.array([0.7, 0.2, 0.1, 0.0])
    weights = inverse_weights(shares)
    assert (shares * weights).sum() == pytest.approx(1)
    assert weights[0] < weights[1] < weights[2]
    assert weights[3] == 1
