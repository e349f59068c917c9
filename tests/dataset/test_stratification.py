from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamline.base.errors import SeamlineError
from seamline.dataset.stratification import stratified

RATIOS = (0.7, 0.2, 0.1)
Ints = npt.NDArray[np.int64]


def dataset(seed: int, group_count: int) -> tuple[Ints, Ints]:
    """Groups of 1 to 5 images with 0 to 3 instances of four classes of very different frequency."""
    rng = np.random.default_rng(seed)
    groups, labels = [], []
    for group in range(group_count):
        for _ in range(int(rng.integers(1, 6))):
            groups.append(group)
            found = rng.choice(4, size=int(rng.integers(0, 4)), p=[0.5, 0.3, 0.15, 0.05])
            labels.append(np.bincount(found, minlength=4))
    return np.array(groups), np.array(labels)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(3, 60))
def test_groups_stay_whole_and_every_split_is_filled(seed: int, group_count: int) -> None:
    groups, labels = dataset(seed, group_count)
    assigned = stratified(groups, labels, RATIOS, seed)
    assert set(assigned.tolist()) == {0, 1, 2}
    for group in range(group_count):
        assert len(set(assigned[groups == group].tolist())) == 1
    assert assigned.tolist() == stratified(groups, labels, RATIOS, seed).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_images_and_every_class_are_within_two_points_of_the_ratios(seed: int) -> None:
    groups, labels = dataset(seed, 400)
    assigned = stratified(groups, labels, RATIOS, seed)
    for split, ratio in enumerate(RATIOS):
        assert (assigned == split).mean() == pytest.approx(ratio, abs=0.02)
        shares = labels[assigned == split].sum(axis=0) / labels.sum(axis=0)
        assert shares.tolist() == pytest.approx([ratio] * 4, abs=0.02)


@pytest.mark.parametrize(("classes", "each"), [(200, 3), (50, 3), (400, 1)])
def test_many_rare_classes_do_not_outvote_the_images(classes: int, each: int) -> None:
    labels = np.repeat(np.eye(classes, dtype=np.int64), each, axis=0)
    assigned = stratified(np.arange(len(labels)), labels, RATIOS, 0)
    for split, ratio in enumerate(RATIOS):
        assert (assigned == split).mean() == pytest.approx(ratio, abs=0.02)


def test_two_splits_only() -> None:
    groups, labels = dataset(1, 100)
    assigned = stratified(groups, labels, (0.875, 0.125), 0)
    assert (assigned == 0).mean() == pytest.approx(0.875, abs=0.02)


def test_too_few_groups_is_one_sentence() -> None:
    with pytest.raises(SeamlineError, match="2 groups of images cannot fill 3 splits"):
        stratified(np.array([0, 1]), np.array([[1], [1]]), RATIOS, 0)
