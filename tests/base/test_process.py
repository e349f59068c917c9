"""What every program of the project does when it begins and ends."""

from __future__ import annotations

import tempfile

import pytest

from seamline.base.errors import SeamlineError
from seamline.base.process import temporary_folder


def test_no_folder_for_temporary_files_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/nowhere", "/nowhere/either"])
    with pytest.raises(
        SeamlineError, match=r"No usable temporary directory.*'/nowhere/either'.*; name a folder .* TMPDIR\."
    ):
        temporary_folder.__wrapped__()
