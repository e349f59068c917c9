from __future__ import annotations

from seamline.params.loading.types import Fraction, Section


class Convert(Section):
    min_mean_iou: Fraction
