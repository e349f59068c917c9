from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from seamline.errors import SeamlineError
from seamline.splits import (
    SPLITS,
    class_divergence,
    difference_hash,
    joined_groups,
    near_duplicates,
    official_splits,
    split_report,
    stratified,
)
from tests.conftest import SHARED_DATA

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


def test_near_duplicates_join_groups() -> None:
    groups = joined_groups(np.array([0, 0, 1, 2, 3]), np.array([[1, 2]]))
    assert groups[0] == groups[1] == groups[2]
    assert sorted(set(groups.tolist())) == [0, 1, 2]
    assert joined_groups(np.array([0, 1]), np.zeros((0, 2), np.int64)).tolist() == [0, 1]


def connected(pairs: list[Any], count: int) -> list[int]:
    """The lowest member of each one's component, by plain repetition."""
    lowest = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            lowest[a] = lowest[b] = min(lowest[a], lowest[b])
    return lowest


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=16, max_size=16), max_size=10), st.integers(0, 24))
def test_near_duplicates_are_those_of_the_plain_double_loop(values: list[bytes], bits: int) -> None:
    for value in list(values)[:4]:  # copies, and some that differ in few bits
        changed = [bytes([value[0] ^ 1]) + value[1:], bytes([value[0] ^ 255, value[1] ^ 255]) + value[2:]]
        values += [value, value, *changed]
    numbers = [int.from_bytes(value, "big") for value in values]
    plain = [(a, b) for b in range(len(values)) for a in range(b) if (numbers[a] ^ numbers[b]).bit_count() <= bits]
    found = near_duplicates(np.array([list(value) for value in values], np.uint8).reshape(-1, 16), bits)
    pairs = [tuple(pair) for pair in found.tolist()]
    assert pairs == sorted(set(pairs))
    assert set(pairs) <= set(plain)
    assert connected(pairs, len(values)) == connected(plain, len(values))
    if len(set(numbers)) == len(numbers):
        assert pairs == sorted(plain)


def test_thousands_of_copies_are_found_in_a_moment() -> None:
    """Every pair of 30,000 blank photos would be 450 million."""
    hashes = np.zeros((30_000, 16), np.uint8)
    hashes[-1, 3] = 1
    assert near_duplicates(hashes, 8).tolist() == [[0, index] for index in range(1, 30_000)]


def test_a_hash_survives_rescaling_and_tells_pictures_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 255, (6, 6), np.uint8), (200, 200)) for _ in range(2)]
    cv2.imwrite(str(tmp_path / "a.png"), pictures[0])
    cv2.imwrite(str(tmp_path / "b.jpg"), cv2.resize(pictures[0], (120, 130)))
    cv2.imwrite(str(tmp_path / "c.png"), pictures[1])
    first, again, other = (difference_hash(tmp_path / name) for name in ("a.png", "b.jpg", "c.png"))
    assert np.bitwise_count(first ^ again).sum() <= 4
    assert np.bitwise_count(first ^ other).sum() > 20
    (tmp_path / "d.png").write_bytes(b"x")
    with pytest.raises(SeamlineError, match=r"d\.png"):
        difference_hash(tmp_path / "d.png")


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the real photos are not on this machine")
def test_real_photos_encoded_again_are_found_and_others_are_not(tmp_path: Path) -> None:
    photos = sorted((SHARED_DATA / "ccp-mini" / "photos").glob("*.jpg"))
    hashes = [difference_hash(path) for path in photos]
    for index, path in enumerate(photos):
        photo = np.asarray(cv2.imread(str(path)))
        smaller = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        brighter = cv2.convertScaleAbs(photo, alpha=1.05, beta=8)
        cv2.imwrite(str(tmp_path / f"{index}a.jpg"), smaller, [cv2.IMWRITE_JPEG_QUALITY, 70])
        cv2.imwrite(str(tmp_path / f"{index}b.jpg"), brighter, [cv2.IMWRITE_JPEG_QUALITY, 50])
        hashes += [difference_hash(tmp_path / f"{index}{kind}.jpg") for kind in "ab"]
    pairs = near_duplicates(np.array(hashes), 8)
    count = len(photos)
    origin = np.array([*range(count), *np.repeat(np.arange(count), 2)])
    assert (origin[pairs[:, 0]] == origin[pairs[:, 1]]).all()
    found = {int(index) for pair in pairs for index in pair}
    assert len(found) >= 0.97 * len(hashes)


def test_official_splits_are_taken_over() -> None:
    values = ["train", "val", "train", None]
    assert official_splits(values, {"test": "val"}).tolist() == [-1, SPLITS.index("test"), -1, -1]
    with pytest.raises(SeamlineError, match=r"source's split 'dev', which test shall be; there are train, val"):
        official_splits(values, {"test": "dev"})
    with pytest.raises(SeamlineError, match="nothing is left for val;"):
        official_splits(values[:3], {"train": "train", "test": "val"})
    with pytest.raises(SeamlineError, match="1 images are of no split it names"):
        official_splits(["a", "b", "c", None], {"train": "a", "val": "b", "test": "c"})


def test_the_report_counts_what_leaks() -> None:
    assigned = np.array([0, 1, 2, 0])
    instances = np.array([[2, 0], [1, 0], [0, 0], [0, 1]])
    report = split_report(
        assigned, np.array([0, 0, 1, 2]), instances, ["x", "y"], np.array([[0, 3], [2, 3]]), np.array([0, 0, 1, 1])
    )
    assert report["largest_group_share"] == 0.5
    assert report["leaked_groups"] == 1
    assert report["near_duplicates_across_splits"] == 1
    assert report["train"]["classes"] == {"x": {"images": 1, "instances": 2}, "y": {"images": 1, "instances": 1}}
    assert report["test"]["images_without_instance"] == 1
    assert report["val"]["share"] == 0.25
    assert report["divergence"]["val_test"] == 1
    assert Counter(type(value) for value in report["divergence"].values()) == {float: 3}


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=6))
def test_divergence_is_that_of_scipy(counts: list[tuple[int, int]]) -> None:
    first, second = np.array(counts).T
    if first.sum() and second.sum():
        assert class_divergence(first, second) == pytest.approx(jensenshannon(first, second, base=2) ** 2, abs=1e-9)
