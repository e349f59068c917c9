from __future__ import annotations

import re
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from seamline.params.loading.types import Positive, Section, Seed, Text


class IouThresholds(Section):
    """COCO's thresholds of overlap, from low to high."""

    low: float
    high: float
    step: Positive

    def __post_init__(self) -> None:
        found = self.values()
        if (self.low, self.high) != (0.5, 0.95) or not {0.75, 0.95} <= {round(float(value), 9) for value in found}:
            raise ValueError(
                "mAP50_95 is the mean from 0.5 to 0.95 and mAP75 has to be among them; 0.05 is COCO's step"
            )

    def values(self) -> npt.NDArray[np.float64]:
        """As pycocotools computes its own, to the last digit."""
        return np.linspace(self.low, self.high, int(np.round((self.high - self.low) / self.step)) + 1)


class Evaluate(Section):
    confidence: Annotated[float, Meta(ge=0, lt=1)]
    nms_iou: Annotated[float, Meta(gt=0, le=1)]
    max_detections: Annotated[int, Meta(ge=1, le=100)]
    device: Text
    iou_thresholds: IouThresholds
    bootstrap_samples: Annotated[int, Meta(ge=100, le=10000)]
    slices: dict[Text, dict[Text, Text] | None]
    overlays: Annotated[int, Meta(ge=1, le=100)]
    seed: Seed

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,2})?", self.device):
            raise ValueError(f"device has to be auto, cpu, cuda or cuda:NUMBER, not {self.device!r}")
