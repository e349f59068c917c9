from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from seamline.masks.rle import (
    Mask,
    counts_to_runs,
    mask_iou,
    mask_to_rle,
    rle_to_crop,
    rle_to_mask,
    segmentation_to_rle,
)


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


@pytest.mark.parametrize(
    "runs",
    [
        [3, 2, 15, 0],
        [3, 2, 0, 0, 15],
        [3, 0, 2, 2, 13],
        [0, 0, 3, 2, 15],
        [0, 0, 0, 0, 8, 4, 8],
        [18, 2, 0, 0],
        [0, 20],
        [20],
        [20, 0],
        [0, 0, 20],
        [3, 0, 17],
    ],
)
def test_a_crop_of_an_rle_with_empty_runs_is_the_mask(runs: list[int]) -> None:
    """Some tools write them; of masks of nothing else pycocotools gives a box of billions of pixels."""
    rle = coco_mask.frPyObjects({"size": [4, 5], "counts": runs}, 4, 5)
    crop, left, top = rle_to_crop(rle)
    again = np.zeros((4, 5), np.uint8)
    again[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    np.testing.assert_array_equal(again, np.repeat(np.arange(len(runs)) % 2, runs).reshape(5, 4).T)


def test_polygons_are_unions_and_a_triangle_is_the_least() -> None:
    triangle, square = [1.0, 1.0, 8.0, 1.0, 1.0, 8.0], [5.0, 5.0, 9.0, 5.0, 9.0, 9.0, 5.0, 9.0]
    for polygons in ([triangle], [triangle, square], [triangle, [1.0, 2.0, 3.0, 4.0], "x", square]):
        usable = [polygon for polygon in polygons if polygon in (triangle, square)]
        expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(usable, 10, 12)))
        np.testing.assert_array_equal(rle_to_mask(segmentation_to_rle(polygons, 10, 12)), expected)


def test_an_rle_of_another_size_is_refused_whichever_side_differs() -> None:
    rle = mask_to_rle(np.ones((4, 6), np.uint8))
    assert segmentation_to_rle(rle, 4, 6) == rle
    for height, width in ((6, 4), (4, 7), (5, 6)):
        with pytest.raises(ValueError, match=rf"of size \[4, 6\] on an image of \[{height}, {width}\]"):
            segmentation_to_rle(rle, height, width)
    with pytest.raises(ValueError, match="of size None on an image"):
        segmentation_to_rle({"counts": "0"}, 4, 6)


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[1, 2, 3, 4]], {}, "x", {"size": [3, 4], "counts": [12]}, 5])
def test_what_is_not_a_mask_is_a_value_error(segmentation: object) -> None:
    with pytest.raises(ValueError, match="has"):
        segmentation_to_rle(segmentation, 10, 10)


def test_iou() -> None:
    first, second = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    assert mask_iou(first, second) == 1
    first[:2], second[1:3] = 1, 1
    assert mask_iou(first, second) == pytest.approx(1 / 3)
