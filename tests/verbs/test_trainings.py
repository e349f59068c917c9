"""`seamline trainings`: what it passes on, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from seamline.params.loading.loader import load_params
from seamline.training.finished import FINISHED, holding
from seamline.verbs import trainings
from tests.conftest import PARAMS


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_bytes(PARAMS.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_weights_are_checked_and_taken_with_each_folder_in_its_place(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Sequence[Any]] = []

    def take_over(*arguments: Any) -> Path:
        asked.append(arguments)
        return Path("stored")

    monkeypatch.setattr("seamline.experiments.taking_over.check_weights", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr("seamline.experiments.taking_over.take_over", take_over)
    trainings.main(["--take", "made", "--report", "said", "--split", "parts", "--yolo", "labels"])
    params = load_params(PARAMS).by_type
    scratch = (place / ".seamline" / "train").resolve()
    (weights, checked, split), (taken, *rest) = asked
    assert (weights, checked.by_type, split) == (Path("made/best.pt"), params, Path("parts"))
    assert taken is checked
    assert rest == [Path("made"), Path("said"), (Path("parts"), Path("labels")), scratch]
    assert "made/best.pt is stored in stored; dvc repro uses it" in capsys.readouterr().out


def test_what_contradicts_itself_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        trainings.main(["--clear", "--take", "made"])
    assert end.value.code == 2
    assert "--clear and --take contradict each other" in capsys.readouterr().err


def test_one_that_is_in_use_stays(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scratch = place / ".seamline" / "train"
    for key in ("0" * 16, "1" * 16):
        (scratch / FINISHED / key).mkdir(parents=True)
        (scratch / FINISHED / key / "best.pt").write_bytes(b"weights")
    with holding(scratch, "1" * 16):
        trainings.main(["--clear"])
    said = capsys.readouterr().out
    assert "2 finished trainings, 0.0 MB; 0 not finished" in said
    assert "deleted 1 finished training; 1 are in use" in said
    assert [path.name for path in (scratch / FINISHED).iterdir()] == ["1" * 16]
