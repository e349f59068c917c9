from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta

from seamline.base.splits import SPLITS
from seamline.params.loading.types import Section, Seed, Text


class Ratios(Section):
    train: Annotated[float, Meta(gt=0, lt=1)]
    val: Annotated[float, Meta(gt=0, lt=1)]
    test: Annotated[float, Meta(gt=0, lt=1)]

    def __post_init__(self) -> None:
        total = self.train + self.val + self.test
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"train + val + test add up to {total:g}; they have to add up to 1")


class Split(Section):
    ratios: Ratios
    official: Annotated[dict[str, Text], Meta(min_length=1)] | None
    group_by: Text | None
    versions: bool
    near_duplicate_bits: Annotated[int, Meta(ge=0, le=24)] | None
    seed: Seed

    def __post_init__(self) -> None:
        for split in self.official or ():
            if split not in SPLITS:
                raise ValueError(f"{split!r} in official is not a split; allowed are {', '.join(SPLITS)}")
