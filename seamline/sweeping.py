"""A search space from params.yaml for Optuna, its choices for DVC, and what a DVC experiment found."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.params import Params, Range
from seamline.revisions import git

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
    sections = {name: msgspec.to_builtins(getattr(params, name)) for name in ("train", "evaluate")}
    train = sections["train"] | sections["train"].pop("(others)")
    sections["train"] = {key: value for key, value in train.items() if f"train.{key}" not in params.sweep.space}
    text = json.dumps([data, sections, msgspec.to_builtins(params.sweep.space)], sort_keys=True)
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
    """A name no DVC experiment has: study-007, or the next one where that is left of a sweep that was deleted."""
    taken = {ref.rpartition("/")[2] for ref in git("for-each-ref", "--format=%(refname)", "refs/exps").split()}
    return next(name for name in (f"{study}-{count:03d}" for count in itertools.count(number)) if name not in taken)


def check_source_reachable(source: str) -> None:
    """Raises SeamlineError when the data's source cannot be found from a copy of the project: relative, not in git."""
    path = Path(source)
    if path.exists() and not path.is_absolute() and not git("ls-files", "--", source).strip():
        raise SeamlineError(
            f"sweep: trials run in copies of the project, where pull.source {source!r} is not; write {path.resolve()}."
        )


def experiment_value(name: str) -> float:
    """The mask mAP50-95 on val that the evaluate stage of a DVC experiment on this commit found."""
    head = git("rev-parse", "HEAD").strip()
    ref = f"refs/exps/{head[:2]}/{head[2:]}/{name}"
    return float(json.loads(git("show", f"{ref}:reports/accuracy.json"))["val"]["mask_mAP50_95"] or 0)
