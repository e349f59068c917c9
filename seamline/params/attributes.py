from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from seamline.base.errors import SeamlineError
from seamline.params.loading.types import AtLeastZero, Ratios, Section, Seed, Text, check_source


class Label(Section):
    """Where an attribute is read from, and what its values are called."""

    field: Text | None = None  # of the annotations, or a column; None: as the attribute is called
    values: Annotated[dict[Text, Text | None], Meta(min_length=1)] | None = None  # None: as they are


class Attributes(Section):
    enabled: bool
    source: Text
    csv: Text | None
    file_column: Text | None
    labels: Annotated[dict[Text, Label], Meta(min_length=1)] | None
    classes: Annotated[list[Text], Meta(min_length=1)] | None
    missing: list[str]
    split_column: Text | None
    group_by: Text | None
    ratios: Ratios
    near_duplicate_bits: Annotated[int, Meta(ge=0, le=24)] | None
    margin: AtLeastZero
    background: Literal["keep", "white", "mean"]
    side_px: Annotated[int, Meta(ge=32, le=4096)]
    seed: Seed

    @classmethod
    def prepared(cls, values: dict[Any, Any]) -> dict[Any, Any]:
        if values.get("source", "") is None:
            raise SeamlineError(
                "attributes.source: null switches nothing off, since DVC takes it for the path of a dependency; "
                "`attributes.enabled: false` switches attributes off."
            )
        return values

    def __post_init__(self) -> None:
        check_source(self.source)
