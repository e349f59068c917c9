from __future__ import annotations

import pytest

from seamline.base.spacing import evenly_spaced


@pytest.mark.parametrize(("count", "expected"), [(None, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]), (2, [0, 2]), (1, [0])])
def test_evenly_spaced(count: int | None, expected: list[int]) -> None:
    assert evenly_spaced(range(5), count) == expected
