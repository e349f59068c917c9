from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from ultralytics.data.utils import polygon2mask
from ultralytics.utils.ops import resample_segments

from seamline.masks.outlines import (
    Line,
    Mask,
    counts_to_runs,
    filled,
    line_to_trained_pixels,
    mask_iou,
    mask_to_corners,
    mask_to_rle,
    rle_to_crop,
    rle_to_mask,
    segmentation_to_rle,
)
from seamline.masks.yolo_labels import FINE_PX, corners_to_line, corners_to_text, precision_px, text_to_line
from tests.conftest import HAS_SHARED_DATA, SHARED_DATA, square


def ultralytics_mask(line: Line, height: int, width: int) -> Mask:
    """What ultralytics itself makes of a label line, by its own functions."""
    segment = line.astype(np.float32)
    points = resample_segments([segment], n=len(segment) + 1 if len(segment) > 1000 else 1000)[0]
    scaled = points * np.array([width, height], dtype=np.float32)
    mask: Mask = polygon2mask((height, width), [scaled.reshape(-1)])
    return mask


def blobs(seed: int, height: int, width: int) -> Mask:
    """A mask of smooth blobs, in several parts and with holes, such as garments have."""
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), min(height, width) / 12)
    return np.asarray(smooth > np.quantile(smooth, 0.6), dtype=np.uint8)


def trained_mask(line: Line, height: int, width: int) -> Mask:
    return filled(line_to_trained_pixels(line, height, width), height, width)


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
    kept = through_label(mask)
    assert kept[30, 30] == 0
    assert mask_iou(mask, kept) > 0.99


def test_parts_far_apart_are_one_line_and_stay_apart() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[5:30, 5:30] = mask[70:95, 70:95] = mask[5:30, 70:95] = 1
    kept = through_label(mask)
    assert cv2.connectedComponents(kept & mask)[0] == 4
    assert mask_iou(mask, kept) > 0.95  # the bridges are one pixel wide


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


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(30, 600), st.integers(30, 600))
def test_the_trained_mask_is_what_ultralytics_fills(seed: int, height: int, width: int) -> None:
    corners = mask_to_corners(blobs(seed, height, width))
    assert corners is not None
    line = corners_to_line(corners, height, width, FINE_PX)
    assert (trained_mask(line, height, width) == ultralytics_mask(line, height, width)).all()


@pytest.mark.parametrize("count", [3, 4, 500, 998, 999, 1000, 1001, 1002, 2500])
def test_lines_of_any_length_are_filled_as_ultralytics_does(count: int) -> None:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radii = 0.3 + 0.1 * np.sin(7 * angles)
    line = np.stack((0.5 + radii * np.cos(angles), 0.5 + radii * np.sin(angles)), axis=1)
    assert (trained_mask(line, 700, 500) == ultralytics_mask(line, 700, 500)).all()


@given(arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30)), elements=st.integers(0, 1)))
def test_a_crop_is_the_mask_inside_its_box(mask: Mask) -> None:
    rle = mask_to_rle(mask)
    crop, left, top = rle_to_crop(rle)
    again = np.zeros_like(mask)
    again[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    assert (again == mask).all()
    assert crop.size == 0 or (crop[0].any() and crop[-1].any() and crop[:, 0].any() and crop[:, -1].any())
    assert counts_to_runs(rle["counts"]).tolist() == counts_to_runs(rle["counts"].encode()).tolist()
    assert counts_to_runs(rle["counts"])[1::2].sum() == mask.sum()


@given(st.lists(st.integers(1, 3_000_000), min_size=1, max_size=20))
def test_runs_of_any_length_are_read_as_pycocotools_writes_them(runs: list[int]) -> None:
    rle = coco_mask.frPyObjects({"size": [sum(runs), 1], "counts": runs}, sum(runs), 1)
    assert counts_to_runs(rle["counts"]).tolist() == runs


def test_specks_that_pay_for_their_bridge_together_are_kept() -> None:
    """Each of them alone is smaller than the bridge to it; once one is reached, the others are near."""
    mask = np.zeros((120, 120), np.uint8)
    mask[5:45, 5:45] = 1
    for row in range(90, 112, 4):
        mask[row : row + 2, 90:110] = 1
    kept = through_label(mask)
    assert kept[90:112, 90:110].sum() >= mask[90:112, 90:110].sum()
    assert mask_iou(mask, kept) > mask_iou(mask, np.where(np.arange(120)[:, None] < 60, mask, 0).astype(np.uint8))


def test_several_bridges_from_one_point() -> None:
    mask = np.zeros((100, 101), np.uint8)
    cv2.fillPoly(mask, [np.array([[50, 60], [20, 5], [80, 5]], np.int32)], 1)  # its tip is nearest to both others
    mask[80:95, 5:25] = mask[80:95, 76:96] = 1
    kept = through_label(mask)
    assert mask_iou(mask, kept) > 0.95
    assert kept[75, 50] == 0  # nothing is filled between the bridges


def test_thousands_of_parts_are_joined_in_seconds() -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[::5, ::5] = 1
    mask[150:250, 150:250] = 1
    kept = through_label(mask)
    assert kept[150:250, 150:250].all()


def test_a_part_inside_a_hole_and_holes_in_small_parts() -> None:
    mask = np.zeros((200, 200), np.uint8)
    cv2.circle(mask, (100, 100), 90, 1, -1)
    cv2.circle(mask, (100, 100), 70, 0, -1)
    cv2.circle(mask, (100, 100), 40, 1, -1)
    cv2.circle(mask, (100, 100), 20, 0, -1)
    kept = through_label(mask)
    assert kept[100, 100] == kept[100, 45] == 0
    assert mask_iou(mask, kept) > 0.995


@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 1)))
def test_rle_in_every_form_is_the_same_mask(mask: Mask) -> None:
    height, width = mask.shape
    compressed = mask_to_rle(mask)
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    counts = [0, *runs] if flat[0] else runs
    for segmentation in (compressed, {"size": [height, width], "counts": counts}):
        assert (rle_to_mask(segmentation_to_rle(json.loads(json.dumps(segmentation)), height, width)) == mask).all()


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[1, 2, 3, 4]], {}, "x", {"size": [3, 4], "counts": [12]}, 5])
def test_what_is_no_mask_is_a_value_error(segmentation: object) -> None:
    with pytest.raises(ValueError, match="has"):
        segmentation_to_rle(segmentation, 10, 10)


def test_iou() -> None:
    first, second = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    assert mask_iou(first, second) == 1
    first[:2], second[1:3] = 1, 1
    assert mask_iou(first, second) == pytest.approx(1 / 3)


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
