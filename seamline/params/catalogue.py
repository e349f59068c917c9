from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from seamline.params.loading.types import Fraction, Section, Seed, Text

Where = Annotated[dict[Text, str], Meta(min_length=1)] | None


class Catalogue(Section):
    source: Text | None
    file_column: Text | None
    confidence: Fraction | None
    crop_px: Annotated[int, Meta(ge=32, le=1024)] | None
    item: Text | None
    same: Text | None
    questions: Where
    answers: Where
    pictures: Annotated[int, Meta(ge=0, le=100)]
    seed: Seed
