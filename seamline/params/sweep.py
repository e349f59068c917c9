from __future__ import annotations

import difflib
from typing import Annotated, Any

from msgspec import Meta

from seamline.params.loading.types import Count, Section, Seed, Text
from seamline.params.train import Train, trainer_arguments


class Range(Section):
    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} has to be less than high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} has to be above 0 where log is true")


class Sweep(Section):
    trials: Count
    startup_trials: Count
    epochs_before_pruning: Annotated[int, Meta(ge=0)]
    space: Annotated[dict[Text, Range | Annotated[list[Any], Meta(min_length=1)]], Meta(min_length=1)]
    seed: Seed

    def __post_init__(self) -> None:
        arguments = trainer_arguments()
        known = Train.own_keys() | set(arguments or ())
        for key in self.space:
            section, _, name = key.partition(".")
            if section == "classify":
                raise ValueError(
                    f"{key!r} in space is not a parameter of train, which alone is swept; to try values of it: dvc exp "
                    f"run --queue -S '{key}=A,B', dvc exp run --run-all, and choose by val's F1 in dvc exp show"
                )
            if section != "train" or (arguments is not None and name not in known):
                near = difflib.get_close_matches(key, [f"train.{known_name}" for known_name in known], n=1)
                raise ValueError(
                    f"{key!r} in space is not a parameter of train" + (f"; did you mean {near[0]}?" if near else "")
                )
