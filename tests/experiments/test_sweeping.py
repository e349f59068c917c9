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

from seamline.base.errors import SeamlineError
from seamline.experiments import sweeping
from seamline.experiments.revisions import commit_of
from seamline.experiments.search_space import params_to_overrides, space_to_distributions, study_key
from seamline.experiments.sweeping import (
    changed_since_start,
    check_dvc,
    check_name,
    experiment_value,
    free_name,
    validation_by_epoch,
)
from seamline.params.loading.loader import load_params
from seamline.params.sweep import Range
from seamline.training.trial import DIVERGED, PROGRESS, stop_file, tell_progress
from seamline.verbs import sweep
from tests import warm
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
    both = {"epoch": 3, "val_box_mAP50_95": 0.5, "val_mask_mAP50_95": 0.25}
    assert validation_by_epoch([both, {"epoch": 4, "val_box_mAP50_95": 0.5}]) == [(3, 0.25), (4, 0.5)]
    stop_file(progress).touch()
    with pytest.raises(SeamlineError, match="the sweep stopped this trial after epoch 2"):
        tell_progress(history)


FAKE_DVC = """#!{python}
# Stands in for `dvc exp run`: a training whose epochs are as good as its learning rate says, and that can be stopped.
import json, os, pathlib, signal, subprocess, sys, time
overrides = dict(word.removeprefix("++train.").split("=") for word in sys.argv if word.startswith("++"))
progress = pathlib.Path(os.environ["SEAMLINE_PROGRESS"])
lr0 = float(overrides["lr0"])
with open({ran!r}, "a") as stream:
    params = pathlib.Path("params.yaml").read_text()
    stream.write(json.dumps([lr0, params, pathlib.Path("new.txt").exists(), os.getcwd()]) + "\\n")
if lr0 > 0.9:
    sys.exit("error: train: {diverged} in epoch 1" if lr0 < 0.97 else "error: train.batch: 0 is not allowed")
for epoch in range(1, {epochs} + 1):
    history = [{{"epoch": number, "val_mask_mAP50_95": lr0 * number}} for number in range(1, epoch + 1)]
    progress.with_suffix(".tmp").write_text(json.dumps(history))
    progress.with_suffix(".tmp").rename(progress)
    while lr0 < {stopped_below} and epoch == {epochs} - 1 and not progress.with_suffix(".stop").exists():
        time.sleep(0.02)  # as long as a busy machine takes to stop it
    time.sleep({pause})
    if progress.with_suffix(".stop").exists():
        sys.exit("error: train: the sweep stopped this trial")
git = lambda *words: subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()
pathlib.Path("reports").mkdir(exist_ok=True)
pathlib.Path("reports/accuracy.json").write_text(json.dumps({{"val": {{"mask_mAP50_95": lr0}}}}))
git("add", "--all")
head = git("rev-parse", "HEAD")
commit = git("commit-tree", git("write-tree"), "-p", head, "-m", "x")
git("update-ref", f"refs/exps/{{head[:2]}}/{{head[2:]}}/{{sys.argv[sys.argv.index('--name') + 1]}}", commit)
pathlib.Path("params.yaml").write_text("of a dvc that was killed")  # what is left does not matter to the next trial
"""


class Sweep:
    """A project, in a subfolder of a git repository, in which `dvc` is the one above."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, lr0s: list[float], kind: str = "", **fake: Any
    ) -> None:
        self.folder = folder / "git" / "work" / "garments"
        self.ran_file = folder / "ran"
        (folder / "bin").mkdir()
        values = {"python": sys.executable, "diverged": DIVERGED, "ran": str(self.ran_file), "epochs": 1, "pause": 0.0,
                  "stopped_below": 0.0}  # fmt: skip
        (folder / "bin" / "dvc").write_text(FAKE_DVC.format(**(values | fake)))
        (folder / "bin" / "dvc").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
        monkeypatch.setattr(sweeping, "POLL_S", 0.02)
        (self.folder / ".dvc").mkdir(parents=True)
        (self.folder / ".dvc" / "config").touch()
        (self.folder / ".dvc" / ".gitignore").write_text("/tmp\n/config.local\n")
        (self.folder / ".gitignore").write_text("/.seamline/\n")
        monkeypatch.chdir(self.folder)
        shutil.copy(WORKSPACE / "dvc.lock", self.folder)
        Path("dvc.yaml").touch()
        shutil.copy(PARAMS, self.folder)
        code_in(self.folder)
        (folder / "garments").mkdir()
        self.change(pull={"source": str(folder / "garments")})
        self.change(sweep={"trials": len(lr0s), "startup_trials": 1, "epochs_before_pruning": 0})
        self.change(sweep={"space": {"train.lr0": {"low": 0.01, "high": 1.0}}})
        self.git("init", "--quiet", "--initial-branch", "main", str(folder / "git"))
        self.git("config", "user.name", "test")
        self.git("config", "user.email", "test@localhost")
        self.commit()
        self.go_to(kind, folder)
        Path(".seamline/sweep").mkdir(parents=True)
        study = optuna.create_study(
            study_name=f"sweep-{study_key(load_params(), Path('dvc.lock'))}",
            storage=f"sqlite:///{self.folder / '.seamline/sweep/trials.db'}",
            direction="maximize",
        )
        for lr0 in lr0s:
            study.enqueue_trial({"train.lr0": lr0})

    def go_to(self, kind: str, folder: Path) -> None:
        """To another kind of checkout of it."""
        if kind == "worktree":
            self.git("worktree", "add", "--quiet", "-b", "other", str(folder / "tree"))
        elif kind == "shallow clone":
            self.git("commit", "--quiet", "--allow-empty", "--message", "y")
            self.git("clone", "--quiet", "--depth", "1", f"file://{folder / 'git'}", str(folder / "shallow"))
        elif kind == "no branch":
            self.git("checkout", "--quiet", "--detach")
        if kind in ("worktree", "shallow clone"):
            self.folder = folder / kind.split()[0].replace("work", "") / "work" / "garments"
            os.chdir(self.folder)

    def git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    def change(self, **sections: dict[str, Any]) -> None:
        values = yaml.safe_load(Path("params.yaml").read_text())
        for section, changes in sections.items():
            values[section] |= changes
        Path("params.yaml").write_text(yaml.safe_dump(values))

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "x")

    def study(self) -> optuna.Study:
        return optuna.load_study(**the_study(self.folder))

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study().trials]

    def ran(self) -> list[list[Any]]:
        """Of each trial: its learning rate, params.yaml, whether new.txt was there, and its folder."""
        return [json.loads(line) for line in self.ran_file.read_text().splitlines()]


def test_a_trial_that_lags_behind_is_stopped_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Sweep(tmp_path, monkeypatch, [0.5, 0.1, 0.6, 0.95], epochs=6, pause=0.2, stopped_below=0.2)
    # The last one diverges.
    sweep.main([])
    study = project.study()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    assert len(study.trials[0].intermediate_values) == 6
    assert len(study.trials[1].intermediate_values) < 6
    said = capsys.readouterr().out
    assert "stopped early  train.lr0=0.1" in said
    assert f"to use it: dvc exp apply {study.study_name}-002 && dvc repro" in said


def test_a_trial_that_fails_is_left_out_and_three_in_a_row_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = r"sweep-\w+-004 failed \(error: train\.batch: 0 is not allowed\); see .*\.log"
    with pytest.raises(SeamlineError, match=sentence):
        project = Sweep(tmp_path, monkeypatch, [0.99, 0.5, 0.98, 0.99, 0.98])
        sweep.main([])
    assert capsys.readouterr().out.count(" failed (error: ") == 3
    assert project.states() == ["FAIL", "COMPLETE", "FAIL", "FAIL", "FAIL"]


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [({"box_mAP50_95": 0.5, "mask_mAP50_95": 0.25}, 0.25), ({"box_mAP50_95": 0.5}, 0.5), ({"mask_mAP50_95": None}, 0)],
)
def test_the_value_of_an_experiment_is_its_primary_metric(
    monkeypatch: pytest.MonkeyPatch, accuracy: dict[str, Any], expected: float
) -> None:
    monkeypatch.setattr(sweeping, "git", lambda *_: json.dumps({"val": accuracy}))
    assert experiment_value("1234") == expected


def the_study(folder: Path) -> dict[str, Any]:
    storage = f"sqlite:///{folder / '.seamline/sweep/trials.db'}"
    return {"storage": storage, "study_name": optuna.get_all_study_names(storage)[0]}


def test_a_second_sweep_at_once_and_a_source_out_of_reach_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Sweep(tmp_path, monkeypatch, [0.5])
    with (project.folder / ".seamline" / "sweep" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SeamlineError, match="another one is running in this project"):
            sweep.main([])
    project.change(pull={"source": "garments"})
    Path("garments").mkdir()
    with pytest.raises(
        SeamlineError, match=f"where pull.source 'garments' does not exist; write {project.folder / 'garments'}"
    ):
        sweep.main([])
    project.git("rm", "--quiet", "--cached", "dvc.lock")
    with pytest.raises(SeamlineError, match=r"and dvc\.lock is not; git add dvc\.lock\.$"):
        sweep.main([])
    assert not project.ran_file.exists()


def test_what_becomes_of_the_workspace_changes_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a commit, nor an edit that cannot be read, made while trials run."""
    project = Sweep(tmp_path, monkeypatch, [0.2, 0.3, 0.4])
    start = project.git("rev-parse", "HEAD")
    project.change(benchmark={"threads": 7})  # not committed, and part of what the sweep begins with
    Path("staged.txt").write_text("x")
    project.git("add", "staged.txt")
    asked = Path("params.yaml").read_text()
    before = project.git("status", "--porcelain")
    real = sweeping.run_trial

    def run_and_change(trial: Any, experiment: str, *arguments: Any) -> float | None:
        value = real(trial, experiment, *arguments)
        if trial.number == 0:
            assert project.git("status", "--porcelain") == before
            Path("params.yaml").write_text("train: {lr0: [")
            Path("new.txt").write_text("x")
            project.commit()
        return value

    monkeypatch.setattr(sweeping, "run_trial", run_and_change)
    sweep.main([])
    ran = project.ran()
    assert [(lr0, params, new) for lr0, params, new, _ in ran] == [(lr0, asked, False) for lr0 in (0.2, 0.3, 0.4)]
    assert len({folder for *_, folder in ran}) == 1
    for number, trial in enumerate(project.study().trials):
        name = f"{project.study().study_name}-{number:03d}"
        assert trial.user_attrs["experiment"] == name
        assert project.git("rev-parse", f"refs/exps/{start[:2]}/{start[2:]}/{name}~1") == start
        assert commit_of(name) == project.git("rev-parse", f"refs/exps/{start[:2]}/{start[2:]}/{name}")
        assert trial.value == (0.2, 0.3, 0.4)[number]
    said = capsys.readouterr().out
    assert "resumes from" not in said
    assert "to use it: dvc exp run -S ++train.lr0=0.4  (dvc exp apply would also set new.txt, params.yaml back" in said


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["worktree", "shallow clone", "no branch"])
def test_a_sweep_runs_in_every_kind_of_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for variable in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(variable, "test")
    project = Sweep(tmp_path, monkeypatch, [0.2], kind)
    start = project.git("rev-parse", "HEAD")
    sweep.main([])
    [trial] = project.study().trials
    assert trial.value == 0.2
    assert project.git("rev-parse", f"{commit_of(trial.user_attrs['experiment'])}~1") == start
    assert project.git("status", "--porcelain") == ""
    sweep.main([])  # nothing is left to do
    assert len(project.ran()) == 1


KILLING = """#!/bin/sh
# Stands in for a program: of all its calls that have the word, one kills who made it.
case " $* " in *" {word} "*)
    echo x >> {calls}
    if [ $(wc -l < {calls}) -eq {number} ]; then kill -9 $PPID; sleep 1; exit 1; fi
esac
exec {program} "$@"
"""


def test_a_sweep_killed_anywhere_resumes_from_what_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_and_resumed(tmp_path, monkeypatch, "git", "fetch", 2)  # the trial has ended, and Optuna does not know


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("program", "word", "number"),
    [*(("dvc", "run", number) for number in (1, 2, 3)), *(("git", "fetch", number) for number in (1, 3)),
     *(("git", "restore", number) for number in (1, 2, 3, 4)), *(("git", "checkout", number) for number in (1, 2)),
     *(("git", "", number) for number in range(1, 20))],
)  # fmt: skip
def test_a_sweep_killed_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, word: str, number: int
) -> None:
    killed_and_resumed(tmp_path, monkeypatch, program, word, number)


def killed_and_resumed(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, word: str, number: int) -> None:
    project = Sweep(folder, monkeypatch, [0.2, 0.3, 0.4])
    start, asked = project.git("rev-parse", "HEAD"), Path("params.yaml").read_text()
    real = shutil.which(program)
    (folder / "killing").mkdir()
    killing = KILLING.format(word=word or "*", calls=folder / "calls", number=number, program=real)
    (folder / "killing" / program).write_text(killing.replace('*" * "*', "*"))
    (folder / "killing" / program).chmod(0o755)
    path = os.environ["PATH"]
    command = ["python", "-m", "seamline", "sweep"]
    done = warm.run(command, project.folder, {**os.environ, "PATH": f"{folder / 'killing'}{os.pathsep}{path}"})
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    began = "start" in project.study().user_attrs

    project.change(benchmark={"threads": 7})
    Path("new.txt").write_text("x")
    project.commit()
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "# and more\n")
    workspace = Path("params.yaml").read_text()
    done = warm.run(command, project.folder)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "resumes from" in line]
    assert len(said) == began
    changed = "not from the workspace (new.txt, params.yaml changed since then)"
    assert all(f"commit {start[:10]}, {changed}" in line for line in said)
    complete = [trial for trial in project.study().trials if trial.state.name == "COMPLETE"]
    assert sorted(trial.value or 0 for trial in complete) == [0.2, 0.3, 0.4]
    expected = (asked, False) if began else (workspace, True)
    assert {(params, new) for _, params, new, _ in project.ran()} == {expected}
    for trial in complete:
        assert experiment_value(commit_of(trial.user_attrs["experiment"])) == trial.value
    assert Path("params.yaml").read_text() == workspace
    assert not list(Path(".dvc/tmp/sweep").iterdir())


def test_a_sweep_in_which_all_failed_begins_again_and_other_parameters_are_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Sweep(tmp_path, monkeypatch, [0.99, 0.99, 0.99])
    project.change(sweep={"trials": 1})
    with pytest.raises(SeamlineError, match=r"train\.batch: 0 is not allowed"):
        sweep.main([])
    capsys.readouterr()
    dvc = tmp_path / "bin" / "dvc"
    dvc.write_text(dvc.read_text().replace("if lr0 > 0.9", "if not pathlib.Path('mended').exists()"))
    Path("mended").touch()
    project.commit()
    sweep.main([])
    first = project.study()
    assert project.states() == ["FAIL", "FAIL", "FAIL", "COMPLETE"]
    said = capsys.readouterr().out
    assert "resumes" not in said
    assert "a new sweep" not in said

    assert changed_since_start(optuna.create_study()) == []  # as an older version left it
    first.set_user_attr("start", ["1" * 40, "2" * 40])  # as in another clone
    sweep.main([])
    assert f"to use it: dvc exp apply {first.study_name}-003 && dvc repro" in capsys.readouterr().out
    project.change(sweep={"trials": 2})
    with pytest.raises(SeamlineError, match=r"^sweep: git no longer has the commit 1111111111 it began with"):
        sweep.main([])

    project.change(train={"epochs": 3}, sweep={"trials": 1})
    sweep.main([])
    said = capsys.readouterr().out
    assert f": a new sweep; data, parameters or space differ from those of {first.study_name}, which stays" in said
    assert len(project.ran()) == 5


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
    subprocess.run(["git", "branch", "sweep-2-000"], check=True)
    subprocess.run(["git", "tag", "sweep-2-001"], check=True)
    assert free_name("sweep-2", 0) == "sweep-2-002"


@pytest.mark.parametrize("name", ["", "a/b", "../x", "-x", "a b", "a..b", "a~", "a:b", "x.lock/", "\n", "a\\b", "@{"])
def test_a_name_that_dvc_would_not_take_is_one_sentence(name: str) -> None:
    with pytest.raises(SeamlineError, match=r"^--name: .* is not allowed; use letters, digits"):
        check_name(name)
    check_name("läufe_2")


def test_without_dvc_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SeamlineError, match=r"^sweep: dvc is not on the PATH; source \.venv/bin/activate\.$"):
        check_dvc()


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


def in_a_subfolder(finished: Project, root: Path) -> Project:
    """A copy of it, in a git repository that has other things too."""
    project = finished.copy(root / "work" / "garments")
    shutil.rmtree(project.root / ".git")
    (root / ".gitignore").write_text(".home\n")
    (root / "README.md").write_text("not of the project\n")
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main"], cwd=root, check=True)
    for key, value in (("user.name", "test"), ("user.email", "test@localhost")):
        project.run("git", "config", key, value)
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    project.commit("start")
    return project


@pytest.mark.thorough
def test_a_sweep_is_killed_resumes_and_its_winner_is_taken_over(finished: Project, tmp_path: Path) -> None:
    """In a subfolder of a git repository, with a commit and an edit that is not YAML while it runs."""
    project = in_a_subfolder(finished, tmp_path / "git")
    values = merged(project.params(), {"train": {"epochs": 4}, "sweep": SMALL_SWEEP})
    values["sweep"]["space"] = SMALL_SWEEP["space"]
    asked = yaml.safe_dump(values, sort_keys=False)
    (project.root / "params.yaml").write_text(asked)
    project.commit("sweep")
    start = project.run("git", "rev-parse", "HEAD").stdout.strip()
    before = (project.root / "models" / "train" / "best.pt").read_bytes()

    command = [sys.executable, "-m", "seamline", "sweep"]
    running = subprocess.Popen(
        command, cwd=project.root, env=project.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    folder = project.root / ".seamline" / "sweep"
    while running.poll() is None and not list(folder.glob("sweep-*.json")):  # the first trial has finished an epoch
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    deadline = time.monotonic() + 120
    while (trainings := processes_of(project.root)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert trainings == []  # it does not train on for nobody

    project.change({"benchmark": {"rounds": 2}})
    project.commit("while it does not run")
    running = subprocess.Popen(
        command, cwd=project.root, env=project.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while running.poll() is None and len(list(folder.glob("sweep-*.json"))) < 2:
        time.sleep(0.05)
    (project.root / "stages" / "evaluate.py").write_text("raise SystemExit('not of the sweep')\n")
    project.commit("while it runs")
    (project.root / "params.yaml").write_text("train: [")
    said, _ = running.communicate()
    assert running.returncode == 0, said
    assert "best: sweep-" in said
    assert f"resumes from the code and parameters of its start, commit {start[:10]}" in said
    assert "(params.yaml changed since then)" in said
    project.run("git", "checkout", "--quiet", "params.yaml")

    study = optuna.load_study(**the_study(project.root))
    states = [trial.state.name for trial in study.trials]
    assert states[0] == "FAIL"
    assert len([state for state in states if state in ("COMPLETE", "PRUNED")]) == 2
    assert study.trials[1].params == study.trials[0].params  # the one that was cut
    assert (project.root / "models" / "train" / "best.pt").read_bytes() == before  # the workspace is left alone
    assert project.run("git", "status", "--porcelain").stdout == ""
    assert project.run("git", "symbolic-ref", "--short", "HEAD").stdout == "main\n"

    name = study.best_trial.user_attrs["experiment"]
    assert name in project.run("dvc", "exp", "show", "--rev", start, "--only-changed", "--no-pager", "--csv").stdout
    assert project.run("git", "rev-parse", f"refs/exps/{start[:2]}/{start[2:]}/{name}~1").stdout.strip() == start
    assert "train.lr0: " in project.run("python", "-m", "seamline", "compare", "HEAD", name).stdout
    project.run("dvc", "exp", "apply", name)
    assert project.params()["train"]["lr0"] == pytest.approx(study.best_trial.params["train.lr0"], rel=1e-5)
    assert project.params()["benchmark"]["rounds"] == 1
    found = json.loads((project.root / "reports" / "accuracy.json").read_text())["val"]["mask_mAP50_95"]
    assert found == pytest.approx(study.best_trial.value)
    revision = json.loads((project.root / "models" / "train" / "training.json").read_text())["training_revision"]
    finished_facts = (project.root / ".seamline" / "train" / "finished").glob(
        "*/facts.json"
    )  # of the copies, in the project
    assert revision in [json.loads(path.read_text())["training_revision"] for path in finished_facts]
    assert project.run(*command).stdout.startswith(f"best: {name}, ")  # nothing is left to do but say who won
