from __future__ import annotations

import json
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from seamline.masks import outlines
from seamline.masks.outlines import (
    MAX_RINGS,
    mask_to_corners,
    nearest_points,
    outline_px,
    ring_pixels,
    straightened,
    thinned,
    tolerance_px,
    worth_a_ring,
)
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


@pytest.mark.parametrize("turns", range(4))
def test_a_speck_smaller_than_its_bridge_is_left_out(turns: int) -> None:
    """Wherever it lies: the walk begins at the largest part, not at the first or the last one."""
    mask = np.zeros((100, 100), np.uint8)
    mask[5:45, 5:45] = 1
    mask[89:91, 89:91] = 1  # more than SPECKS_SHARE
    refilled = through_label(np.ascontiguousarray(np.rot90(mask, turns)))
    mask[89:91, 89:91] = 0
    assert (refilled == np.rot90(mask, turns)).all()


def test_the_first_speck_beyond_the_share_is_kept() -> None:
    """Two of 16 px beside 40,000: one is within 0.1%, both are not, nor is a part that would be the last one left."""
    assert worth_a_ring([40_000.0, 16.0, 25.0], [-1, -1, -1], 40.0) == [0, 2]
    assert worth_a_ring([40_000.0, 16.0, 25.0], [-1, -1, -1], 16.0) == [0, 2]
    assert worth_a_ring([40_000.0, 16.0, 25.0], [-1, -1, -1], 15.9) == [0, 1, 2]
    assert worth_a_ring([3.0, 1.0, 2.0], [-1, -1, -1], 10.0) == [0]
    assert worth_a_ring([40_000.0, 16.0, 9.0], [-1, -1, 1], 25.0) == [0]  # a hole goes with its part
    assert worth_a_ring([16.0, 9.0, 9.0, 40_000.0], [-1, -1, 0, -1], 9.0) == [0, 1, 3]  # of equals, the hole first
    assert worth_a_ring([16.0, 9.0, 9.0, 40_000.0], [-1, -1, 3, -1], 18.0) == [0, 3]


def test_more_rings_than_can_be_joined_lose_the_smallest() -> None:
    sizes = [float(size) for size in range(MAX_RINGS + 2, 0, -1)]
    assert worth_a_ring(sizes[2:], [-1] * MAX_RINGS, 0.0) == list(range(MAX_RINGS))
    assert worth_a_ring(sizes, [-1] * len(sizes), 0.0) == list(range(MAX_RINGS))


def discs(*circles: tuple[int, int, int, int]) -> Mask:
    """Each given by its centre's column and row, its radius, and whether it is filled or taken away."""
    mask = np.zeros((300, 500), np.uint8)
    for column, row, radius, value in circles:
        cv2.circle(mask, (column, row), radius, value, -1)
    return mask


@pytest.mark.parametrize("more", [[], [(390, 150, 90, 1)], [(150, 150, 9, 0)]])
def test_a_large_mask_has_few_corners_for_less_than_a_hundredth_of_it(more: list[tuple[int, int, int, int]]) -> None:
    """One part, two parts, a hole: OpenCV's outline of the first has 170 corners at the ends of its straight runs."""
    mask = discs((150, 150, 120, 1), *more)
    corners = mask_to_corners(mask)
    assert corners is not None
    assert 12 <= len(corners) <= 80
    assert mask_iou(mask, through_label(mask)) > 1 - outlines.LOST_SHARE


@pytest.mark.parametrize(
    ("area", "length", "tolerance"),
    [(10_000, 570, 0.5), (10_000, 571, 0.0), (10_000, 285, 1.0), (10_000, 190, 1.5), (10_000, 95, 1.5), (100, 0, 1.5)],
)
def test_what_may_be_thinned_by_is_a_share_of_the_area_for_the_outline(
    area: float, length: float, tolerance: float
) -> None:
    """3 x 0.0095 x area / outline, at most 1.5 px, and nothing below half a pixel."""
    assert tolerance_px(area, length) == pytest.approx(tolerance, abs=1e-12)


def test_a_path_is_thinned_as_opencv_does_and_keeps_its_ends() -> None:
    walk = np.array([[0, 0], [5, 1], [10, 0], [15, 6], [20, 0]], dtype=np.int32)
    assert thinned(walk, 1.5).tolist() == [[0, 0], [10, 0], [15, 6], [20, 0]]
    assert thinned(walk, 0.0).tolist() == walk.tolist()
    assert thinned(walk[:2], 9.0).tolist() == walk[:2].tolist()
    assert thinned(walk[:3], 1.5).tolist() == [[0, 0], [10, 0]]
    ring = np.array([[0, 0], [5, 1], [10, 0], [10, 10], [5, 9], [0, 10], [0, 0]], dtype=np.int32)
    assert thinned(ring, 1.5).tolist() == [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]


def test_a_walk_keeps_its_turns_alone() -> None:
    walk = [[0, 0], [2, 0], [2, 0], [4, 0], [6, 2], [8, 4], [8, 6], [8, 9], [5, 9], [4, 7], [2, 5], [1, 2]]
    turns = [[0, 0], [4, 0], [8, 4], [8, 9], [5, 9], [4, 7], [2, 5], [1, 2]]
    assert straightened(np.array(walk, dtype=np.int32)).tolist() == turns
    # Two steps on one slope are two corners: only rows, columns and diagonals are known to be straight.
    sloped = [[0, 0], [2, 1], [4, 2], [4, 0]]
    assert straightened(np.array(sloped, dtype=np.int32)).tolist() == [[0, 0], [4, 2], [4, 0]]
    kinked = [[0, 0], [2, 1], [5, 3], [5, 0]]  # both down and right, and not one line
    assert straightened(np.array(kinked, dtype=np.int32)).tolist() == kinked
    assert straightened(np.array([[3, 4], [3, 4]], dtype=np.int32)).tolist() == [[3, 4]]


@given(st.integers(0, 500), st.integers(2, 40), st.integers(2, 40))
def test_pixels_of_a_ring_are_those_that_are_filled(seed: int, height: int, width: int) -> None:
    mask = blobs(seed, height, width)
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for contour in found:
        ring = contour.reshape(-1, 2).astype(np.int32)
        whole = cv2.drawContours(np.zeros_like(mask), [contour], -1, 1, -1)
        assert ring_pixels(ring) == whole.sum()
        assert outline_px(ring) == (len(ring) if len(ring) > 1 else 0)


@pytest.mark.parametrize("count", [7, 99, 100, 101, 200])
def test_the_nearest_point_is_the_nearest_of_all(count: int) -> None:
    """Pairs below 10,000 are compared; from there on a tree finds them."""
    rng = np.random.default_rng(count)
    among, of = rng.integers(0, 300, (count, 2), dtype=np.int32), rng.integers(0, 300, (100, 2), dtype=np.int32)
    lengths, closest = nearest_points(among, of, only_nearest=False)
    every = np.array([[max(abs(int(a[0] - b[0])), abs(int(a[1] - b[1]))) for b in among] for a in of])
    assert lengths.tolist() == every.min(axis=1).tolist()
    assert every[np.arange(100), closest].tolist() == every.min(axis=1).tolist()


@pytest.mark.parametrize(("count", "shift"), [(99, 0), (100, 0), (800, 0), (800, 40), (800, 400)])
def test_looking_only_for_the_nearest_point_finds_the_same_one(count: int, shift: int) -> None:
    """Of many that are equally near, too: the bridge between two parts may not depend on how it was looked for."""
    rng = np.random.default_rng(count + shift)
    for _ in range(20):
        among, of = (rng.integers(0, 60, (length, 2), dtype=np.int32) for length in (count, 100))
        lengths, closest = nearest_points(among, of + shift, only_nearest=False)
        some_lengths, some_closest = nearest_points(among, of + shift, only_nearest=True)
        nearest = lengths == lengths.min()
        assert (some_lengths == lengths.min()).tolist() == nearest.tolist()
        assert some_closest[nearest].tolist() == closest[nearest].tolist()


def test_bridges_take_the_shortest_way_and_enclose_nothing() -> None:
    """Three squares in an L: to the one beside and the one below, 20 px each, never along the diagonal of 30."""
    mask = np.zeros((80, 90), np.uint8)
    mask[5:30, 5:30] = mask[5:30, 50:75] = mask[50:75, 5:30] = 1
    refilled = through_label(mask)
    assert not (mask & ~refilled & 1).any()
    assert (refilled ^ mask).sum() == 40  # 20 px from column 30 to 49 and from row 30 to 49


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


def test_of_thousands_of_parts_the_large_one_is_kept_whole() -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[::5, ::5] = 1
    mask[150:250, 150:250] = 1
    refilled = through_label(mask)
    assert refilled[150:250, 150:250].all()
    assert mask_iou(mask, refilled) > 10_000 / 16_000  # what is lost are specks of one pixel, 6,000 of them


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


@pytest.mark.parametrize("kind", ["noise", "halftone"])
def test_a_large_mask_of_noise_takes_no_minutes(kind: str) -> None:
    """Over a hundred thousand parts and holes, traced and joined, took 20 seconds and more."""
    rows, columns = np.mgrid[:1200, :1600]
    noise = np.random.default_rng(0).random((1200, 1600)) < 0.5
    mask = (noise if kind == "noise" else (rows + columns) % 2 == 0).astype(np.uint8)
    before = mask.copy()
    start = time.process_time()
    corners = mask_to_corners(mask)
    assert time.process_time() - start < 15
    assert corners is not None
    assert (mask == before).all()


def test_large_lace_keeps_its_holes() -> None:
    """As cv2 draws them; their edges are too few for noise."""
    mask = np.zeros((1000, 1000), np.uint8)
    cv2.circle(mask, (500, 500), 490, 1, -1)
    for row in range(220, 800, 24):
        for column in range(220, 800, 24):
            cv2.circle(mask, (column, row), 5, 0, -1)
    corners = mask_to_corners(mask)
    again = np.zeros_like(mask)
    cv2.fillPoly(again, [np.asarray(corners)], 1)
    assert np.count_nonzero(mask & again) / np.count_nonzero(mask | again) > 0.985
    assert cv2.connectedComponents(1 - again, connectivity=4)[0] > 600
