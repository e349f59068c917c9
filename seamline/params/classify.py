from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from seamline.params.loading.types import AtLeastZero, Count, Fraction, Positive, Section, Seed, Text

Epochs = Annotated[int, Meta(ge=0)]


class Augment(Section):
    fliplr: Fraction
    degrees: Annotated[float, Meta(ge=0, le=45)]
    scale: Annotated[float, Meta(ge=0, le=0.5)]
    brightness: Fraction
    contrast: Fraction
    saturation: Fraction
    noise: Fraction


class Int8(Section):
    calibration_garments: Count
    max_drop: Fraction


class Classify(Section):
    backbone: Text
    start: Text
    imgsz: Annotated[int, Meta(ge=32, le=1024, multiple_of=32)]
    batch: Count
    frozen_epochs: Epochs
    epochs: Epochs
    frozen_stride: Literal[0, 2, 4, 8, 16, 32]
    lr_heads: Positive
    lr_backbone: Positive
    weight_decay: AtLeastZero
    balance: Literal["none", "weights", "logits"]
    stop_after: Count
    augment: Augment
    target_accuracy: Fraction
    min_agreement: Fraction
    int8: Int8
    device: Literal["auto", "cpu", "cuda"]
    seed: Seed
