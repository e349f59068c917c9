from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.splits import (
    SPLITS,
    difference_hash,
    field_groups,
    joined_groups,
    near_duplicates,
    split_report,
    stratified,
)

RATIOS = {"train": 0.7, "val": 0.2, "test": 0.1}


def dataset(seed: int, group_count: int) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Groups of 1 to 5 images with 0 to 3 instances of four classes of very different frequency."""
    rng = np.random.default_rng(seed)
    groups: dict[int, int] = {}
    labels: dict[int, list[int]] = {}
    for group in range(group_count):
        for _ in range(int(rng.integers(1, 6))):
            image = len(groups) + 1
            groups[image] = group
            labels[image] = rng.choice(4, size=int(rng.integers(0, 4)), p=[0.5, 0.3, 0.15, 0.05]).tolist()
    return groups, labels


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(3, 60))
def test_groups_stay_whole_and_every_split_is_filled(seed: int, group_count: int) -> None:
    groups, labels = dataset(seed, group_count)
    split_of = stratified(groups, labels, RATIOS, seed)
    assert set(split_of) == set(groups)
    assert set(split_of.values()) == set(SPLITS)
    for group in set(groups.values()):
        assert len({split_of[image] for image in groups if groups[image] == group}) == 1
    assert split_of == stratified(groups, labels, RATIOS, seed)


@pytest.mark.parametrize("seed", range(5))
def test_images_and_every_class_are_within_two_points_of_the_ratios(seed: int) -> None:
    groups, labels = dataset(seed, 400)
    split_of = stratified(groups, labels, RATIOS, seed)
    totals = Counter(label for found in labels.values() for label in found)
    for split, ratio in RATIOS.items():
        members = [image for image in groups if split_of[image] == split]
        assert len(members) / len(groups) == pytest.approx(ratio, abs=0.02)
        counts = Counter(label for image in members for label in labels[image])
        for label, total in totals.items():
            assert counts[label] / total == pytest.approx(ratio, abs=0.02)


def test_too_few_groups_is_one_sentence() -> None:
    with pytest.raises(SeamlineError, match="2 groups of images cannot fill 3 splits"):
        stratified({1: 0, 2: 1}, {1: [0], 2: [0]}, RATIOS, 0)


def test_groups_by_field(capsys: pytest.CaptureFixture[str]) -> None:
    images: list[Record] = [{"id": 1, "pair_id": 7}, {"id": 2, "pair_id": "7"}, {"id": 3}, {"id": 4, "pair_id": None}]
    groups = field_groups(images, "pair_id")
    assert groups[1] == groups[2]
    assert len(set(groups.values())) == 3
    assert len(set(field_groups(images, None).values())) == 4
    assert len(set(field_groups(images, "nothing").values())) == 4
    assert "each image is a group of its own" in capsys.readouterr().out  # never silently
    with pytest.raises(SeamlineError, match="no image has the field 'pairid'; did you mean 'pair_id'"):
        field_groups(images, "pairid")


def test_near_duplicates_join_groups() -> None:
    groups = joined_groups({1: "a", 2: "a", 3: "b", 4: "c", 5: "d"}, [(2, 3)])
    assert groups[1] == groups[2] == groups[3]
    assert len(set(groups.values())) == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.integers(0, 16), st.randoms(use_true_random=False))
def test_near_duplicates_are_those_of_the_plain_double_loop(hashes: list[int], bits: int, random: object) -> None:
    for value in list(hashes)[:4]:  # some that differ in few bits
        hashes += [value ^ 1, value ^ (1 << 63 | 1 << 31), value ^ 0xFFFF]
    by_image = dict(enumerate(hashes))
    plain = [(a, b) for a in by_image for b in by_image if a < b and (by_image[a] ^ by_image[b]).bit_count() <= bits]
    assert near_duplicates(by_image, bits) == sorted(plain)


def test_a_hash_survives_rescaling_and_tells_pictures_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 255, (6, 6), np.uint8), (200, 200)) for _ in range(2)]
    cv2.imwrite(str(tmp_path / "a.png"), pictures[0])
    cv2.imwrite(str(tmp_path / "b.jpg"), cv2.resize(pictures[0], (120, 130)))
    cv2.imwrite(str(tmp_path / "c.png"), pictures[1])
    first, again, other = (difference_hash(tmp_path / name) for name in ("a.png", "b.jpg", "c.png"))
    assert (first ^ again).bit_count() <= 2
    assert (first ^ other).bit_count() > 10
    (tmp_path / "d.png").write_bytes(b"x")
    with pytest.raises(SeamlineError, match=r"d\.png"):
        difference_hash(tmp_path / "d.png")


def test_the_report_counts_what_leaks() -> None:
    split_of = {1: "train", 2: "val", 3: "test", 4: "train"}
    report = split_report(
        split_of, {1: "a", 2: "a", 3: "b", 4: "c"}, {1: ["x", "x"], 2: ["x"], 3: [], 4: ["y"]}, [(1, 4), (3, 4)]
    )
    assert report["leaked_groups"] == 1
    assert report["near_duplicates_across_splits"] == 1
    assert report["train"]["classes"] == {"x": {"images": 1, "instances": 2}, "y": {"images": 1, "instances": 1}}
    assert report["test"]["images_without_instance"] == 1
    assert report["val"]["share"] == 0.25
