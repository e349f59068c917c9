from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamline.base.errors import SeamlineError
from seamline.dataset.stratification import group_counts, refine, stratified

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


def test_counts_of_groups_by_hand() -> None:
    """Images, images without an instance, and instances of each class that anybody shows."""
    groups, instances = np.array([0, 1, 0, 2]), np.array([[2, 0, 0], [0, 0, 0], [1, 0, 3], [0, 0, 4]])
    assert group_counts(groups, instances).tolist() == [[2, 0, 3, 3], [1, 1, 0, 0], [1, 0, 0, 4]]
    assert group_counts(groups[:1], instances[:1]).tolist() == [[1, 2]]


@pytest.mark.parametrize("seed", range(3))
def test_equal_groups_are_divided_exactly(seed: int) -> None:
    """Twenty images of one class, ten of another, ten without: 70, 20 and 10 in a hundred of each are whole numbers."""
    instances = np.repeat([[1, 0], [0, 1], [0, 0]], [20, 10, 10], axis=0)
    assigned = stratified(np.arange(40), instances, RATIOS, seed)
    for rows in (slice(0, 20), slice(20, 30), slice(30, 40)):
        of = assigned[rows]
        assert (np.bincount(of, minlength=3) / len(of)).tolist() == pytest.approx(RATIOS)


def test_the_seed_decides_among_equals() -> None:
    instances = np.ones((40, 1), dtype=np.int64)
    found = {tuple(stratified(np.arange(40), instances, RATIOS, seed).tolist()) for seed in range(6)}
    assert len(found) == 6


def test_as_many_groups_as_splits_fill_one_each_and_the_largest_goes_where_most_is_asked_for() -> None:
    groups, instances = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2]), np.ones((9, 1), dtype=np.int64)
    for seed in range(5):
        assert stratified(groups, instances, RATIOS, seed).tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2]


def distance_of(assigned: Ints, shares: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> float:
    filled = np.stack([shares[assigned == split].sum(axis=0) for split in range(len(target))])
    return float(((filled - target) ** 2).sum())


@pytest.mark.parametrize("seed", range(4))
def test_refining_ends_where_no_single_move_brings_the_shares_closer(seed: int) -> None:
    """Found by trying every move, with the sums anew each time."""
    rng = np.random.default_rng(seed)
    shares = rng.random((14, 4)) ** 3
    shares /= shares.sum(axis=0)
    target = np.array(RATIOS)[:, None] * np.ones(4)
    assigned = np.array([0, 1, 2, *rng.integers(0, 3, 11)])
    filled = np.stack([shares[assigned == split].sum(axis=0) for split in range(3)])
    before = distance_of(assigned, shares, target)
    refine(assigned, filled, shares, target, rng)
    after = distance_of(assigned, shares, target)
    assert after < before
    np.testing.assert_allclose(filled, [shares[assigned == split].sum(axis=0) for split in range(3)], atol=1e-12)
    assert set(assigned.tolist()) == {0, 1, 2}
    for group in range(14):
        for split in range(3):
            moved = assigned.copy()
            moved[group] = split
            if (moved == assigned[group]).any():  # no split is emptied
                assert distance_of(moved, shares, target) > after - 1e-9


def test_refining_swaps_where_no_move_helps() -> None:
    """Two splits of one group each, the wrong way round: neither may be emptied, so they change places."""
    shares, target = np.array([[0.9], [0.1]]), np.array([[0.1], [0.9]])
    assigned, filled = np.array([0, 1]), shares.copy()
    refine(assigned, filled, shares, target, np.random.default_rng(3))  # whose first order is 1, 0
    assert assigned.tolist() == [1, 0]
    assert filled.ravel().tolist() == pytest.approx([0.1, 0.9])
