"""Whole groups into splits, so that images and every class's instances come close to the ratios."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from seamline.base.errors import SeamlineError
from seamline.dataset.groups import Assigned, Groups

IMAGES_APART = 0.015
NEAR_ENOUGH = 0.002  # of every share to its target; with many groups, moving single ones changes nothing

Shares = npt.NDArray[np.float64]


def stratified(groups: Groups, instances: npt.NDArray[np.int64], ratios: Sequence[float], seed: int) -> Assigned:
    """The split of each image: whole groups together, images and every class's instances close to the ratios.

    Groups go one by one, those with the rarest class first, where they are needed most (Sechidis et al. 2011,
    over groups); then single groups are moved and pairs swapped as long as that brings the shares closer.

    Args:
        groups: (images,), group numbers from 0 without gaps.
        instances: (images, classes), how many instances of each class an image shows.
        ratios: the share of each split; they add up to 1.
        seed: of the order among equals.

    Raises:
        SeamlineError: when there are fewer groups than splits.
    """
    counts = group_counts(groups, instances)
    if len(counts) < len(ratios):
        raise SeamlineError(
            f"split: {len(counts)} groups of images cannot fill {len(ratios)} splits; use more images, or see what "
            "split.group_by, split.versions and split.near_duplicate_bits tie together."
        )
    totals = counts.sum(axis=0)
    shares = counts / totals  # of each group in all images, images without instances, and each class
    target = np.array(ratios)[:, None] * np.ones_like(totals)
    rng = np.random.default_rng(seed)
    rarity = np.where(counts > 0, totals, np.inf).min(axis=1)
    assigned = np.full(len(counts), -1)
    filled = np.zeros_like(target)
    for group in np.lexsort((rng.random(len(counts)), -shares.max(axis=1), rarity)):
        added = shares[group]
        # How much the squared distance to the target would grow, by the split's ratio. (Written out in another way,
        # rounding would break ties differently, and a new version would divide old data anew.)
        growth = (((filled - target + added) ** 2 - (filled - target) ** 2) / target).sum(axis=1)
        assigned[group] = growth.argmin()
        filled[assigned[group]] += added
    for split in range(len(ratios)):
        if not (assigned == split).any():  # with very few groups the largest ratio may have taken them all
            largest = np.bincount(assigned, minlength=len(ratios)).argmax()
            group = min(np.flatnonzero(assigned == largest), key=lambda index: shares[index].sum())
            filled[largest] -= shares[group]
            filled[split] += shares[group]
            assigned[group] = split
    if np.abs(filled - target).max() > NEAR_ENOUGH:
        refine(assigned, filled, shares, target, rng)
    if np.abs(filled[:, 0] - target[:, 0]).max() > IMAGES_APART:
        # With many rare classes the images are one share among hundreds. They count as much as all classes together.
        weights = np.ones(shares.shape[1])
        weights[0] = shares.shape[1]
        refine(assigned, filled * weights, shares * weights, target * weights, rng)
    return np.asarray(assigned[groups])


def group_counts(groups: Groups, instances: npt.NDArray[np.int64]) -> Shares:
    """A row a group: images, images without an instance, instances of each class; columns of zeros left out."""
    columns = [np.ones(len(groups)), (instances.sum(axis=1) == 0).astype(float), *instances.T.astype(float)]
    counts = np.stack([np.bincount(groups, weights=column) for column in columns], axis=1)
    return np.asarray(counts[:, counts.sum(axis=0) > 0], dtype=np.float64)


def refine(
    assigned: Assigned, filled: Shares, shares: Shares, target: Shares, rng: np.random.Generator, rounds: int = 20
) -> None:
    """Move single groups, or swap two, while the sum of squared distances to the target falls; changes in place."""

    def distance(change: Shares, first: int, second: int) -> float:
        before = ((filled[first] - target[first]) ** 2 + (filled[second] - target[second]) ** 2).sum()
        gained, lost = filled[first] + change - target[first], filled[second] - change - target[second]
        return float((gained**2 + lost**2).sum() - before)

    count = len(assigned)
    members = np.bincount(assigned, minlength=len(target))
    for _ in range(rounds):
        improved = False
        partners = rng.permutation(count)
        for group in range(count):
            source = int(assigned[group])
            moves = [
                (distance(shares[group], split, source), split, -1)
                for split in range(len(target))
                if split != source and members[source] > 1
            ]
            other = int(partners[group])
            if assigned[other] != source:
                split = int(assigned[other])
                moves.append((distance(shares[group] - shares[other], split, source), split, other))
            if not moves:
                continue
            gain, split, other = min(moves)
            if gain < -1e-12:
                change = shares[group] - (shares[other] if other >= 0 else 0)
                filled[split] += change
                filled[source] -= change
                assigned[group] = split
                if other >= 0:
                    assigned[other] = source
                else:
                    members[source] -= 1
                    members[split] += 1
                improved = True
        if not improved:
            return
