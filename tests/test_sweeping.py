from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from seamline.errors import SeamlineError
from seamline.params import Range
from seamline.sweeping import params_to_overrides, space_to_distributions, validation_by_epoch
from seamline.trial import PROGRESS, stop_file, tell_progress
from tests.conftest import PROJECT, Project, merged


def test_a_space_becomes_distributions() -> None:
    found = space_to_distributions(
        {
            "train.lr0": Range(low=0.001, high=0.1, log=True),
            "train.batch": [4, 8],
            "train.epochs": Range(low=2, high=6),
        }
    )
    assert found == {
        "train.lr0": FloatDistribution(0.001, 0.1, log=True),
        "train.batch": CategoricalDistribution([4, 8]),
        "train.epochs": IntDistribution(2, 6),
    }


def test_dvc_reads_what_optuna_chose(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    chosen = {"train.lr0": 0.00123456789, "train.optimizer": "SGD", "train.cos_lr": False, "train.mixup": 0.25,
              "train.batch": 16, "train.freeze": [0, 1]}  # fmt: skip
    apply_overrides(str(tmp_path / "params.yaml"), [f"++{override}" for override in params_to_overrides(chosen)])
    train = yaml.safe_load((tmp_path / "params.yaml").read_text())["train"]
    assert {key: train[key.removeprefix("train.")] for key in chosen} == {**chosen, "train.lr0": 0.00123457}


def test_a_training_tells_its_epochs_and_stops_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history: list[dict[str, Any]] = [{"epoch": 1}, {"epoch": 2, "val_mask_mAP50_95": 0.25}]
    tell_progress(history)  # nobody watches
    progress = tmp_path / "progress.json"
    monkeypatch.setenv(PROGRESS, str(progress))
    tell_progress(history)
    assert validation_by_epoch(json.loads(progress.read_text())) == [(2, 0.25)]
    stop_file(progress).touch()
    with pytest.raises(SeamlineError, match="the sweep stopped this trial after epoch 2"):
        tell_progress(history)


SMALL_SWEEP = {
    "trials": 3, "startup_trials": 1, "epochs_before_pruning": 1,
    "space": {"train.lr0": {"low": 0.001, "high": 0.004}, "train.fliplr": [0.0, 0.5]},
}  # fmt: skip


@pytest.mark.slow
def test_a_sweep_is_killed_goes_on_and_its_winner_is_taken_over(finished: Project, tmp_path: Path) -> None:
    project = Project.__new__(Project)
    project.root, project.environment = tmp_path / "project", finished.environment
    shutil.copytree(finished.root, project.root, symlinks=True)
    project.environment = {
        **finished.environment,
        "PYTHONPATH": str(project.root),
        "DVC_SITE_CACHE_DIR": str(project.root / ".dvc" / "tmp" / "site"),
        "HOME": str(project.root / ".home"),
    }
    values = merged(project.params(), {"train": {"epochs": 3, "val_period": 1}, "sweep": SMALL_SWEEP})
    values["sweep"]["space"] = SMALL_SWEEP["space"]
    (project.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    project.commit("sweep")
    before = (project.root / "models" / "train" / "best.pt").read_bytes()

    command = [sys.executable, "stages/sweep.py"]
    running = subprocess.Popen(
        command, cwd=project.root, env=project.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    progress = project.root / ".seamline" / "sweep" / "progress.json"
    while running.poll() is None and not progress.exists():  # the first trial has finished an epoch
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()

    done = project.run(*command).stdout
    assert "best: sweep-" in done
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{progress.with_name('trials.db')}")
    states = [trial.state.name for trial in study.trials]
    assert states[0] == "FAIL"
    assert len([state for state in states if state in ("COMPLETE", "PRUNED")]) == 3
    assert study.trials[1].params == study.trials[0].params  # the one that was cut
    assert (project.root / "models" / "train" / "best.pt").read_bytes() == before  # the workspace is left alone
    assert project.run("git", "status", "--porcelain").stdout == ""

    name = f"{study.study_name}-{study.best_trial.number:03d}"
    assert name in project.run("dvc", "exp", "show", "--only-changed", "--no-pager").stdout
    project.run("dvc", "exp", "apply", name)
    assert project.params()["train"]["lr0"] == pytest.approx(study.best_trial.params["train.lr0"], rel=1e-5)
    found = json.loads((project.root / "reports" / "accuracy.json").read_text())["val"]["mask_mAP50_95"]
    assert found == pytest.approx(study.best_trial.value)
    assert project.run(*command).stdout.count("sweep-") == 2  # nothing is left to do but say who won
