"""Splits of garments: duplicates together, values in their shares, official splits as they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from seamline.attributes.garments import Garment
from seamline.attributes.splits import assign_splits, learnable
from seamline.base.errors import SeamlineError
from tests.attributes.shirts import options

VALUES = {"neck": ["round", "v", "high"], "pattern": ["solid", "striped"]}
RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}
NONE = np.zeros((0, 2), dtype=np.int64)


def garments(count: int, seed: int = 0) -> list[Garment]:
    """A third of the values missing; high necks are rare."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        neck = str(rng.choice(["round", "v", "high"], p=[0.5, 0.42, 0.08]))
        values = {
            "neck": neck if rng.random() > 0.33 else None,
            "pattern": str(rng.choice(["solid", "striped"])) if rng.random() > 0.33 else None,
        }
        found.append(Garment(number + 1, Path(f"{number}.jpg"), f"{number}.jpg", values))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_every_value_of_every_attribute_has_its_share(seed: int) -> None:
    found = garments(400, seed)
    assign_splits(found, VALUES, NONE, options(ratios=RATIOS, seed=seed))
    for name, values in VALUES.items():
        for value in values:
            counts = Counter(one.split for one in found if one.values[name] == value)
            total = sum(counts.values())
            assert all(abs(counts[split] - share * total) <= 1.5 for split, share in RATIOS.items()), (
                name,
                value,
                counts,
            )


def test_near_duplicates_and_groups_stay_together() -> None:
    found = garments(200)
    for one in found[:90]:
        one.belongs_to = f"shirt {one.id % 30}"
    pairs = np.array([(index, index + 100) for index in range(100)])
    said = assign_splits(found, VALUES, pairs, options(ratios=RATIOS))
    for a, b in pairs.tolist():
        assert (found[a].group, found[a].split) == (found[b].group, found[b].split)
    splits: dict[str, set[str]] = {}
    for one in found[:90]:
        splits.setdefault(str(one.belongs_to), set()).add(one.split)
    assert max(map(len, splits.values())) == 1
    assert said["near_duplicates"] == 100
    assert said["near_duplicates_across_splits"] == 0
    assert said["groups"] == 30 + 10


def test_official_splits_are_kept_and_a_copy_follows_its_group() -> None:
    found = garments(60)
    for one in found[:20]:
        one.official = "test"
    for one in found[20:50]:
        one.official = "train"
    said = assign_splits(found, VALUES, np.array([(0, 55)]), options(ratios=RATIOS))
    assert {one.split for one in found[:20]} == {"test"}
    assert found[55].split == "test"
    assert {one.split for one in found[20:50]} == {"train", "val"}  # val comes out of train, as nothing else is val
    assert said["garments_by_split"]["val"] >= 3


def test_an_official_split_that_leaks_is_counted() -> None:
    found = garments(30)
    for index, one in enumerate(found):
        one.official = ("train", "val", "test")[index % 3]
    said = assign_splits(found, VALUES, np.array([(1, 3), (0, 6)]), options())
    assert said["near_duplicates_across_splits"] == 1
    assert [one.split for one in found] == [one.official for one in found]


def test_val_is_as_large_beside_an_official_train_as_the_ratios_say() -> None:
    found = garments(203)
    for index, one in enumerate(found):
        one.official = "train" if index < 200 else "test"
    said = assign_splits(found, VALUES, NONE, options(ratios={"train": 0.3, "val": 0.3, "test": 0.4}))
    assert said["garments_by_split"]["val"] == pytest.approx(100, abs=2)
    assert said["garments_by_split"]["test"] == 3
    said = assign_splits(found[198:], VALUES, NONE, options(ratios=RATIOS))  # two of train are enough
    assert said["garments_by_split"] == {"train": 1, "val": 1, "test": 3}


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_photos_are_one_sentence(count: int) -> None:
    with pytest.raises(SeamlineError, match=f"attributes: {count} groups? of photos cannot fill 3 splits"):
        assign_splits(garments(count), VALUES, NONE, options())


def test_attributes_that_cannot_be_learned_are_left_out_with_the_reason() -> None:
    found = garments(40)
    for one in found:
        one.values |= {"hem": "long" if one.id % 2 else None, "label": None}
    assign_splits(found, VALUES, NONE, options())
    good, left_out = learnable(found, {**VALUES, "hem": ["long"], "label": []})
    assert list(good) == ["neck", "pattern"]
    assert left_out == {
        "hem": "every garment of train that has a value has the same one (long)",
        "label": "no garment has a value of it",
    }
