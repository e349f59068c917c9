from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from seamline.base.errors import SeamlineError
from seamline.base.splits import SPLITS
from seamline.dataset.splits import (
    FEWEST_GROUPS,
    check_measurable,
    class_divergence,
    official_splits,
    split_report,
    unlearnable,
)
from seamline.evaluation import bootstrap

RATIOS = (0.7, 0.2, 0.1)
Ints = npt.NDArray[np.int64]


def test_the_least_number_of_groups_is_the_evaluations() -> None:
    assert FEWEST_GROUPS == bootstrap.FEWEST


def test_official_splits_are_taken_over() -> None:
    values = ["train", "val", "train", None]
    assert official_splits(values, {"test": "val"}).tolist() == [-1, SPLITS.index("test"), -1, -1]
    with pytest.raises(SeamlineError, match=r"source's split 'dev', which is to be test; there are train, val"):
        official_splits(values, {"test": "dev"})
    with pytest.raises(SeamlineError, match="nothing is left for val;"):
        official_splits(values[:3], {"train": "train", "test": "val"})
    with pytest.raises(SeamlineError, match="1 images are of no split it names"):
        official_splits(["a", "b", "c", None], {"train": "a", "val": "b", "test": "c"})


def test_the_report_counts_what_leaks() -> None:
    assigned = np.array([0, 1, 2, 0])
    instances = np.array([[2, 0], [1, 0], [0, 0], [0, 1]])
    pairs, versions, joined = np.array([[0, 3], [2, 3]]), np.array([[0, 1], [1, 3], [0, 3]]), np.array([0, 0, 1, 1])
    report = split_report(assigned, np.array([0, 0, 1, 2]), instances, ["x", "y"], pairs, versions, joined)
    assert report["largest_group_share"] == 0.5
    assert report["leaked_groups"] == 1
    assert report["near_duplicates_across_splits"] == 1
    assert (report["versions"], report["versions_across_splits"]) == (3, 2)
    assert report["train"]["classes"] == {"x": {"images": 1, "instances": 2}, "y": {"images": 1, "instances": 1}}
    assert report["test"]["images_without_instance"] == 1
    assert report["val"]["share"] == 0.25
    assert [report[split]["groups_showing_an_instance"] for split in SPLITS] == [2, 1, 0]
    assert report["divergence"]["val_test"] == 1
    assert Counter(type(value) for value in report["divergence"].values()) == {float: 3}


def test_what_cannot_be_learned_or_measured_is_said() -> None:
    instances = np.array([[2, 0, 0], [1, 1, 0], [0, 3, 0]])
    alone = np.arange(3)
    report = split_report(np.array([0, 1, 2]), alone, instances, ["x", "y", "z"], None, None, alone)
    assert unlearnable(report, ["x", "y", "z"]) == ["y", "z"]
    assert report["versions"] is report["versions_across_splits"] is None
    check_measurable({"train": 2, "val": 2, "test": 3})
    for split in SPLITS:
        with pytest.raises(SeamlineError, match=f"split: {split} has no instance"):
            check_measurable({"train": 2, "val": 2, "test": 3, split: 0})


def test_the_report_counts_groups_duplicates_and_shares_by_hand() -> None:
    """Seven images: four in train, two in val, one in test; classes x, y and z, which nobody shows."""
    assigned = np.array([0, 0, 0, 0, 1, 1, 2])
    instances = np.array([[3, 0, 0], [0, 0, 0], [1, 2, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [2, 2, 0]])
    groups, joined = np.array([0, 0, 1, 2, 3, 4, 4]), np.array([0, 0, 0, 1, 2, 3, 3])
    report = split_report(
        assigned, groups, instances, ["x", "y", "z"], np.array([[0, 2], [4, 6], [1, 6]]), None, joined
    )
    assert report["train"] == {
        "images": 4,
        "share": 0.5714,
        "groups_showing_an_instance": 2,
        "images_without_instance": 1,
        "classes": {"x": {"images": 3, "instances": 5}, "y": {"images": 1, "instances": 2}},
    }
    assert report["val"]["classes"] == {"y": {"images": 1, "instances": 1}}
    assert (report["val"]["share"], report["test"]["share"]) == (0.2857, 0.1429)
    assert (report["val"]["images_without_instance"], report["test"]["images_without_instance"]) == (1, 0)
    assert (report["groups"], report["images_in_a_group_of_their_own"]) == (5, 3)
    assert report["largest_group_share"] == 0.4286
    assert report["leaked_groups"] == 1  # group 4, in val and test
    assert (report["near_duplicates"], report["near_duplicates_across_splits"]) == (3, 2)
    assert list(report["divergence"]) == ["train_val", "train_test", "val_test"]
    counts = {"train": [5, 2, 0], "val": [0, 1, 0], "test": [2, 2, 0]}
    for names, value in report["divergence"].items():
        first, second = (np.array(counts[name]) for name in names.split("_"))
        assert value == pytest.approx(jensenshannon(first, second, base=2) ** 2, abs=1e-6)
        assert value == round(value, 6)
    apart = split_report(
        np.array([0, 1, 1]), np.array([0, 1, 2]), instances[:3], ["x", "y", "z"], None, None, groups[:3]
    )
    assert apart["leaked_groups"] == 0
    unknown = split_report(assigned, groups, instances, ["x", "y", "z"], None, None, joined)
    assert unknown["near_duplicates"] is unknown["near_duplicates_across_splits"] is None


def test_splits_without_an_instance_have_nothing_in_common_with_others() -> None:
    some, none = np.array([2, 0]), np.array([0, 0])
    assert class_divergence(none, none) == 0
    assert class_divergence(some, none) == class_divergence(none, some) == 1


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=6))
def test_divergence_is_that_of_scipy(counts: list[tuple[int, int]]) -> None:
    first, second = np.array(counts).T
    if first.sum() and second.sum():
        assert class_divergence(first, second) == pytest.approx(jensenshannon(first, second, base=2) ** 2, abs=1e-9)
