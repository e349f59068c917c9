from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from seamline.base.splits import SPLITS
from seamline.params.loading.types import Ratios, Section, Seed, Text


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
