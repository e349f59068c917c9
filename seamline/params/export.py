from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from seamline.params.loading.types import Count, Fraction, GateOn, Section


class Int8(Section):
    calibration_images: Count
    max_drop: Fraction
    gate_on: GateOn


class Export(Section):
    opset: Annotated[int, Meta(ge=17, le=22)]
    confidence: Annotated[float, Meta(ge=0, lt=1)]
    max_drift: Fraction
    min_matched: Fraction
    int8: Int8
