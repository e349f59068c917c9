from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from seamline.params.types import Section, Text

Share = Annotated[float, Meta(gt=0, le=1)]
Detections = Annotated[int, Meta(ge=1, le=1000)]
Width = Annotated[int, Meta(ge=1, le=4096)]


class Rcnn(Section):
    start: Text
    frozen_stride: Literal[0, 2, 4, 8, 16, 32]
    frozen_norm: bool
    anchors: list[list[Share]] | None
    fpn_channels: Width
    box_channels: Width
    mask_channels: Width
    mask_layers: Annotated[int, Meta(ge=1, le=8)]
    proposals_a_map_train: Width
    proposals_train: Width
    proposals_a_map: Width
    proposals: Width
    anchors_a_step: Width
    boxes_a_step: Width
    detections: Detections
    nms_iou: Share
