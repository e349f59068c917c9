"""A search space from params.yaml for Optuna, its choices for DVC, and what a DVC experiment found."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.doctor.finding import some
from seamline.doctor.repository import untracked_code
from seamline.experiments.revisions import git, head
from seamline.experiments.snapshot import Snapshot, changed_since, copy_of, keep, snapshot_of_workspace
from seamline.params.evaluate import Evaluate
from seamline.params.loader import Params, load_params
from seamline.params.pull import Pull
from seamline.params.sweep import Range, Sweep
from seamline.params.train import Train

NEEDED = ("dvc.yaml", "dvc.lock", "params.yaml")
OBJECTIVE = "val_mask_mAP50_95"


def space_to_distributions(space: Mapping[str, Range | list[Any]]) -> dict[str, BaseDistribution]:
    """A list is a choice; a range of two whole numbers gives whole numbers."""
    found: dict[str, BaseDistribution] = {}
    for key, values in space.items():
        if isinstance(values, list):
            found[key] = CategoricalDistribution(values)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            found[key] = IntDistribution(values.low, values.high, log=values.log)
        else:
            found[key] = FloatDistribution(values.low, values.high, log=values.log)
    return found


def params_to_overrides(params: Mapping[str, Any]) -> list[str]:
    """train.lr0=0.003 and the like, as `dvc exp run -S` takes them: values in JSON, floats with six digits."""
    return [
        f"{key}={json.dumps(float(f'{value:.6g}') if isinstance(value, float) else value)}"
        for key, value in sorted(params.items())
    ]


def study_key(params: Params, lock: Path) -> str:
    """Four hexadecimal digits of what makes trials comparable: data, evaluation, training outside the space, the space.

    Raises:
        SeamlineError: when the data are not there yet.
    """
    try:
        stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
        data = [out["md5"] for name in ("convert", "split") for out in stages[name]["outs"]]
    except (FileNotFoundError, KeyError, TypeError):
        raise SeamlineError(f"sweep: {lock} has no data yet; run dvc repro split first.") from None
    space = params[Sweep].space
    sections = {"train": msgspec.to_builtins(params[Train]), "evaluate": msgspec.to_builtins(params[Evaluate])}
    train = sections["train"] | sections["train"].pop("(others)")
    sections["train"] = {key: value for key, value in train.items() if f"train.{key}" not in space}
    text = json.dumps([data, sections, msgspec.to_builtins(space)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:4]


def read_progress(path: Path) -> list[Record]:
    """What the training has told so far; written whole, but perhaps not yet."""
    try:
        found: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return found


def validation_by_epoch(history: list[Record]) -> list[tuple[int, float]]:
    return [(record["epoch"], record[OBJECTIVE]) for record in history if OBJECTIVE in record]


def free_name(study: str, number: int) -> str:
    """A name that no experiment, branch or tag has: study-007, or the next one where a deleted sweep has left that."""
    listed = git("for-each-ref", "--format=%(refname)", "refs/exps", "refs/heads", "refs/tags").split()
    taken = {ref.rpartition("/")[2] for ref in listed}
    return next(name for name in (f"{study}-{count:03d}" for count in itertools.count(number)) if name not in taken)


def check_dvc() -> None:
    if shutil.which("dvc") is None:
        raise SeamlineError("sweep: dvc is not on the PATH; source .venv/bin/activate.")


def check_name(name: str) -> None:
    """Raises SeamlineError when DVC would not have it in an experiment's name."""
    try:
        git("check-ref-format", f"refs/exps/{name}")
        usable = "/" not in name and not name.startswith("-") and name.isprintable()
    except SeamlineError:
        usable = False
    if not usable:
        raise SeamlineError(f"--name: {name!r} is not allowed; letters, digits, - and _ are, - not as the first one.")


class Trials(NamedTuple):
    """Where trials run and what they run."""

    start: Snapshot
    project: Path  # a copy of ours as it was at the start
    folder: Path  # of their logs


def start_of(study: Study) -> tuple[Snapshot, Path]:
    """What the sweep's trials run, kept since its start, and the project's folder in a copy with it.

    A sweep in which every trial failed starts again from the workspace, where the mistake may have been mended.
    """
    kept = study.user_attrs.get("start")
    if kept and any(trial.state != TrialState.FAIL for trial in study.trials):
        start = Snapshot(*kept)
        if sentence := difference_to_sentence(study.study_name, start, head(), changed_since(start)):
            print(sentence)
    else:
        check_in_git()
        if missed := untracked_code():
            print(f"{study.study_name}: its trials run without {some(missed)}, which git does not have; git add them")
        start = snapshot_of_workspace()
        keep(start, study.study_name)
    project = copy_of(start)
    check_source_reachable(load_params(project / "params.yaml")[Pull].source, project)
    study.set_user_attr("start", list(start))
    return start, project


def check_in_git() -> None:
    """Raises SeamlineError when git does not have what DVC runs by: a copy of the project would lack it."""
    known = git("ls-files", "-z", "--", *NEEDED).split("\0")
    for name in NEEDED:
        if name not in known:
            raise SeamlineError(f"sweep: trials run in copies of what git has, and that lacks {name}; git add {name}.")


def check_source_reachable(source: str, copy: Path) -> None:
    """Raises SeamlineError when the data's source cannot be found from a copy of the project: relative, not in git."""
    path = Path(source)
    found = path.is_absolute() or (copy / path).exists() or (copy / f"{path}.dvc").exists()
    if path.exists() and not found:
        raise SeamlineError(
            f"sweep: trials run in copies of the project, where pull.source {source!r} is not; write {path.resolve()}."
        )


def experiment_value(commit: str) -> float:
    """The mask mAP50-95 on val that the evaluate stage of a DVC experiment found."""
    return float(json.loads(git("show", f"{commit}:./reports/accuracy.json"))["val"]["mask_mAP50_95"] or 0)


def difference_to_sentence(name: str, start: Snapshot, commit: str, changed: Sequence[str]) -> str:
    """What a resumed sweep says of a workspace that is not as it was at its start; "" where it is."""
    if commit == start.commit and not changed:
        return ""
    what = f"{some(changed)} since then" if changed else f"HEAD is {commit[:10]} now, with the same files"
    return (
        f"{name}: resumes from the code and parameters of its start, commit {start.commit[:10]}, and not from the "
        f"workspace ({what}); for a sweep of these: make sweep SWEEP='--name other'"
    )


def changed_since_start(study: Study) -> list[str]:
    """Files that are not as they were at the sweep's start; [] where that is not known any more."""
    with contextlib.suppress(KeyError, SeamlineError):  # an older version's sweep, or another clone
        return changed_since(Snapshot(*study.user_attrs["start"]))
    return []


def best_to_lines(best: FrozenTrial, changed: Sequence[str]) -> list[str]:
    """What a sweep says at its end; changed: files that are not as they were at its start."""
    experiment, overrides = best.user_attrs["experiment"], params_to_overrides(best.params)
    lines = [f"best: {experiment}, val mask mAP50-95 {best.value:.3f}, {' '.join(overrides)}"]
    if not changed:
        return [*lines, f"take it over with: dvc exp apply {experiment} && dvc repro"]
    words = " ".join(f"-S {shlex.quote(f'++{override}')}" for override in overrides)
    told = f"(dvc exp apply would also take {some(changed)} back to the sweep's start)"
    return [*lines, f"take it over with: dvc exp run {words}  {told}"]
