"""Detections: masks as runs and as pixels, and as COCO has them, beside pycocotools."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from seamline.masks.rle import mask_iou
from seamline.models.detections import Crop, Detections, crop_to_polygon, runs_to_crop, runs_to_rle, toggles_to_runs


def mask_to_runs(mask: npt.NDArray[np.uint8], left: int, top: int, height: int) -> npt.NDArray[np.int64]:
    """Runs from changes in each column, in no order, as the runtime finds them."""
    padded = np.pad(mask, ((1, 1), (0, 0))).astype(np.int8)
    row, column = np.nonzero(np.diff(padded, axis=0))
    return toggles_to_runs((left + column) * height + top + row)


small_masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


@given(small_masks, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_runs_of_a_crop_are_pycocotools_rle_of_the_whole_mask(
    mask: npt.NDArray[np.uint8], left: int, top: int, right: int, below: int
) -> None:
    height, width = top + mask.shape[0] + below, left + mask.shape[1] + right
    whole = np.zeros((height, width), np.uint8)
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    expected = coco_mask.encode(np.asfortranarray(whole))
    runs = mask_to_runs(mask, left, top, height)
    assert runs_to_rle(runs, height, width) == {"size": [height, width], "counts": expected["counts"].decode()}
    crop, first_column, first_row = runs_to_crop(runs, height)
    again = np.zeros_like(whole)
    again[first_row : first_row + crop.shape[0], first_column : first_column + crop.shape[1]] = crop
    np.testing.assert_array_equal(again, whole)


@given(small_masks.filter(lambda mask: bool(mask.any())))
def test_a_crop_is_only_as_large_as_its_pixels_ask_for(mask: npt.NDArray[np.uint8]) -> None:
    crop, left, top = runs_to_crop(mask_to_runs(mask, 0, 0, len(mask)), len(mask))
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    np.testing.assert_array_equal(crop, mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    assert (left, top) == (columns[0], rows[0])


@given(small_masks, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_a_mask_held_as_pixels_is_the_one_held_as_runs(
    mask: npt.NDArray[np.uint8], left: int, top: int, right: int, below: int
) -> None:
    height, width = top + mask.shape[0] + below, left + mask.shape[1] + right
    whole = np.zeros((height, width), np.uint8)
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    shapes: list[Crop | npt.NDArray[np.int64]] = [Crop(mask, left, top), mask_to_runs(mask, left, top, height)]
    found = Detections(
        np.zeros((2, 4), np.float32), np.ones(2, np.float32), np.zeros(2, np.int64), shapes, height, width
    )
    flat = whole.flatten(order="F").astype(int)  # down the columns
    changes = np.flatnonzero(np.diff(np.concatenate(([0], flat, [0]))))
    for index in range(2):
        np.testing.assert_array_equal(found.mask(index), whole)
        assert found.runs(index).tolist() == changes.tolist()
        assert found.rle(index)["counts"] == coco_mask.encode(np.asfortranarray(whole))["counts"].decode()
        crop, first_column, first_row = found.crop(index)
        assert crop.sum() == whole[first_row : first_row + crop.shape[0], first_column:].sum() == mask.sum()
    assert [part.tolist() for part in found.masks] == [whole.tolist()] * 2
    assert found.polygon(0) == found.polygon(1)


def test_timings_are_put_beside_what_was_found() -> None:
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), [], 6, 8)
    timed = nothing.with_timings(1.5, 2.5, 3.5)
    assert timed.timings_ms == (1.5, 2.5, 3.5)
    assert (timed.height, timed.width, timed.shapes, len(timed)) == (6, 8, [], 0)


def test_a_polygon_of_a_square_runs_along_the_edges_of_its_pixels() -> None:
    """Where COCO has them: three pixels from column 4 and row 2 on are 4 to 7 and 2 to 5."""
    polygon = crop_to_polygon(Crop(np.ones((3, 3), np.uint8), 4, 2))
    corners = {(polygon[index], polygon[index + 1]) for index in range(0, len(polygon), 2)}
    assert corners == {(4.0, 2.0), (7.0, 2.0), (7.0, 5.0), (4.0, 5.0)}
    assert all(isinstance(value, float) for value in polygon)


def test_no_mask_is_an_empty_rle_and_no_polygon() -> None:
    nothing = mask_to_runs(np.zeros((0, 0), np.uint8), 3, 4, 20)
    assert coco_mask.decode(runs_to_rle(nothing, 20, 10)).sum() == 0
    assert crop_to_polygon(runs_to_crop(nothing, 20)) == []


def test_a_polygon_gives_the_mask_back_hole_and_parts_included() -> None:
    """As pycocotools fills it: what is lost is what thinning may lose."""
    canvas = np.zeros((120, 100), np.uint8)
    cv2.ellipse(canvas, (50, 50), (40, 30), 20, 0, 360, 1, -1)
    cv2.circle(canvas, (50, 50), 12, 0, -1)
    cv2.rectangle(canvas, (10, 95), (30, 110), 1, -1)
    polygon = crop_to_polygon(Crop(canvas[5:115, 5:95], 25, 35))
    expected = np.zeros((200, 150), np.uint8)
    expected[35:145, 25:115] = canvas[5:115, 5:95]
    [rle] = coco_mask.frPyObjects([polygon], 200, 150)
    assert mask_iou(coco_mask.decode(rle), expected) > 0.98


def test_coco_records_are_boxes_by_width_and_the_masks_pixels() -> None:
    runs = mask_to_runs(np.array([[1, 0], [1, 1]], np.uint8), 3, 2, 6)
    boxes = np.array([[2.5, 2.0, 5.0, 4.25]], np.float32)
    found = Detections(boxes, np.array([0.5], np.float32), np.array([1]), [runs], 6, 8)
    [record] = found.to_coco(7, [10, 20])
    assert (record["image_id"], record["category_id"], record["score"]) == (7, 20, 0.5)
    assert record["bbox"] == [2.5, 2.0, 2.5, 2.25]
    expected = np.zeros((6, 8), np.uint8)
    expected[2:4, 3] = expected[3, 4] = 1
    np.testing.assert_array_equal(coco_mask.decode(record["segmentation"]), expected)
