"""Sweep: search the hyperparameters of params.yaml's section `sweep` for the best mask mAP50-95 on val.

Every trial is a DVC experiment (`dvc exp show`) that trains and evaluates, in a copy of the project as it was when the
sweep began: what becomes of the workspace meanwhile changes no trial. Optuna chooses the values and stops trials that
lag behind the median of the others at the same epoch. Killed, `make sweep` resumes with the trial that was cut.

Example: python -m stages.sweep --name sweep
"""

import argparse
import fcntl
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from tqdm import tqdm

from seamline.base.errors import SeamlineError
from seamline.base.process import ENDS_WITH, SCRATCH, run
from seamline.experiments.revisions import head
from seamline.experiments.snapshot import discard_copies, reset, take_experiment
from seamline.experiments.sweeping import (
    Trials,
    best_to_lines,
    changed_since_start,
    check_dvc,
    check_name,
    experiment_value,
    free_name,
    params_to_overrides,
    read_progress,
    space_to_distributions,
    start_of,
    study_key,
    validation_by_epoch,
)
from seamline.params.loader import load_params
from seamline.params.sweep import Sweep
from seamline.training.trial import DIVERGED, PROGRESS, stop_file

POLL_S, OVER = 0.5, (TrialState.COMPLETE, TrialState.PRUNED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="sweep", help="beginning of the experiments' names")
    args = parser.parse_args()
    head()  # before anything is written
    check_dvc()
    check_name(args.name)
    params = load_params()
    sweep = params[Sweep]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = (SCRATCH / "sweep").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{args.name}-{study_key(params, Path('dvc.lock'))}"
    storage = f"sqlite:///{folder / 'trials.db'}"
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SeamlineError("sweep: another one is running in this project; wait for it or stop it.") from None
        others = [other for other in optuna.get_all_study_names(storage) if other.startswith(f"{args.name}-")]
        if others and name not in others:
            print(f"{name}: a new sweep; data, parameters or space are not those of {', '.join(others)}, which stays")
        study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True, direction="maximize")
        # Else what a resumed sweep chose first would be what the killed one chose first.
        study.sampler = optuna.samplers.TPESampler(seed=sweep.seed + len(study.trials))
        study.pruner = optuna.pruners.MedianPruner(sweep.startup_trials, sweep.epochs_before_pruning)
        if len(study.get_trials(states=OVER)) < sweep.trials:
            trials = Trials(*start_of(study), folder)
            for cut in study.get_trials(states=[TrialState.RUNNING]):
                study.tell(cut.number, state=TrialState.FAIL)
                study.enqueue_trial(cut.params)
            search(study, sweep, trials)
            discard_copies()

    if not study.get_trials(states=[TrialState.COMPLETE]):
        raise SeamlineError("sweep: every trial was stopped early; raise sweep.startup_trials.")
    print("\n".join(best_to_lines(study.best_trial, changed_since_start(study))))


def search(study: Any, params: Sweep, trials: Trials) -> None:
    """Run trials until there are enough; one that fails is left out, three in a row end the search.

    Raises:
        SeamlineError: what the last of three failing trials said.
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
                if failed == 3:
                    raise
                tqdm.write(f"{error}  {overrides}")
                continue
            failed = 0
            study.tell(trial, value, state=TrialState.PRUNED if value is None else None)
            bar.update()
            found = "stopped early" if value is None else f"val mask mAP50-95 {value:.3f}"
            tqdm.write(f"{experiment}: {found}  {overrides}")


def run_trial(trial: Any, experiment: str, trials: Trials) -> float | None:
    """The experiment's val mask mAP50-95; None when it was stopped early, or its loss became no number.

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
        told = 0
        while process.poll() is None:
            time.sleep(POLL_S)
            for epoch, value in validation_by_epoch(read_progress(progress)):
                if epoch > told:
                    trial.report(value, epoch)
                    told = epoch
                    if trial.should_prune():
                        stop_file(progress).touch()
    if process.returncode == 0:
        return experiment_value(take_experiment(trials.project, trials.start, experiment))
    text = log.read_text(encoding="utf-8", errors="replace")
    if stop_file(progress).exists() or DIVERGED in text:
        return None
    errors = [line.strip() for line in text.splitlines() if "error" in line.lower()]
    raise SeamlineError(f"sweep: {experiment} failed ({errors[0] if errors else 'no reason given'}); see {log}.")


if __name__ == "__main__":
    run(main)
