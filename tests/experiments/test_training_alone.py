"""What goes wrong in a training's own process is one sentence of the command that started it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seamline.base.errors import SeamlineError
from seamline.experiments import training_alone
from seamline.experiments.training_alone import train_alone
from seamline.params.loading.loader import Params, load_params
from seamline.params.train import Train
from tests.conftest import PARAMS, PROJECT


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def params_of(model: str) -> Params:
    params = load_params(PARAMS)
    return Params({**params.by_type, Train: msgspec.structs.replace(params[Train], model=model)})


def test_an_error_of_the_training_is_said_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    with pytest.raises(SeamlineError, match=r"^train\.model: there is no 'nothing-seg\.yaml'; descriptions are"):
        train_alone(params_of("nothing-seg.yaml"), tmp_path, tmp_path, tmp_path / "scratch", 5)


def test_a_process_that_is_killed_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_alone, "store", die)
    with pytest.raises(SeamlineError, match="ended by itself, exit code -9 ") as error:
        train_alone(params_of("yolov9t-seg.yaml"), tmp_path, tmp_path, tmp_path / "scratch", 5)
    assert str(error.value).endswith("The same command resumes.")
