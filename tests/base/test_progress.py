from __future__ import annotations

import pytest

from seamline.base.progress import size_text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (11_640_000, "11.6 MB"), (3e12, "3.0 TB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
