"""Programs that some tests need, from Debian's packages or elsewhere: a test without its program is skipped.

Where SEAMLINE_ALL_TOOLS is 1, as .ci/run sets it once it has installed them, such a test fails instead: a check that
nobody runs is none.
"""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {"chromium": "chromium", "prometheus": "prometheus", "promtool": "prometheus", "wrk": "wrk"}  # of Debian
OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}


def found(name: str) -> str | None:
    """Where the program is; None where it is not installed."""
    return next(filter(None, map(shutil.which, (name, *OTHER_NAMES.get(name, ())))), None)


def needs_program(name: str) -> pytest.MarkDecorator:
    """Skip the test where the program is not installed, unless all of them have to be."""
    is_missing = found(name) is None and os.environ.get("SEAMLINE_ALL_TOOLS") != "1"
    return pytest.mark.skipif(is_missing, reason=f"needs {name} (Debian's package {PACKAGES[name]})")


def program(name: str) -> str:
    """Where the program is, for a test that needs_program()."""
    path = found(name)
    assert path is not None, f"{name} is not installed, though SEAMLINE_ALL_TOOLS=1 says that it is"
    return path
