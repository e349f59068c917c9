"""Cross-entropy over the labels that are there, with rare values counted for more where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from seamline.attributes.labelled import MISSING, Ints

RAREST = 1e-6  # share of a value that train does not show


class Balance:
    """What is done for values that are rare in train, attribute by attribute."""

    def __init__(self, how: str, labels: Ints, sizes: Sequence[int]) -> None:
        """
        Args:
            how: none; weights: each value counts by the inverse of its share; logits: the logarithm of the shares is
                added to the outputs while training, which asks the model for what it knows beside them (Menon et al.
                2021, Long-tail learning via logit adjustment).
            labels: (garments, attributes) of train.
            sizes: how many values each attribute has.
        """
        shares = [value_shares(labels[:, column], size) for column, size in enumerate(sizes)]
        self.weights = [
            torch.tensor(inverse_weights(share) if how == "weights" else np.ones(len(share)), dtype=torch.float32)
            for share in shares
        ]
        self.added = [
            torch.tensor(
                np.log(np.maximum(share, RAREST)) if how == "logits" else np.zeros(len(share)), dtype=torch.float32
            )
            for share in shares
        ]

    def to(self, device: torch.device) -> Balance:
        self.weights = [one.to(device) for one in self.weights]
        self.added = [one.to(device) for one in self.added]
        return self


def value_shares(labels: Ints, size: int) -> npt.NDArray[np.float64]:
    """(size,): the share of each value among the labels that are there."""
    counts = np.bincount(labels[labels != MISSING], minlength=size)
    return np.asarray(counts / max(counts.sum(), 1), np.float64)


def inverse_weights(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 / share, so that a label counts 1 on average; 1 for a value that train does not show."""
    shown = shares > 0
    weights = np.ones(len(shares))
    weights[shown] = 1 / (shares[shown] * shown.sum())
    return weights


def masked_cross_entropy(logits: Tensor, labels: Tensor, balance: Balance) -> Tensor:
    """The mean over the attributes of the mean over a batch's labels that are there.

    Args:
        logits: (batch, outputs), the attributes side by side.
        labels: (batch, attributes), MISSING where there is none; an attribute without a label counts 0.
    """
    total, start = logits.new_zeros(()), 0
    for column, (weight, added) in enumerate(zip(balance.weights, balance.added, strict=True)):
        own = logits[:, start : start + len(weight)] + added
        start += len(weight)
        there = labels[:, column] != MISSING
        if bool(there.any()):
            total = total + functional.cross_entropy(own[there], labels[there, column], weight)
    return total / len(balance.weights)
