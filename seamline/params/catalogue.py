from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from seamline.params.loading.types import Fraction, Section, Seed, Text, check_source

Where = Annotated[dict[Text, str], Meta(min_length=1)] | None


class Catalogue(Section):
    enabled: bool
    source: Text
    csv: Text | None
    file_column: Text | None
    confidence: Fraction | None
    crop_px: Annotated[int, Meta(ge=32, le=1024)] | None
    item: Text | None
    same: Text | None
    questions: Where
    answers: Where
    pictures: Annotated[int, Meta(ge=0, le=100)]
    seed: Seed

    def __post_init__(self) -> None:
        check_source(self.source)
