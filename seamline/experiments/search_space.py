"""A sweep's search space from params.yaml for Optuna, and Optuna's choices for DVC."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from seamline.base.errors import SeamlineError
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import Params
from seamline.params.sweep import Range, Sweep
from seamline.params.train import Train


def space_to_distributions(space: Mapping[str, Range | list[Any]]) -> dict[str, BaseDistribution]:
    """A list is a choice; a range between two whole numbers gives whole numbers."""
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
    """Such as train.lr0=0.003, for `dvc exp run -S`: values in JSON, floats with six digits."""
    return [
        f"{key}={json.dumps(float(f'{value:.6g}') if isinstance(value, float) else value)}"
        for key, value in sorted(params.items())
    ]


def study_key(params: Params, lock: Path) -> str:
    """Four hexadecimal digits of what makes trials comparable: data, evaluation, fixed parameters of train, the space.

    Raises:
        SeamlineError: when there is no data yet.
    """
    try:
        stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
        data = [out["md5"] for name in ("convert", "split") for out in stages[name]["outs"]]
    except (FileNotFoundError, KeyError, TypeError):
        raise SeamlineError(f"sweep: {lock} has no data yet; run dvc repro convert split first.") from None
    space = params[Sweep].space
    sections = {"train": msgspec.to_builtins(params[Train]), "evaluate": msgspec.to_builtins(params[Evaluate])}
    train = sections["train"] | sections["train"].pop("(others)")
    sections["train"] = {key: value for key, value in train.items() if f"train.{key}" not in space}
    text = json.dumps([data, sections, msgspec.to_builtins(space)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:4]
