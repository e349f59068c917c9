"""A sweep: trials chosen by Optuna, each a DVC experiment in a copy of the project as it was at the start."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError, some
from seamline.base.git import git, head
from seamline.base.process import ENDS_WITH, SCRATCH
from seamline.evaluation.kinds import primary_kind
from seamline.experiments.search_space import params_to_overrides, space_to_distributions, study_key
from seamline.experiments.snapshot import (
    Snapshot,
    changed_since,
    copy_of,
    discard_copies,
    keep,
    reset,
    snapshot_of_workspace,
    take_experiment,
    untracked_code,
)
from seamline.params.loading.loader import Params, load_params
from seamline.params.pull import Pull
from seamline.params.sweep import Sweep
from seamline.training.trial import DIVERGED, PROGRESS, stop_file

NEEDED = ("dvc.yaml", "dvc.lock", "params.yaml")
POLL_S, OVER = 0.5, (TrialState.COMPLETE, TrialState.PRUNED)
FAILURES = 3  # in a row; then the sweep stops


class Trials(NamedTuple):
    """Where trials run and what they run."""

    start: Snapshot
    project: Path  # a copy of the project as it was at the start
    folder: Path  # of their logs


def sweep(name: str) -> list[str]:
    """Run or resume the sweep of params.yaml; returns lines about the winner.

    Args:
        name: the beginning of the experiments' names.

    Raises:
        SeamlineError: when git, DVC, the data or the name is not usable, another sweep is running, or trials fail.
    """
    head()  # before anything is written
    check_dvc()
    check_name(name)
    params = load_params()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = (SCRATCH / "sweep").resolve()
    with only_sweep(folder):
        study = open_study(name, params, f"sqlite:///{folder / 'trials.db'}")
        if len(study.get_trials(states=OVER)) < params[Sweep].trials:
            trials = Trials(*start_of(study), folder)
            for cut in study.get_trials(states=[TrialState.RUNNING]):
                study.tell(cut.number, state=TrialState.FAIL)
                study.enqueue_trial(cut.params)
            search(study, params[Sweep], trials)
            discard_copies()
    if not study.get_trials(states=[TrialState.COMPLETE]):
        raise SeamlineError("sweep: every trial was stopped early; raise sweep.startup_trials.")
    return best_to_lines(study.best_trial, changed_since_start(study))


@contextlib.contextmanager
def only_sweep(folder: Path) -> Iterator[None]:
    """Raises SeamlineError when another sweep is running in this project."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SeamlineError("sweep: another one is running in this project; wait for it or stop it.") from None
        yield


def open_study(beginning: str, params: Params, storage: str) -> Study:
    """The study of these data, parameters and space, new or from before."""
    name = f"{beginning}-{study_key(params, Path('dvc.lock'))}"
    others = [other for other in optuna.get_all_study_names(storage) if other.startswith(f"{beginning}-")]
    if others and name not in others:
        print(f"{name}: a new sweep; data, parameters or space differ from those of {', '.join(others)}, which stays")
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True, direction="maximize")
    # With the same seed a resumed sweep would first choose again what the killed one chose first.
    study.sampler = optuna.samplers.TPESampler(seed=params[Sweep].seed + len(study.trials))
    study.pruner = optuna.pruners.MedianPruner(params[Sweep].startup_trials, params[Sweep].epochs_before_pruning)
    return study


def search(study: Study, params: Sweep, trials: Trials) -> None:
    """Run trials until there are enough; one that fails is left out, three in a row end the search.

    Raises:
        SeamlineError: the error of the last of three failing trials.
    """
    failed, done = 0, len(study.get_trials(states=OVER))
    with tqdm(total=params.trials, initial=done, desc="sweep", unit="trial", disable=None) as bar:
        while len(study.get_trials(states=OVER)) < params.trials:
            trial = study.ask(space_to_distributions(params.space))
            experiment = free_name(study.study_name, trial.number)
            trial.set_user_attr("experiment", experiment)
            overrides = " ".join(params_to_overrides(trial.params))
            try:
                value = run_trial(trial, experiment, trials)
            except SeamlineError as error:
                study.tell(trial, state=TrialState.FAIL)
                failed += 1
                if failed == FAILURES:
                    raise
                tqdm.write(f"{error}  {overrides}")
                continue
            failed = 0
            study.tell(trial, value, state=TrialState.PRUNED if value is None else None)
            bar.update()
            result = "stopped early" if value is None else f"mAP50-95 on val {value:.3f}"
            tqdm.write(f"{experiment}: {result}  {overrides}")


def run_trial(trial: Any, experiment: str, trials: Trials) -> float | None:
    """The experiment's mAP50-95 on val; None when it was stopped early, or its loss became NaN.

    Raises:
        SeamlineError: when it failed.
    """
    progress, log = trials.folder / f"{experiment}.json", trials.folder / f"{experiment}.log"
    for path in (progress, stop_file(progress)):
        path.unlink(missing_ok=True)
    overrides = [word for override in params_to_overrides(trial.params) for word in ("-S", f"++{override}")]
    reset(trials.project, trials.start)
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            ["dvc", "exp", "run", "--name", experiment, *overrides, "evaluate"],
            cwd=trials.project, stdout=stream, stderr=subprocess.STDOUT,
            env={**os.environ, PROGRESS: str(progress), ENDS_WITH: str(os.getpid())},
        )  # fmt: skip
        reported = 0
        while process.poll() is None:
            time.sleep(POLL_S)
            for epoch, value in validation_by_epoch(read_progress(progress)):
                if epoch > reported:
                    trial.report(value, epoch)
                    reported = epoch
                    if trial.should_prune():
                        stop_file(progress).touch()
    if process.returncode == 0:
        return experiment_value(take_experiment(trials.project, trials.start, experiment))
    text = log.read_text(encoding="utf-8", errors="replace")
    if stop_file(progress).exists() or DIVERGED in text:
        return None
    errors = [line.strip() for line in text.splitlines() if "error" in line.lower()]
    raise SeamlineError(f"sweep: {experiment} failed ({errors[0] if errors else 'no reason given'}); see {log}.")


def read_progress(path: Path) -> list[Record]:
    """The epochs of a training so far; [] before the first one has ended."""
    try:
        found: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return found


def validation_by_epoch(history: list[Record]) -> list[tuple[int, float]]:
    """Epochs that were validated, each with its primary mAP50-95."""
    values = ((record["epoch"], record.get(f"val_{primary_kind(record)}_mAP50_95")) for record in history)
    return [(epoch, value) for epoch, value in values if value is not None]


def free_name(study: str, number: int) -> str:
    """A name that no experiment, branch or tag has: study-007, or the next free one if a deleted sweep left that."""
    listed = git("for-each-ref", "--format=%(refname)", "refs/exps", "refs/heads", "refs/tags").split()
    taken = {ref.rpartition("/")[2] for ref in listed}
    return next(name for name in (f"{study}-{count:03d}" for count in itertools.count(number)) if name not in taken)


def check_dvc() -> None:
    if shutil.which("dvc") is None:
        raise SeamlineError("sweep: dvc is not on the PATH; source .venv/bin/activate.")


def check_name(name: str) -> None:
    """Raises SeamlineError when DVC does not allow it in an experiment's name."""
    try:
        git("check-ref-format", f"refs/exps/{name}")
        usable = "/" not in name and not name.startswith("-") and name.isprintable()
    except SeamlineError:
        usable = False
    if not usable:
        raise SeamlineError(f"--name: {name!r} is not allowed; use letters, digits, - and _, and no - at the start.")


def start_of(study: Study) -> tuple[Snapshot, Path]:
    """What the sweep's trials run, stored at its start, and the project's folder in a copy with it.

    If all trials have failed, the sweep starts again from the workspace, where the mistake may have been corrected.
    """
    stored = study.user_attrs.get("start")
    if stored and any(trial.state != TrialState.FAIL for trial in study.trials):
        start = Snapshot(*stored)
        if sentence := difference_to_sentence(study.study_name, start, head(), changed_since(start)):
            print(sentence)
    else:
        check_in_git()
        if missed := untracked_code():
            print(f"{study.study_name}: its trials run without {some(missed)}, which git does not track; git add them")
        start = snapshot_of_workspace()
        keep(start, study.study_name)
    project = copy_of(start)
    check_source_reachable(load_params(project / "params.yaml")[Pull].source, project)
    study.set_user_attr("start", list(start))
    return start, project


def check_in_git() -> None:
    """Raises SeamlineError when git does not track a file that DVC needs: a copy of the project would lack it."""
    known = git("ls-files", "-z", "--", *NEEDED).split("\0")
    for name in NEEDED:
        if name not in known:
            raise SeamlineError(f"sweep: trials run in copies of the files in git, and {name} is not; git add {name}.")


def check_source_reachable(source: str, copy: Path) -> None:
    """Raises SeamlineError when a copy of the project would not find the source: a relative path that is not in git."""
    path = Path(source)
    found = path.is_absolute() or (copy / path).exists() or (copy / f"{path}.dvc").exists()
    if path.exists() and not found:
        raise SeamlineError(
            f"sweep: trials run in copies of the project, where pull.source {source!r} does not exist; "
            f"write {path.resolve()}."
        )


def experiment_value(commit: str) -> float:
    """The primary mAP50-95 on val that the evaluate stage of a DVC experiment measured."""
    accuracy = json.loads(git("show", f"{commit}:./reports/accuracy.json"))["val"]
    return float(accuracy[f"{primary_kind(accuracy)}_mAP50_95"] or 0)


def difference_to_sentence(name: str, start: Snapshot, commit: str, changed: Sequence[str]) -> str:
    """How the workspace differs from the start of a resumed sweep; "" if it does not."""
    if commit == start.commit and not changed:
        return ""
    what = f"{some(changed)} changed since then" if changed else f"HEAD is {commit[:10]} now, with the same files"
    return (
        f"{name}: resumes from the code and parameters of its start, commit {start.commit[:10]}, not from the "
        f"workspace ({what}); for a sweep of the workspace: make sweep SWEEP='--name other'"
    )


def changed_since_start(study: Study) -> list[str]:
    """Files that differ from the sweep's start; [] when the start is unknown."""
    with contextlib.suppress(KeyError, SeamlineError):  # an older version's sweep, or another clone
        return changed_since(Snapshot(*study.user_attrs["start"]))
    return []


def best_to_lines(best: FrozenTrial, changed: Sequence[str]) -> list[str]:
    """The winner, and how to use it; changed: files that differ from the sweep's start."""
    experiment, overrides = best.user_attrs["experiment"], params_to_overrides(best.params)
    lines = [f"best: {experiment}, mAP50-95 on val {best.value:.3f}, {' '.join(overrides)}"]
    if not changed:
        return [*lines, f"to use it: dvc exp apply {experiment} && dvc repro"]
    words = " ".join(f"-S {shlex.quote(f'++{override}')}" for override in overrides)
    return [
        *lines,
        f"to use it: dvc exp run {words}  (dvc exp apply would also set {some(changed)} back to the sweep's start)",
    ]
