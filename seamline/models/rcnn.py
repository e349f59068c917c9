"""The family R-CNN: torchvision's Mask R-CNN and Faster R-CNN, from an image to their input and from outputs back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seamline.models.arrays import Floats, Outputs
from seamline.models.canvases import add_openvino_steps as add_openvino_steps
from seamline.models.canvases import canvases_to_tensor as canvases_to_tensor
from seamline.models.canvases import image_to_canvas as image_to_canvas
from seamline.models.detections import Detections
from seamline.models.letterbox import Letterbox, boxes_to_image, corners_to_image
from seamline.models.model_facts import Limits, ModelFacts
from seamline.models.nms import non_maximum_suppression
from seamline.models.rcnn_masks import paste_masks

RCNN = "rcnn"  # as model files name it
LICENCE = "BSD-3-Clause (trained with torchvision)"
# torchvision's networks take apart what is found in several images, which a file of fixed shapes cannot do.
EXPORTED_BATCH: int | None = 1


def limits_within(facts: ModelFacts, asked: Limits) -> Limits:
    """No more than the network leaves, whose own limits are its facts."""
    return asked._replace(
        nms_iou=min(asked.nms_iou, facts.nms_iou), max_detections=min(asked.max_detections, facts.max_detections)
    )


def outputs_to_detections(outputs: Outputs, placement: Letterbox, facts: ModelFacts, limits: Limits) -> Detections:
    """Decode one image's outputs.

    The network has left out overlapping boxes of a class itself; a stricter limit leaves out more.

    Args:
        outputs: boxes (n, 4) as x1, y1, x2, y2 in input pixels, scores (n,), 0 where there is nothing, class indices
            (n,), and with masks (n, side, side), probabilities in a grid over the box.
        placement: how the image lies in the input.
        facts: the model's.
        limits: what is reported.
    """
    corners, scores, classes = (np.asarray(output) for output in outputs[:3])
    candidates = np.flatnonzero(scores > limits.confidence)
    order = non_maximum_suppression(
        corners[candidates], scores[candidates], classes[candidates], limits.nms_iou, limits.max_detections
    )
    chosen = candidates[order]
    found: Floats = corners[chosen]
    shapes = None
    if facts.masks:
        # A mask's grid lies over the whole box, what reaches beyond the image included.
        shapes = paste_masks(
            outputs[3], chosen, corners_to_image(found, placement).astype(np.float32), placement.height, placement.width
        )
    return Detections(
        boxes_to_image(found, placement),
        scores[chosen].astype(np.float32),
        classes[chosen].astype(np.int64),
        shapes,
        placement.height,
        placement.width,
    )


def load_module(path: Path, device: str) -> tuple[Any, ModelFacts]:
    """A best.pt that the train stage made of this family, its convolutions fused with their normalisations."""
    from seamline.models.rcnn_inference import fuse
    from seamline.models.rcnn_network import network_to_module
    from seamline.models.rcnn_weights import load_network

    network, architecture, names = load_network(path, device)
    facts = ModelFacts(
        names,
        architecture.imgsz,
        nms_iou=architecture.nms_iou,
        max_detections=architecture.detections,
        family=RCNN,
        masks=architecture.has_masks,
    )
    module = network_to_module(network, architecture)
    fuse(module)
    return module.to(device), facts
