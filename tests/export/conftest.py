"""A small model for the tests of exports."""

from __future__ import annotations

import pytest

from tests.conftest import TINY
from tests.untrained import Untrained, make_untrained


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Untrained:
    """An untrained model of a few layers; tests must leave it as they find it."""
    return make_untrained(tmp_path_factory.mktemp("small"), TINY)
