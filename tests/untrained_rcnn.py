"""R-CNNs nobody trained, which yet find a lot in the sample's photos and nothing in a grey one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from seamline.base.files import sha256_of
from seamline.export.metadata import model_metadata
from seamline.export.openvino import onnx_to_openvino
from seamline.export.rcnn import PREPROCESSING, weights_to_onnx
from seamline.images.reading import read_image
from seamline.models.canvases import canvases_to_tensor
from seamline.models.exported import model_paths
from seamline.models.letterbox import image_to_letterbox
from seamline.models.model_facts import ModelFacts
from seamline.models.rcnn_network import Architecture, Model, build_network, default_anchors
from seamline.models.rcnn_weights import weights_to_write, write
from tests.untrained import write_split

NAMES = ["short sleeve top", "trousers"]
IMGSZ = 128
MASK: Model = "maskrcnn_mobilenet_v3_large_fpn"
BOX: Model = "fasterrcnn_efficientnet_lite0_fpn"


class UntrainedRcnn(NamedTuple):
    architecture: Architecture
    weights: Path
    split: Path  # train.json, val.json, test.json
    images_folder: Path
    exported: Path  # onnx/ and openvino/

    def images(self) -> list[Path]:
        return sorted(self.images_folder.iterdir())

    def models(self) -> dict[str, Path]:
        return model_paths(self.weights, self.exported)


def small_architecture(model: Model, imgsz: int = IMGSZ, frozen_norm: bool = False) -> Architecture:
    return Architecture(
        model,
        len(NAMES),
        imgsz,
        default_anchors(model, imgsz),
        frozen_norm,
        fpn_channels=16,
        box_channels=32,
        mask_channels=16,
        mask_layers=1,
        proposals_a_map=60,
        proposals=40,
        detections=15,
    )


def make_untrained_rcnn(folder: Path, model: Model) -> UntrainedRcnn:
    """best.pt, ONNX and OpenVINO f32, and a small split."""
    made = UntrainedRcnn(
        small_architecture(model), folder / "train" / "best.pt", folder / "split", folder / "images", folder / "export"
    )
    write_split(made.split, made.images_folder)
    network = spread_network(made.architecture, canvases_of(made.images()))
    made.weights.parent.mkdir()
    write(weights_to_write(network, made.architecture, NAMES), made.weights)
    models, metadata = made.models(), metadata_of(made)
    models["onnx"].parent.mkdir(parents=True)
    models["openvino"].mkdir()
    weights_to_onnx(made.weights, models["onnx"], 20, metadata)
    onnx_to_openvino(models["onnx"], models["openvino"], metadata, "f32")
    return made


def metadata_of(made: UntrainedRcnn) -> dict[str, str]:
    facts = ModelFacts(NAMES, IMGSZ, 0.2, 0.6, 50, "rcnn", made.architecture.has_masks)
    return model_metadata(facts, PREPROCESSING, {}, sha256_of(made.weights))


def canvases_of(images: list[Path]) -> torch.Tensor:
    canvases = np.stack([image_to_letterbox(read_image(image), IMGSZ)[0] for image in images])
    return torch.from_numpy(canvases_to_tensor(canvases))


def spread_network(
    architecture: Architecture, canvases: torch.Tensor, scores: float = 4, blind_to_grey: bool = True
) -> Any:
    """A network whose statistics are those of the photos, and whose scores, boxes and masks vary as after training.

    Args:
        scores: the standard deviation of what scores are made of; from 6 on some are 1, and their order is anybody's.
        blind_to_grey: it finds nothing in a grey photo, and so less in others.
    """
    torch.manual_seed(0)
    network = build_network(architecture)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    heads: Any = network.roi_heads
    layers = [(network.rpn.head.cls_logits, 2.0), (network.rpn.head.bbox_pred, 0.3)]
    layers += [(heads.box_predictor.cls_score, scores), (heads.box_predictor.bbox_pred, 0.5)]
    if architecture.has_masks:
        layers.append((heads.mask_predictor.mask_fcn_logits, 3.0))
    with torch.no_grad():
        network.train()
        network.backbone(network.transform(list(canvases))[0].tensors)
        network.eval()
        for layer, wanted in layers:  # one after the other, as each changes what the next ones are given
            found = outputs_of(network, layer, canvases)
            layer.weight *= wanted / float(torch.cat([output.flatten() for output in found]).std())
        if blind_to_grey:
            [logits] = outputs_of(network, heads.box_predictor.cls_score, torch.full_like(canvases[:1], 114 / 255))
            most = float((logits[:, 1:].max(dim=1).values - logits[:, 0]).max())
            heads.box_predictor.cls_score.bias[0] += most + 8  # the most that a grey photo shows has a score of 0.0003
    return network


def outputs_of(network: Any, layer: nn.Module, canvases: torch.Tensor) -> list[torch.Tensor]:
    """What a layer puts out, each time that it is called."""
    found: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    network(list(canvases))
    hook.remove()
    return found
