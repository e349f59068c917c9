"""Garments into train, val and test: duplicates together, and every value of every attribute in its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from seamline.attributes.garments import Garment
from seamline.base.coco import Record
from seamline.base.errors import SeamlineError, counted
from seamline.base.splits import SPLITS
from seamline.dataset.groups import Groups
from seamline.dataset.near_duplicates import joined_groups
from seamline.dataset.stratification import stratified
from seamline.params.attributes import Attributes

Pairs = npt.NDArray[np.int64]


def groups_of_source(garments: Sequence[Garment]) -> Groups:
    """The group of each garment by its source; without one, garments of one photo are a group."""
    numbers: dict[str, int] = {}
    keys = [one.belongs_to or f"photo {one.file_name}" for one in garments]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def assign_splits(
    garments: Sequence[Garment], values: Mapping[str, Sequence[str]], pairs: Pairs, params: Attributes
) -> Record:
    """Set group and split of every garment; returns what the report says of it.

    A group of which the source names the split of one garment is of that split; the others get the ratios' shares.
    Where the source names splits and none of them is val, val comes out of train.

    Args:
        garments: in the order of `pairs`.
        values: of each attribute.
        pairs: positions of near-duplicates, (pairs, 2).
        params: ratios and the seed.

    Raises:
        SeamlineError: when there are fewer groups than splits.
    """
    known = groups_of_source(garments)
    groups = joined_groups(known, pairs) if len(pairs) else known
    fixed = fixed_splits(garments, groups)
    ratios = np.array([params.ratios.train, params.ratios.val, params.ratios.test])
    table = presence(garments, values)
    if SPLITS.index("val") not in fixed:  # as in many public datasets
        of_train = np.flatnonzero(fixed == SPLITS.index("train"))
        if len(np.unique(groups[of_train])) >= 2:
            share = ratios[1] / (ratios[0] + ratios[1])
            fixed[of_train] = shared_out(groups[of_train], table[of_train], [1 - share, share], [0, 1], params.seed)
    free = np.flatnonzero(fixed < 0)
    if len(free):
        fixed[free] = shared_out(groups[free], table[free], list(ratios), [0, 1, 2], params.seed)
    for one, group, split in zip(garments, groups.tolist(), fixed.tolist(), strict=True):
        one.group, one.split = int(group), SPLITS[split]
    empty = [split for at, split in enumerate(SPLITS) if not (fixed == at).any()]
    if empty:
        raise SeamlineError(
            f"attributes: no garment is left for {empty[0]}; use more photos, or see what attributes.split_column and "
            "attributes.ratios say."
        )
    across = int((fixed[pairs[:, 0]] != fixed[pairs[:, 1]]).sum()) if len(pairs) else 0
    return {
        "groups": len(np.unique(groups)),
        "garments_by_split": {split: int((fixed == at).sum()) for at, split in enumerate(SPLITS)},
        "near_duplicates": len(pairs),
        "near_duplicates_across_splits": across,
    }


def fixed_splits(garments: Sequence[Garment], groups: Groups) -> npt.NDArray[np.int64]:
    """The split of each garment that the source says of it, or of another one of its group; -1 for the others."""
    fixed = np.array([-1 if one.official is None else SPLITS.index(one.official) for one in garments], dtype=np.int64)
    of_group = {int(group): int(split) for group, split in zip(groups[::-1], fixed[::-1], strict=True) if split >= 0}
    return np.array(
        [split if split >= 0 else of_group.get(int(group), -1) for group, split in zip(groups, fixed, strict=True)],
        dtype=np.int64,
    )


def shared_out(
    groups: Groups, table: npt.NDArray[np.int64], ratios: Sequence[float], splits: Sequence[int], seed: int
) -> npt.NDArray[np.int64]:
    """Some garments into some splits."""
    numbers = np.unique(groups, return_inverse=True)[1]
    if int(numbers.max()) + 1 < len(ratios):
        raise SeamlineError(
            f"attributes: {counted(int(numbers.max()) + 1, 'group')} of photos cannot fill {len(ratios)} splits; use "
            "more photos, or see what attributes.group_by and attributes.near_duplicate_bits tie together."
        )
    return np.array(splits)[stratified(numbers, table, list(np.array(ratios) / sum(ratios)), seed)]


def presence(garments: Sequence[Garment], values: Mapping[str, Sequence[str]]) -> npt.NDArray[np.int64]:
    """(garments, values of all attributes): 1 where a garment has it."""
    columns = [(name, value) for name, own in values.items() for value in own]
    return np.array([[one.values[name] == value for name, value in columns] for one in garments], dtype=np.int64)


def learnable(
    garments: Sequence[Garment], values: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The attributes that can be learned, with their values; and why the others cannot be.

    A value that no garment of train has stays: it is measured, and can only be got wrong.
    """
    good: dict[str, list[str]] = {}
    left_out = {}
    for name, own in values.items():
        trained = {one.values[name] for one in garments if one.split == "train"} - {None}
        if not own:
            left_out[name] = "no garment has a value of it"
        elif len(trained) < 2:
            alone = f"every garment of train that has a value has the same one ({', '.join(map(str, trained))})"
            left_out[name] = alone if trained else "no garment of train has a value of it"
        else:
            good[name] = list(own)
    return good, left_out
