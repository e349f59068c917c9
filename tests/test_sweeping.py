from __future__ import annotations

import fcntl
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
import psutil
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from seamline.errors import SeamlineError
from seamline.params import Range, load_params
from seamline.sweeping import free_name, params_to_overrides, space_to_distributions, study_key, validation_by_epoch
from seamline.trial import DIVERGED, PROGRESS, stop_file, tell_progress
from stages import sweep
from tests.conftest import PARAMS, WORKSPACE, Project, code_in, merged


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
    shutil.copy(PARAMS, tmp_path)
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


FAKE_DVC = """#!{python}
# Stands in for `dvc exp run`: a training whose epochs are as good as its learning rate says, and that can be stopped.
import json, os, pathlib, sys, time
overrides = dict(word.removeprefix("++train.").split("=") for word in sys.argv if word.startswith("++"))
progress = pathlib.Path(os.environ["SEAMLINE_PROGRESS"])
lr0 = float(overrides["lr0"])
if lr0 > 0.9:
    sys.exit("error: train: {diverged} in epoch 1" if lr0 < 0.97 else "error: train.batch: 0 is not allowed")
for epoch in range(1, 7):
    history = [{{"epoch": number, "val_mask_mAP50_95": lr0 * number}} for number in range(1, epoch + 1)]
    progress.with_suffix(".tmp").write_text(json.dumps(history))
    progress.with_suffix(".tmp").rename(progress)
    time.sleep(0.6)
    if progress.with_suffix(".stop").exists():
        sys.exit("error: train: the sweep stopped this trial")
"""


def sweep_with_fake_dvc(folder: Path, monkeypatch: pytest.MonkeyPatch, lr0s: list[float]) -> optuna.Study:
    """Trials of these learning rates, in this order, in a project where `dvc` is the one above."""
    (folder / "bin").mkdir()
    (folder / "bin" / "dvc").write_text(FAKE_DVC.format(python=sys.executable, diverged=DIVERGED))
    (folder / "bin" / "dvc").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
    monkeypatch.chdir(folder)
    values = yaml.safe_load(PARAMS.read_text())
    values["sweep"] |= {"trials": len(lr0s), "startup_trials": 1, "epochs_before_pruning": 0}
    values["sweep"]["space"] = {"train.lr0": {"low": 0.01, "high": 1.0}}
    (folder / ".seamline" / "sweep").mkdir(parents=True)
    shutil.copy(WORKSPACE / "dvc.lock", folder)
    code_in(folder)
    (folder / "garments").mkdir()
    values["pull"]["source"] = str(folder / "garments")
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    subprocess.run(["git", "init", "--quiet"], check=True)
    study = optuna.create_study(
        study_name=f"sweep-{study_key(load_params(), folder / 'dvc.lock')}",
        storage=f"sqlite:///{folder / '.seamline/sweep/trials.db'}",
        direction="maximize",
    )
    for lr0 in lr0s:
        study.enqueue_trial({"train.lr0": lr0})
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    monkeypatch.setattr(sweep, "experiment_value", lambda name: 0.5)
    sweep.main()
    return study


def test_a_trial_that_lags_behind_is_stopped_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = sweep_with_fake_dvc(tmp_path, monkeypatch, [0.5, 0.1, 0.6, 0.95])  # the last one diverges
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    assert len(study.trials[0].intermediate_values) == 6
    assert len(study.trials[1].intermediate_values) < 6
    assert "stopped early  train.lr0=0.1" in capsys.readouterr().out


def test_a_trial_that_fails_is_left_out_and_three_in_a_row_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = r"sweep-\w+-004 failed \(error: train\.batch: 0 is not allowed\); see .*\.log"
    with pytest.raises(SeamlineError, match=sentence):
        sweep_with_fake_dvc(tmp_path, monkeypatch, [0.99, 0.5, 0.98, 0.99, 0.98])
    assert capsys.readouterr().out.count(" failed (error: ") == 3
    states = [trial.state.name for trial in optuna.load_study(**the_study(tmp_path)).trials]
    assert states == ["FAIL", "COMPLETE", "FAIL", "FAIL", "FAIL"]


def the_study(folder: Path) -> dict[str, Any]:
    storage = f"sqlite:///{folder / '.seamline/sweep/trials.db'}"
    return {"storage": storage, "study_name": optuna.get_all_study_names(storage)[0]}


def test_a_second_sweep_at_once_and_a_source_out_of_reach_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_with_fake_dvc(tmp_path, monkeypatch, [0.5])
    with (tmp_path / ".seamline" / "sweep" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SeamlineError, match="another one is running in this project"):
            sweep.main()
    values = yaml.safe_load((tmp_path / "params.yaml").read_text())
    values["pull"]["source"] = "garments"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SeamlineError, match=f"where pull.source 'garments' is not; write {tmp_path / 'garments'}"):
        sweep.main()


def test_names_of_a_deleted_sweep_are_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (
        ["init", "--quiet"],
        [*who, "commit", "--quiet", "--allow-empty", "--message", "x"],
        ["update-ref", "refs/exps/ab/cdef/sweep-1-000", "HEAD"],
    ):
        subprocess.run(["git", *command], check=True)
    assert free_name("sweep-1", 0) == "sweep-1-001"
    assert free_name("sweep-2", 0) == "sweep-2-000"


def processes_of(root: Path) -> list[str]:
    """Command lines of the processes that work below a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(root):
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


SMALL_SWEEP = {
    "trials": 2, "startup_trials": 1, "epochs_before_pruning": 1,
    "space": {"train.lr0": {"low": 0.01, "high": 0.04}, "train.fliplr": [0.0, 0.5]},
}  # fmt: skip


@pytest.mark.thorough
def test_a_sweep_is_killed_goes_on_and_its_winner_is_taken_over(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    values = merged(project.params(), {"train": {"epochs": 4}, "sweep": SMALL_SWEEP})
    values["sweep"]["space"] = SMALL_SWEEP["space"]
    (project.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    project.commit("sweep")
    before = (project.root / "models" / "train" / "best.pt").read_bytes()

    command = [sys.executable, "-m", "stages.sweep"]
    running = subprocess.Popen(
        command, cwd=project.root, env=project.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    folder = project.root / ".seamline" / "sweep"
    while running.poll() is None and not list(folder.glob("sweep-*.json")):  # the first trial has finished an epoch
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    deadline = time.monotonic() + 20
    while (trainings := processes_of(project.root)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert trainings == []  # it does not train on for nobody

    done = project.run(*command).stdout
    assert "best: sweep-" in done
    study = optuna.load_study(**the_study(project.root))
    states = [trial.state.name for trial in study.trials]
    assert states[0] == "FAIL"
    assert len([state for state in states if state in ("COMPLETE", "PRUNED")]) == 2
    assert study.trials[1].params == study.trials[0].params  # the one that was cut
    assert (project.root / "models" / "train" / "best.pt").read_bytes() == before  # the workspace is left alone
    assert project.run("git", "status", "--porcelain").stdout == ""

    name = study.best_trial.user_attrs["experiment"]
    assert name in project.run("dvc", "exp", "show", "--only-changed", "--no-pager").stdout
    project.run("dvc", "exp", "apply", name)
    assert project.params()["train"]["lr0"] == pytest.approx(study.best_trial.params["train.lr0"], rel=1e-5)
    found = json.loads((project.root / "reports" / "accuracy.json").read_text())["val"]["mask_mAP50_95"]
    assert found == pytest.approx(study.best_trial.value)
    revision = json.loads((project.root / "models" / "train" / "training.json").read_text())["training_revision"]
    kept = (project.root / ".seamline" / "train" / "finished").glob("*/facts.json")  # of the copies, in the project
    assert revision in [json.loads(path.read_text())["training_revision"] for path in kept]
    assert project.run(*command).stdout.count("sweep-") == 2  # nothing is left to do but say who won
