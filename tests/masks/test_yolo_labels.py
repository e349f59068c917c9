from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamline.masks.yolo_labels import (
    COARSE_PX,
    FINE_PX,
    FINEST_PX,
    corners_to_line,
    corners_to_text,
    precision_px,
    text_to_line,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 20_000), st.sampled_from([FINEST_PX, FINE_PX, COARSE_PX]))
def test_a_corner_comes_back_into_its_own_pixel(height: int, width: int, off_px: float) -> None:
    """Read as ultralytics does, in float32, and cut down to whole pixels."""
    columns = np.unique(np.linspace(0, width - 1, 50).astype(np.int32))
    rows = np.resize(np.unique(np.linspace(0, height - 1, 50).astype(np.int32)), len(columns))
    corners = np.resize(np.stack((columns, rows), axis=1), (max(len(columns), 3), 2)).astype(np.int32)
    index, line = text_to_line(corners_to_text(2, corners, height, width, off_px))
    assert index == 2
    assert (line == corners_to_line(corners, height, width, off_px)).all()
    assert np.abs(line * (width, height) - (corners + 0.5)).max() <= off_px + 1e-9
    pixels = (line.astype(np.float32) * np.array([width, height], np.float32)).astype(np.int32)
    assert (pixels == corners).all()


def test_a_label_takes_no_more_space_than_it_must() -> None:
    corners = np.array([[0, 0], [99, 0], [99, 49]], dtype=np.int32)
    assert corners_to_text(7, corners, 50, 100, FINE_PX) == "7 .005 .01 .995 .01 .995 .99"
    ninths = np.array([[0, 0], [8, 0], [8, 8]], dtype=np.int32)  # centres at 1/18 and 17/18
    assert corners_to_text(0, ninths, 9, 9, FINE_PX) == "0 .056 .056 .944 .056 .944 .944"
    assert corners_to_text(0, ninths, 9, 9, COARSE_PX) == "0 .06 .06 .94 .06 .94 .94"


def test_a_mask_that_is_large_for_its_outline_is_written_in_fewer_digits() -> None:
    square = np.array([[0, 0], [199, 0], [199, 199], [0, 199]], dtype=np.int32)
    assert precision_px(200 * 200, square) == COARSE_PX
    assert precision_px(20 * 20, square // 10) == FINE_PX
    assert precision_px(2 * 20, np.array([[0, 0], [19, 0], [19, 1], [0, 1]], dtype=np.int32)) == FINEST_PX


@pytest.mark.parametrize("text", ["", "0", "0 0.1 0.2 0.3 0.4", "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "0 0 0 1 0 1.01 1"])
def test_what_is_not_a_label_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="label"):
        text_to_line(text)
