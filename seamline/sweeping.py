"""A search space from params.yaml for Optuna, its choices for DVC, and what a DVC experiment found."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.params import Params, Range

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


def study_key(params: Params) -> str:
    """Four hexadecimal digits of what makes trials comparable: the data's and training's parameters and the space."""
    sections = [msgspec.to_builtins(getattr(params, name)) for name in ("pull", "subset", "convert", "split", "train")]
    text = json.dumps([sections, msgspec.to_builtins(params.sweep.space)], sort_keys=True)
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


def experiment_value(name: str) -> float:
    """The mask mAP50-95 on val that a DVC experiment's evaluate stage found.

    Raises:
        SeamlineError: when there is no such experiment, or it has no such number.
    """
    refs = git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    ref = next((ref for ref in refs if ref.endswith(f"/{name}")), None)
    if ref is None:
        raise SeamlineError(f"sweep: DVC has no experiment {name!r}.")
    return float(json.loads(git("show", f"{ref}:reports/accuracy.json"))["val"]["mask_mAP50_95"] or 0)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout
