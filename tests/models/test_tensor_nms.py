"""Suppression of a batch in tensors beside torchvision's, and beside the numpy one that has the same results."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from seamline.models.nms import non_maximum_suppression
from seamline.models.tensor_nms import BLOCK, left_after_suppression, rounded_down


def drawn(seed: int, count: int, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes, some of them twice and some of no area, with scores in steps: many are equal."""
    rng = np.random.default_rng(seed)
    centres, sides = rng.uniform(0, 300, (count, 2)), rng.uniform(5, 120, (count, 2))
    corners = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1).astype(np.float32)
    corners[: count // 20] = corners[count // 2 : count // 2 + count // 20]
    corners[count // 3 : count // 3 + count // 30, 2:] = corners[count // 3 : count // 3 + count // 30, :2]
    scores = (rng.integers(1, 200, count) / 200).astype(np.float32)
    return tuple(map(torch.from_numpy, (corners, scores, rng.integers(0, classes, count))))  # type: ignore[return-value]


def left_of(images: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], iou: float, most: int) -> list[list[int]]:
    """Indices of the boxes that are left of each image, best first; the images are one batch."""
    size = max(len(scores) for _, scores, _ in images)
    corners, classes = torch.full((len(images), size, 4), 7.0), torch.zeros((len(images), size), dtype=torch.long)
    orders = [scores.argsort(descending=True, stable=True) for _, scores, _ in images]
    for index, (order, (own, _, kinds)) in enumerate(zip(orders, images, strict=True)):
        corners[index, : len(order)], classes[index, : len(order)] = own[order], kinds[order]
    counts = torch.tensor([len(order) for order in orders])
    left = left_after_suppression(corners, classes, counts, iou, most)
    assert left.shape == (len(images), size)
    return [order[own[: len(order)]].tolist() for order, own in zip(orders, left, strict=True)]


@pytest.mark.parametrize("most", [1, 7, 100, 5000])
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_a_batch_of_images_of_any_number_of_boxes_is_torchvisions_one_by_one(iou: float, most: int) -> None:
    """From none to several blocks, in one batch; torchvision's batched_nms leaves the order of equal scores open."""
    images = [drawn(count, count) for count in (0, 1, 2, 40, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7)]
    for found, (corners, scores, classes) in zip(left_of(images, iou, most), images, strict=True):
        expected = [
            int(members[index])
            for members in ((classes == number).nonzero()[:, 0] for number in range(5))
            for index in torchvision.ops.nms(corners[members], scores[members], iou)
        ]
        expected.sort(key=lambda index: (-float(scores[index]), index))
        assert found == expected[:most]
        ours = non_maximum_suppression(corners.numpy(), scores.numpy(), classes.numpy(), iou, most)
        assert found == ours.tolist()


@pytest.mark.parametrize("iou", [0.2, 0.25, 0.5, 0.6, 0.7, 1 / 3])
def test_equal_scores_and_overlaps_of_exactly_the_limit_are_torchvisions(iou: float) -> None:
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 8, (400, 4)).astype(np.float32)
    corners[:, 2:] += corners[:, :2]
    image = (
        torch.from_numpy(corners),
        torch.from_numpy((rng.integers(1, 20, 400) / 20).astype(np.float32)),
        torch.zeros(400, dtype=torch.long),
    )
    assert left_of([image], iou, 400) == [torchvision.ops.nms(image[0], image[1], iou).tolist()]


def test_it_looks_as_far_as_it_takes_and_no_further() -> None:
    """A thousand boxes at one place are one detection; the others are weaker, and in another block."""
    places = [[0, 0, 10, 10]] * 1000 + [[20 * place, 50, 20 * place + 10, 60] for place in range(5)]
    image = (torch.tensor(places).float(), torch.linspace(0.9, 0.1, 1005), torch.zeros(1005, dtype=torch.long))
    other = (torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.5]), torch.tensor([0]))
    assert left_of([other, image, other], 0.5, 4) == [[0], [0, 1000, 1001, 1002], [0]]


def test_a_chain_of_boxes_each_of_which_overlaps_the_next_is_settled_from_the_first_on() -> None:
    """Every second one is left, however long the chain is."""
    corners = torch.tensor([[4.0 * place, 0, 4 * place + 10, 10] for place in range(300)])
    image = (corners, torch.linspace(0.9, 0.1, 300), torch.zeros(300, dtype=torch.long))
    assert left_of([image], 0.4, 300) == [list(range(0, 300, 2))]


@pytest.mark.parametrize("limit", [0.7, 0.1, 0.5, 1 / 3, 0.3, 1.0])
def test_the_limit_is_not_rounded_up(limit: float) -> None:
    """An overlap in f32 is above the limit exactly where it is above what the limit became."""
    down = rounded_down(limit)
    assert down <= limit < float(np.nextafter(np.float32(down), np.float32(2)))
