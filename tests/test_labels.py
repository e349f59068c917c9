from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamline.labels import line_to_text, text_to_line


@given(st.integers(0, 500), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=40))
def test_what_is_written_is_read_back(index: int, points: list[tuple[float, float]]) -> None:
    line = np.array(points)
    read_index, read = text_to_line(line_to_text(index, line))
    assert read_index == index
    assert np.abs(read - line).max() <= 5e-7


@pytest.mark.parametrize(
    "text", ["", "0", "0 0.1 0.2 0.3 0.4", "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "0 0 0 1 1 0 1.5", "0 0 0 1 1 0 nan"]
)
def test_a_line_that_is_no_polygon_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="label"):
        text_to_line(text)
