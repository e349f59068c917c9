from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from seamline.masks.outlines import mask_to_corners
from seamline.masks.rle import (
    Mask,
    mask_iou,
    mask_to_rle,
    rle_to_crop,
    rle_to_mask,
    segmentation_to_rle,
)
from seamline.masks.yolo_labels import FINE_PX, corners_to_line, corners_to_text, precision_px, text_to_line
from tests.conftest import HAS_SHARED_DATA, SHARED_DATA, square
from tests.masks.smooth import blobs, trained_mask


def through_label(mask: Mask) -> Mask:
    corners = mask_to_corners(mask)
    assert corners is not None
    height, width = mask.shape
    text = corners_to_text(0, corners, height, width, precision_px(mask.sum(), corners))
    return trained_mask(text_to_line(text)[1], height, width)


def test_overlapping_polygons_are_a_union_as_pycocotools_says() -> None:
    outline, part = square(10, 10, 40), square(20, 20, 20)  # as DeepFashion2 lists a part beside the whole outline
    mask = rle_to_mask(segmentation_to_rle([outline, part], 80, 80))
    assert mask[10:50, 10:50].all()
    assert mask.sum() == 1600
    assert mask_iou(mask, through_label(mask)) == 1


def test_a_ring_keeps_its_hole() -> None:
    mask = np.zeros((60, 60), np.uint8)
    cv2.circle(mask, (30, 30), 25, 1, -1)
    cv2.circle(mask, (30, 30), 10, 0, -1)
    refilled = through_label(mask)
    assert refilled[30, 30] == 0
    assert mask_iou(mask, refilled) > 0.99


def test_parts_far_apart_are_one_line_and_stay_apart() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[5:30, 5:30] = mask[70:95, 70:95] = mask[5:30, 70:95] = 1
    refilled = through_label(mask)
    assert cv2.connectedComponents(refilled & mask)[0] == 4
    assert mask_iou(mask, refilled) > 0.95  # the bridges are one pixel wide


def test_a_speck_smaller_than_its_bridge_is_left_out() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[5:45, 5:45] = 1
    mask[90, 90] = 1
    assert through_label(mask).sum() == 1600


@pytest.mark.parametrize("pixels", [[(3, 4)], [(3, 4), (4, 4)], [(3, 4), (4, 5), (5, 6)]])
def test_the_smallest_masks_survive(pixels: list[tuple[int, int]]) -> None:
    mask = np.zeros((10, 12), np.uint8)
    for y, x in pixels:
        mask[y, x] = 1
    assert (through_label(mask) == mask).all()


def test_an_empty_mask_has_no_line() -> None:
    assert mask_to_corners(np.zeros((5, 5), np.uint8)) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(24, 200), st.integers(24, 200))
def test_blobs_keep_their_shape(seed: int, height: int, width: int) -> None:
    mask = blobs(seed, height, width)
    assert mask_iou(mask, through_label(mask)) > 0.9


@settings(max_examples=200, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 1)))
def test_any_mask_gives_a_valid_label_or_none(mask: Mask) -> None:
    corners = mask_to_corners(mask)
    if corners is None:
        assert not mask.any()
        return
    height, width = mask.shape
    index, read = text_to_line(corners_to_text(3, corners, height, width, FINE_PX))
    assert index == 3
    assert (read == corners_to_line(corners, height, width, FINE_PX)).all()
    assert (trained_mask(read, height, width) & mask).any()
    assert mask[corners[:, 1], corners[:, 0]].mean() > 0  # corners are pixels of the mask, or knees of bridges


def test_specks_that_pay_for_their_bridge_together_are_kept() -> None:
    """Each of them alone is smaller than the bridge to it; once one is reached, the others are near."""
    mask = np.zeros((120, 120), np.uint8)
    mask[5:45, 5:45] = 1
    for row in range(90, 112, 4):
        mask[row : row + 2, 90:110] = 1
    refilled = through_label(mask)
    assert refilled[90:112, 90:110].sum() >= mask[90:112, 90:110].sum()
    assert mask_iou(mask, refilled) > mask_iou(mask, np.where(np.arange(120)[:, None] < 60, mask, 0).astype(np.uint8))


def test_several_bridges_from_one_point() -> None:
    mask = np.zeros((100, 101), np.uint8)
    cv2.fillPoly(mask, [np.array([[50, 60], [20, 5], [80, 5]], np.int32)], 1)  # its tip is nearest to both others
    mask[80:95, 5:25] = mask[80:95, 76:96] = 1
    refilled = through_label(mask)
    assert mask_iou(mask, refilled) > 0.95
    assert refilled[75, 50] == 0  # nothing is filled between the bridges


def test_thousands_of_parts_are_joined_in_seconds() -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[::5, ::5] = 1
    mask[150:250, 150:250] = 1
    refilled = through_label(mask)
    assert refilled[150:250, 150:250].all()


def test_a_part_inside_a_hole_and_holes_in_small_parts() -> None:
    mask = np.zeros((200, 200), np.uint8)
    cv2.circle(mask, (100, 100), 90, 1, -1)
    cv2.circle(mask, (100, 100), 70, 0, -1)
    cv2.circle(mask, (100, 100), 40, 1, -1)
    cv2.circle(mask, (100, 100), 20, 0, -1)
    refilled = through_label(mask)
    assert refilled[100, 100] == refilled[100, 45] == 0
    assert mask_iou(mask, refilled) > 0.995


@pytest.mark.skipif(not HAS_SHARED_DATA, reason="the real annotations are not on this machine")
@pytest.mark.parametrize("name", ["ccp-mini", "deepfashion2-mini"])
def test_real_masks_survive(name: str) -> None:
    data = json.loads((SHARED_DATA / name / "instances.json").read_text())
    images = {image["id"]: image for image in data["images"]}
    ious = []
    for record in data["annotations"]:
        image = images[record["image_id"]]
        mask = rle_to_mask(segmentation_to_rle(record["segmentation"], image["height"], image["width"]))
        assert (
            mask == coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(record["segmentation"], *mask.shape)))
        ).all()
        crop, left, top = rle_to_crop(mask_to_rle(mask))
        assert (crop == mask[top : top + crop.shape[0], left : left + crop.shape[1]]).all()
        ious.append(mask_iou(mask, through_label(mask)))
    assert np.mean(ious) >= 0.99
    assert np.percentile(ious, 1) >= 0.90
    assert min(ious) >= 0.5
