from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from seamline.params.loading.types import Section, Text

MODELS = (
    "maskrcnn_resnet50_fpn_v2",
    "maskrcnn_mobilenet_v3_large_fpn",
    "maskrcnn_efficientnet_lite0_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_efficientnet_lite0_fpn",
)
Share = Annotated[float, Meta(gt=0, le=1)]
Detections = Annotated[int, Meta(ge=1, le=1000)]
Width = Annotated[int, Meta(ge=1, le=4096)]


def is_rcnn(model: str) -> bool:
    """Whether train.model names an R-CNN, if perhaps none that there is; all others are YOLO's."""
    return model.startswith(("maskrcnn_", "fasterrcnn_")) and not model.endswith((".pt", ".yaml"))


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
