"""Non-maximum suppression beside torchvision's."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import torchvision

from seamline.models.nms import non_maximum_suppression


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_nms_is_torchvisions(iou: float) -> None:
    rng = np.random.default_rng(2)
    centres, sides = rng.uniform(-20, 120, (300, 2)), rng.uniform(5, 80, (300, 2))
    corners = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1).astype(np.float32)
    scores = rng.permutation(np.linspace(0.01, 0.99, 300)).astype(np.float32)
    classes = rng.integers(0, 3, 300)
    expected = [
        int(members[index])
        for number in range(3)
        for members in [np.flatnonzero(classes == number)]
        for index in torchvision.ops.nms(torch.from_numpy(corners[members]), torch.from_numpy(scores[members]), iou)
    ]
    expected.sort(key=lambda index: -scores[index])
    assert non_maximum_suppression(corners, scores, classes, iou, 300).tolist() == expected


@pytest.mark.parametrize("most", [1, 7, 100, 5000])
@pytest.mark.parametrize("count", [0, 1, 31, 33, 129, 2000])
def test_nms_is_torchvisions_at_every_size(count: int, most: int) -> None:
    rng = np.random.default_rng(count)
    centres, sides = rng.uniform(0, 300, (count, 2)), rng.uniform(5, 120, (count, 2))
    corners = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1).astype(np.float32)
    corners[: count // 20] = corners[count // 2 : count // 2 + count // 20]  # the same box twice
    corners[count // 3 : count // 3 + count // 30, 2:] = corners[count // 3 : count // 3 + count // 30, :2]  # no area
    scores = rng.permutation(np.linspace(0.01, 0.99, count)).astype(np.float32)
    classes = rng.integers(0, 5, count)
    expected = torchvision.ops.batched_nms(
        torch.from_numpy(corners), torch.from_numpy(scores), torch.from_numpy(classes), 0.5
    )
    found = non_maximum_suppression(corners, scores, classes, 0.5, most)
    assert found.tolist() == expected[:most].tolist()


@pytest.mark.parametrize("iou", [0.2, 0.25, 0.5, 0.6, 0.7])
def test_nms_of_equal_scores_and_overlaps_of_exactly_the_limit_is_torchvisions(iou: float) -> None:
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 8, (400, 4)).astype(np.float32)
    corners[:, 2:] += corners[:, :2]
    scores = (rng.integers(1, 20, 400) / 20).astype(np.float32)
    expected = torchvision.ops.nms(torch.from_numpy(corners), torch.from_numpy(scores), iou)
    found = non_maximum_suppression(corners, scores, np.zeros(400, np.int64), iou, 400)
    assert found.tolist() == expected.tolist()


def test_nms_looks_as_far_as_it_takes() -> None:
    """A thousand boxes at one place are one detection; the others are weaker."""
    corners = np.array([[0, 0, 10, 10]] * 1000 + [[20 * place, 50, 20 * place + 10, 60] for place in range(5)])
    scores = np.linspace(0.9, 0.1, len(corners)).astype(np.float32)
    found = non_maximum_suppression(corners.astype(np.float32), scores, np.zeros(len(corners), np.int64), 0.5, 4)
    assert found.tolist() == [0, 1000, 1001, 1002]


def test_nms_of_33_600_candidates_takes_no_longer_than_torchvisions() -> None:
    rng = np.random.default_rng(0)
    count = 33_600
    centres, sides = rng.uniform(0, 640, (count, 2)), rng.uniform(5, 200, (count, 2))
    corners = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1).astype(np.float32)
    scores, classes = rng.permutation(np.linspace(0.001, 0.99, count)).astype(np.float32), rng.integers(0, 13, count)
    tensors = [torch.from_numpy(part) for part in (corners, scores, classes)]
    ours, theirs = [], []
    for _ in range(7):  # processor time, in turns: what else the machine does counts for neither
        start = time.process_time()
        found = non_maximum_suppression(corners, scores, classes, 0.7, 300)
        ours.append(time.process_time() - start)
        start = time.process_time()
        expected = torchvision.ops.batched_nms(*tensors, 0.7)
        theirs.append(time.process_time() - start)
    assert found.tolist() == expected[:300].tolist()
    assert min(ours) < min(theirs)
