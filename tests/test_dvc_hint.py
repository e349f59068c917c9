from __future__ import annotations

from pathlib import Path

import pytest

from seamline.dvc_hint import error_to_hint


def missing(path: Path) -> FileNotFoundError:
    return FileNotFoundError(2, "No such file or directory", str(path))


@pytest.mark.parametrize("source", ["photos", "../photos", "~/photos"])
def test_a_source_that_is_not_there_is_told_and_another_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(f"pull: {{source: '{source}'}}")
    error = ValueError("of DVC's")
    place = tmp_path.parent / "photos" if source.startswith("..") else tmp_path / source
    error.__cause__ = missing(place)
    assert error_to_hint(error).startswith(f"pull.source: {source} does not exist")
    assert error_to_hint(missing(tmp_path / "dvc.lock")) == error_to_hint(None) == ""


@pytest.mark.parametrize("text", [None, "", "pull: [", "pull: 3", "subset: {}"])
def test_where_params_cannot_be_read_it_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    assert error_to_hint(missing(tmp_path / "params.yaml")) == ""
    assert error_to_hint(missing(tmp_path)) == ""
