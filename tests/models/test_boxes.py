"""Overlaps of boxes beside pycocotools and beside counted pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from seamline.models.boxes import bboxes_to_boxes, box_ious


def test_ious_are_pycocotools() -> None:
    rng = np.random.default_rng(0)
    bboxes = np.concatenate([rng.uniform(0, 50, (12, 2)), rng.uniform(1, 40, (12, 2))], axis=1)
    boxes = bboxes_to_boxes(bboxes.tolist())
    assert box_ious(boxes[:5], boxes[5:]) == pytest.approx(coco_mask.iou(bboxes[:5], bboxes[5:], [0] * 7))


def test_ious_are_those_of_the_pixels_also_where_boxes_only_touch() -> None:
    def to_mask(x: int, y: int, width: int, height: int) -> np.ndarray:
        mask = np.zeros((9, 9), bool)
        mask[y : y + height, x : x + width] = True
        return mask

    bboxes = [(0, 0, 4, 4), (2, 2, 4, 4), (4, 0, 1, 1)]
    found = box_ious(bboxes_to_boxes(bboxes), bboxes_to_boxes(bboxes))
    for one, other in itertools.product(range(3), repeat=2):
        first, second = to_mask(*bboxes[one]), to_mask(*bboxes[other])
        assert found[one, other] == pytest.approx((first & second).sum() / (first | second).sum())


def test_empty_boxes_and_no_boxes_overlap_nothing() -> None:
    point = bboxes_to_boxes([[3, 3, 0, 0]])
    assert box_ious(point, point).tolist() == [[0.0]]
    assert box_ious(bboxes_to_boxes([]), point).shape == (0, 1)
