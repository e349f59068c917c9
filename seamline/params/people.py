from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from seamline.params.loading.types import Count, Fraction, Section, Text


class People(Section):
    """The defaults are those of params.yaml, for tools that do without it."""

    model: Text | None = None
    person_class: Text | None = None
    confidence: Fraction = 0.25
    margin: Annotated[float, Meta(ge=0, le=10)] = 0.1
    most: Count = 16
    merge_iou: Annotated[float, Meta(gt=0, le=1)] = 0.5
