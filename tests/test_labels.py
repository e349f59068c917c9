from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamline.labels import corners_to_line, corners_to_text, text_to_line


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_a_corner_comes_back_into_its_own_pixel(height: int, width: int) -> None:
    """Read as ultralytics does, in float32, and cut down to whole pixels."""
    columns = np.unique(np.linspace(0, width - 1, 50).astype(np.int32))
    rows = np.resize(np.unique(np.linspace(0, height - 1, 50).astype(np.int32)), len(columns))
    corners = np.resize(np.stack((columns, rows), axis=1), (max(len(columns), 3), 2)).astype(np.int32)
    index, line = text_to_line(corners_to_text(2, corners, height, width))
    assert index == 2
    assert (line == corners_to_line(corners, height, width)).all()
    pixels = (line.astype(np.float32) * np.array([width, height], np.float32)).astype(np.int32)
    assert (pixels == corners).all()


def test_a_label_takes_no_more_space_than_it_must() -> None:
    corners = np.array([[0, 0], [99, 0], [99, 49]], dtype=np.int32)
    assert corners_to_text(7, corners, 50, 100) == "7 0.00500 0.01000 0.99500 0.01000 0.99500 0.99000"


@pytest.mark.parametrize("text", ["", "0", "0 0.1 0.2 0.3 0.4", "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "0 0 0 1 0 1.01 1"])
def test_what_is_no_label_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="label"):
        text_to_line(text)
