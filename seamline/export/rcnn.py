"""The exporter of the family R-CNN: from best.pt to ONNX, of fixed shapes; equal weights give equal bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from seamline.export.gates import DETECTED_SCORE
from seamline.export.onnx_files import module_to_onnx
from seamline.models.arrays import Outputs
from seamline.models.boxes import box_ious
from seamline.models.model_facts import ModelFacts
from seamline.models.rcnn import load_module

PREPROCESSING = (
    "fitted into imgsz x imgsz, centred on grey 114, bilinear; RGB, 0 to 1, NCHW, one image a batch; "
    "the model itself subtracts ImageNet's mean and divides by its standard deviation"
)
OUTPUTS = ("boxes", "scores", "labels", "masks")
SAME_IOU = 0.5  # of two models' boxes of a class, from which on they are taken for one detection


def weights_to_onnx(weights: Path, out: Path, opset: int, metadata: Mapping[str, str]) -> None:
    """Export best.pt as an f32 ONNX file, 1 x 3 x imgsz x imgsz, with this metadata and no other."""
    import torch

    module, facts = load_module(weights, "cpu")
    outputs = OUTPUTS if facts.masks else OUTPUTS[:3]
    module_to_onnx(module, torch.zeros(1, 3, facts.imgsz, facts.imgsz), "images", outputs, out, opset, metadata)


def ignored_operations(names: Sequence[str], rung: str) -> list[str]:
    """Which operations of the converted model the quantiser has to leave in f32.

    On every rung what makes boxes of the heads' outputs, chooses among them and cuts features out: pixels of up to
    imgsz in 8 bits would be off by several.

    Args:
        names: operations as in the ONNX file, such as "/backbone/fpn/layer_blocks.0/layer_blocks.0.0/Conv".
        rung: one of int8.RUNGS.
    """
    layers = "backbone" if rung == "head in f32" else "backbone|head|box_head|box_predictor|mask_head|mask_predictor"
    return [name for name in names if not re.match(rf"/({layers})/", name)]


def largest_differences(
    outputs: Sequence[Outputs], reference: Sequence[Outputs], facts: ModelFacts
) -> dict[str, float]:
    """Largest absolute differences of what is found: scores, boxes in input pixels, masks' probabilities.

    Of the reference's detections that score at least DETECTED_SCORE, each beside the one of its class that overlaps it
    most, since a rounding may change their order. One that is not found at all differs by its score.
    """
    score = box = mask = 0.0
    for ours, theirs in zip(outputs, reference, strict=True):
        (boxes, scores, labels, *masks), (their_boxes, their_scores, their_labels, *their_masks) = (
            [part[0] for part in one] for one in (ours, theirs)
        )
        for index in np.flatnonzero(their_scores >= DETECTED_SCORE):
            [ious] = box_ious(their_boxes[index][None].astype(np.float64), boxes.astype(np.float64))
            ious = ious * ((labels == their_labels[index]) & (scores > 0))
            found = int(ious.argmax())
            if ious[found] < SAME_IOU:
                score = max(score, float(their_scores[index]))
                continue
            score = max(score, float(abs(scores[found] - their_scores[index])))
            box = max(box, float(np.abs(boxes[found] - their_boxes[index]).max()))
            for own, their in zip(masks, their_masks, strict=True):
                mask = max(mask, float(np.abs(own[found] - their[index]).max()))
    differences = {"max_abs_score_difference": score, "max_abs_box_difference_px": box}
    if facts.masks:
        differences["max_abs_mask_difference"] = mask
    return {key: float(f"{value:.1g}") for key, value in differences.items()}
