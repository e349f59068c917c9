from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from seamline.params.loading.types import Count, Fraction, GateOn, Section


class EmbedInt8(Section):
    calibration_garments: Count
    max_recall_drop: Fraction
    gate_on: GateOn


class Embed(Section):
    model: Annotated[str, Meta(min_length=1)]
    revision: str | None
    sha256: str | None
    imgsz: Annotated[int, Meta(ge=32, le=1024)] | None
    background: Literal["keep", "white", "mean"]
    margin: Annotated[float, Meta(ge=0, le=1)]
    int8: EmbedInt8
