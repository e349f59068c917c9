from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.data.utils import polygon2mask
from ultralytics.utils.ops import resample_segments

from seamline.masks.filling import filled
from seamline.masks.outlines import mask_to_corners
from seamline.masks.rle import (
    Mask,
)
from seamline.masks.yolo_labels import FINE_PX, Line, corners_to_line
from tests.masks.smooth import blobs, trained_mask


def ultralytics_mask(line: Line, height: int, width: int) -> Mask:
    """What ultralytics itself makes of a label line, by its own functions."""
    segment = line.astype(np.float32)
    points = resample_segments([segment], n=len(segment) + 1 if len(segment) > 1000 else 1000)[0]
    scaled = points * np.array([width, height], dtype=np.float32)
    mask: Mask = polygon2mask((height, width), [scaled.reshape(-1)])
    return mask


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


@pytest.mark.parametrize(("left", "top"), [(0, 0), (7, 0), (0, 10), (9, 8), (-5, -3)])
def test_a_canvas_that_begins_elsewhere_is_a_window_of_the_whole(left: int, top: int) -> None:
    corners = np.array([[12, 10], [45, 14], [38, 40], [9, 33]], dtype=np.int32)
    whole = cv2.fillPoly(np.zeros((80, 80), np.uint8), [corners + 20], 1)  # 20 px of room on each side
    window = filled(corners, 41 - top, 46 - left, left, top)
    assert window.dtype == np.uint8
    assert window.sum() == whole.sum()
    np.testing.assert_array_equal(window, whole[20 + top : 61, 20 + left : 66])
