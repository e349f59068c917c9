"""Splits that the source names, and the proof that none leaks into another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.splits import SPLITS
from seamline.dataset.groups import Assigned, Groups

PURPOSES = {"train": "to learn from", "val": "to check exported models with", "test": "to measure with"}
FEWEST_GROUPS = 15  # that show an instance; from fewer the evaluation makes no intervals (bootstrap.FEWEST)


def official_splits(values: Sequence[Any], official: Mapping[str, str]) -> Assigned:
    """Our split of each image whose split in the source is named; -1 for the others.

    Args:
        values: the field `split` of every image.
        official: our split -> the source's.

    Raises:
        SeamlineError: when the source has no such split, or what is left over does not fit what is not named.
    """
    known = sorted({str(value) for value in values if value is not None})
    for ours, theirs in official.items():
        if theirs not in known:
            raise SeamlineError(
                f"split.official: no image of the subset is of the source's split {theirs!r}, which is to be {ours}; "
                f"there are {', '.join(known) or 'none'}."
            )
    fixed = np.full(len(values), -1, dtype=np.int64)
    for ours, theirs in official.items():
        fixed[[value == theirs for value in values]] = SPLITS.index(ours)
    left_over, open_splits = int((fixed < 0).sum()), [split for split in SPLITS if split not in official]
    if left_over and not open_splits:
        raise SeamlineError(f"split.official: {left_over} images are of no split it names; there are {known}.")
    if open_splits and not left_over:
        raise SeamlineError(
            f"split.official: nothing is left for {' and '.join(open_splits)}; leave a split out, and its images are "
            "divided by split.ratios."
        )
    return fixed


def split_report(
    assigned: Assigned,
    groups: Groups,
    instances: npt.NDArray[np.int64],
    names: Sequence[str],
    pairs: npt.NDArray[np.int64] | None,
    versions: npt.NDArray[np.int64] | None,
    joined: Groups,
) -> Record:
    """Counts and the proof that nothing leaks, for reports/split.json.

    Args:
        assigned: (images,), index into SPLITS.
        groups: (images,), the group its field gives (before near-duplicates and versions are joined).
        instances: (images, classes), how many instances of each class an image shows.
        names: of the classes.
        pairs: (pairs, 2), positions of near-duplicate images; None when they were not looked for.
        versions: (pairs, 2), positions of versions of one photo; None when they were not looked for.
        joined: (images,), the groups that were kept together.
    """
    report: Record = {}
    for index, split in enumerate(SPLITS):
        of_split = instances[assigned == index]
        report[split] = {
            "images": len(of_split),
            "share": round(len(of_split) / len(assigned), 4),
            "groups_showing_an_instance": len(np.unique(joined[(assigned == index) & instances.any(axis=1)])),
            "images_without_instance": int((of_split.sum(axis=1) == 0).sum()),
            "classes": {
                name: {"images": int((of_split[:, number] > 0).sum()), "instances": int(of_split[:, number].sum())}
                for number, name in enumerate(names)
                if of_split[:, number].any()
            },
        }
    totals = [instances[assigned == index].sum(axis=0) for index in range(len(SPLITS))]
    report["divergence"] = {
        f"{SPLITS[a]}_{SPLITS[b]}": round(class_divergence(totals[a], totals[b]), 6)
        for a, b in combinations(range(len(SPLITS)), 2)
    }
    of_groups = np.unique(np.stack((groups, assigned), axis=1), axis=0)
    report["groups"] = len(np.unique(groups))
    report["images_in_a_group_of_their_own"] = int((np.bincount(groups) == 1).sum())
    report["largest_group_share"] = round(float(np.bincount(joined).max() / len(joined)), 4)
    report["leaked_groups"] = int((np.bincount(of_groups[:, 0]) > 1).sum())
    for name, found in ("near_duplicates", pairs), ("versions", versions):
        report[name] = None if found is None else len(found)
        across = None if found is None else int((assigned[found[:, 0]] != assigned[found[:, 1]]).sum())
        report[f"{name}_across_splits"] = across
    return report


def check_measurable(instances_of: Mapping[str, int]) -> None:
    """Raises SeamlineError for a split without an instance: the run would end in an error once it is trained."""
    empty = [split for split in SPLITS if not instances_of[split]]
    if empty:
        raise SeamlineError(
            f"split: {empty[0]} has no instance {PURPOSES[empty[0]]}; use more images, or change split.ratios or "
            "split.official."
        )


def unlearnable(report: Record, names: Sequence[str]) -> list[str]:
    """The classes without an instance in train."""
    return [name for name in names if name not in report["train"]["classes"]]


def class_divergence(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> float:
    """Jensen-Shannon divergence of two splits' class counts in bits: 0 for equal shares, 1 for nothing in common."""
    if not first.sum() or not second.sum():
        return 0.0 if first.sum() == second.sum() else 1.0
    shares = np.stack((first / first.sum(), second / second.sum()))
    mean = shares.mean(axis=0)
    ratios = np.divide(shares, mean, out=np.ones_like(shares), where=shares > 0)
    return float(np.maximum((shares * np.log2(ratios)).sum(axis=1).mean(), 0))
