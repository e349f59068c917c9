"""torchvision's Mask R-CNN and Faster R-CNN: what one is made of, and the network as torchvision trains it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta
from torch import nn
from torchvision.models.detection import (
    FasterRCNN,
    MaskRCNN,
    fasterrcnn_mobilenet_v3_large_320_fpn,
    fasterrcnn_resnet50_fpn_v2,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from seamline.base.errors import SeamlineError, counted
from seamline.models.rcnn_backbones import (
    LITE0_MEAN,
    LITE0_STD,
    STRIDES,
    PyramidBackbone,
    lite0_backbone,
    mobilenet_backbone,
)
from seamline.models.rcnn_inference import RcnnModule

Model = Literal[
    "maskrcnn_resnet50_fpn_v2",
    "maskrcnn_mobilenet_v3_large_fpn",
    "maskrcnn_efficientnet_lite0_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_efficientnet_lite0_fpn",
]
# Those that torchvision has weights for, by the strides of their feature maps; the others are put together here.
TORCHVISION_STRIDES = {
    "maskrcnn_resnet50_fpn_v2": (4, 8, 16, 32, 64),
    "fasterrcnn_resnet50_fpn_v2": (4, 8, 16, 32, 64),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (32, 32, 64),
}
ASPECT_RATIOS = (0.5, 1.0, 2.0)
OCTAVES = [32.0, 64.0, 128.0, 256.0, 512.0]  # torchvision's anchors, in pixels
# Of those put together here, as shares of the input's side: an object may fill it, however small the input is.
ANCHOR_SHARES = ((0.05, 0.09), (0.16, 0.28), (0.5, 0.85))

Size = Annotated[int, Meta(ge=1, le=4096)]
Share = Annotated[float, Meta(ge=0, le=1)]
Pixels = Annotated[float, Meta(gt=0, le=16384)]


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a network's layers and its detections depend on but its weights: plain data, as best.pt holds it."""

    model: Model
    classes: Annotated[int, Meta(ge=1, le=100_000)]  # without background
    imgsz: Annotated[int, Meta(ge=32, le=8192, multiple_of=32)]  # side of the square input, in pixels
    anchors: list[list[Pixels]]  # sides in pixels of each feature map's anchors, each in three shapes; equally many
    frozen_norm: bool = False  # the backbone's normalisations keep their statistics and factors
    # Widths of the models put together here; those of torchvision's own are torchvision's.
    fpn_channels: Size = 64
    box_channels: Size = 256  # of the box head's two layers
    mask_channels: Size = 64
    mask_layers: Annotated[int, Meta(ge=1, le=8)] = 4
    # Proposals: the best of each feature map, and of all together what is left after suppression.
    proposals_a_map_train: Size = 500
    proposals_train: Size = 200
    proposals_a_map: Size = 300
    proposals: Size = 100
    # Of an image, whose losses count in a step.
    anchors_a_step: Size = 256
    boxes_a_step: Size = 64
    detections: Annotated[int, Meta(ge=1, le=1000)] = 30  # at most, in an image; each costs the mask head's time
    nms_iou: Share = 0.5
    min_score: Share = 0.001  # a detection's

    @property
    def has_masks(self) -> bool:
        return self.model.startswith("maskrcnn_")

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the feature maps in which anchors lie, in pixels of the input."""
        return TORCHVISION_STRIDES.get(self.model, STRIDES)


def default_anchors(model: Model, imgsz: int) -> list[list[float]]:
    """Sides in pixels: torchvision's for its own models, whose weights know them, else shares of the input."""
    if model == "fasterrcnn_mobilenet_v3_large_320_fpn":
        return [OCTAVES] * 3
    if model in TORCHVISION_STRIDES:
        return [[side] for side in OCTAVES]
    return [[share * imgsz for share in shares] for shares in ANCHOR_SHARES]


def build_network(architecture: Architecture) -> FasterRCNN:
    """torchvision's MaskRCNN or FasterRCNN with random weights; nothing is downloaded.

    network(images, targets) gives losses in training mode, network(images) detections, as torchvision documents them;
    images are canvases, (3, imgsz, imgsz), RGB from 0 to 1, which it normalises and does not resize.

    Raises:
        SeamlineError: where the anchors do not fit the model.
    """
    check_anchors(architecture)
    anchors = AnchorGenerator(
        tuple(tuple(sides) for sides in architecture.anchors), (ASPECT_RATIOS,) * len(architecture.anchors)
    )
    settings = shared_settings(architecture)
    if architecture.model not in TORCHVISION_STRIDES:
        return put_together(architecture, anchors, settings)
    builders = {
        "maskrcnn_resnet50_fpn_v2": maskrcnn_resnet50_fpn_v2,
        "fasterrcnn_resnet50_fpn_v2": fasterrcnn_resnet50_fpn_v2,
        "fasterrcnn_mobilenet_v3_large_320_fpn": fasterrcnn_mobilenet_v3_large_320_fpn,
    }
    network = builders[architecture.model](
        weights=None, weights_backbone=None, num_classes=architecture.classes + 1, **settings
    )
    network.rpn.anchor_generator = anchors
    if architecture.frozen_norm:
        freeze_norms(network.backbone.body)
    return network


def check_anchors(architecture: Architecture) -> None:
    """Raise SeamlineError where there are not as many lists of anchors as maps, or not equally many in each."""
    maps = len(architecture.strides)
    counts = {len(sides) for sides in architecture.anchors}
    if len(architecture.anchors) != maps or len(counts) != 1 or 0 in counts:
        raise SeamlineError(f"{architecture.model} has {maps} feature maps; each needs equally many sides of anchors.")
    wanted = {len(sides) for sides in default_anchors(architecture.model, architecture.imgsz)}
    if architecture.model in TORCHVISION_STRIDES and counts != wanted:
        raise SeamlineError(
            f"{architecture.model} needs {counted(wanted.pop(), 'side')} of anchors for each feature map."
        )


def shared_settings(architecture: Architecture) -> dict[str, Any]:
    """What torchvision's FasterRCNN and all builders of it take."""
    return {
        "min_size": architecture.imgsz,
        "max_size": architecture.imgsz,
        "_skip_resize": True,
        "rpn_pre_nms_top_n_train": architecture.proposals_a_map_train,
        "rpn_pre_nms_top_n_test": architecture.proposals_a_map,
        "rpn_post_nms_top_n_train": architecture.proposals_train,
        "rpn_post_nms_top_n_test": architecture.proposals,
        "rpn_batch_size_per_image": architecture.anchors_a_step,
        "box_batch_size_per_image": architecture.boxes_a_step,
        "box_score_thresh": architecture.min_score,
        "box_nms_thresh": architecture.nms_iou,
        "box_detections_per_img": architecture.detections,
    }


def put_together(architecture: Architecture, anchors: AnchorGenerator, settings: dict[str, Any]) -> FasterRCNN:
    """A model of a light backbone with slim pyramid and heads, of torchvision's parts."""
    width, outputs = architecture.fpn_channels, architecture.classes + 1
    maps = [str(level) for level in range(len(STRIDES))]
    box_pool = MultiScaleRoIAlign(maps, output_size=7, sampling_ratio=2)
    parts = {
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(width, anchors.num_anchors_per_location()[0]),
        "box_roi_pool": box_pool,
        "box_head": TwoMLPHead(width * box_pool.output_size[0] ** 2, architecture.box_channels),
        "box_predictor": FastRCNNPredictor(architecture.box_channels, outputs),
        **settings,
    }
    if "efficientnet_lite0" in architecture.model:
        parts |= {"image_mean": [LITE0_MEAN] * 3, "image_std": [LITE0_STD] * 3}
    backbone = backbone_of(architecture)
    if not architecture.has_masks:
        return FasterRCNN(backbone, **parts)
    channels = architecture.mask_channels
    return MaskRCNN(
        backbone,
        mask_roi_pool=MultiScaleRoIAlign(maps, output_size=14, sampling_ratio=2),
        mask_head=MaskRCNNHeads(width, [channels] * architecture.mask_layers, dilation=1),
        mask_predictor=MaskRCNNPredictor(channels, channels, outputs),
        **parts,
    )


def backbone_of(architecture: Architecture) -> PyramidBackbone:
    make = lite0_backbone if "efficientnet_lite0" in architecture.model else mobilenet_backbone
    return make(architecture.fpn_channels, architecture.frozen_norm)


def freeze_norms(module: nn.Module) -> None:
    """Put frozen normalisations of the same values in the place of a module's own, with torchvision's eps.

    That is what torchvision does with weights of its own, so that these give what they gave there.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features)
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen)
        else:
            freeze_norms(child)


def network_to_module(network: FasterRCNN, architecture: Architecture) -> RcnnModule:
    """The network for inference, of which the module's layers are the network's own; see RcnnModule."""
    maps = [math.ceil(architecture.imgsz / stride) for stride in architecture.strides]
    steps = [torch.tensor(architecture.imgsz // cells) for cells in maps]
    # torchvision's steps: where cells do not divide the input they are smaller than the map's stride.
    anchors = network.rpn.anchor_generator.grid_anchors(
        [[cells, cells] for cells in maps], [[step, step] for step in steps]
    )
    return RcnnModule(network, anchors, architecture.imgsz).eval()
