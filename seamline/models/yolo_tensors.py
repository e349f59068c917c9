"""YOLO's input and outputs in tensors, a batch at once, on whatever device they are: yolo.py for a GPU.

The same steps as there in the same order and the same numbers, so that on a CPU both find the same: boxes, scores and
classes to the last bit for the same outputs, masks but for pixels whose value is 0 within the rounding of f32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from seamline.models.detections import Detections
from seamline.models.letterbox import Letterbox
from seamline.models.model_facts import Limits, ModelFacts
from seamline.models.tensor_canvases import canvases_to_tensor as canvases_to_tensor
from seamline.models.tensor_masks import decode_masks
from seamline.models.tensor_nms import left_after_suppression

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def convert_module(module: nn.Module, dtype: torch.dtype) -> None:
    """Have the network compute in another kind of numbers, but what becomes coordinates and scores in f32.

    A box's edge in f16 is off by up to a quarter of a pixel from 512 px on, and in bf16 by up to two.
    """
    import torch

    module.to(dtype)
    if dtype == torch.float32:
        return
    head: Any = module.get_submodule("model.model")[-1]  # type: ignore[index]
    head.dfl.float()  # its weights are the numbers 0 to 15
    for child in head.children():
        for part in child if isinstance(child, torch.nn.ModuleList) else [child]:
            part.register_forward_hook(lambda _module, _inputs, output: output.float())


def outputs_to_detections(
    outputs: Sequence[Tensor], placements: Sequence[Letterbox], facts: ModelFacts, limits: Limits
) -> list[Detections]:
    """Decode a batch's raw outputs, which are as yolo.outputs_to_detections has them with the batch before."""
    import torch

    predictions, prototypes = outputs
    predictions = predictions.float()
    class_count = len(facts.names)
    best, classes = predictions[:, 4 : 4 + class_count].max(dim=1)
    above = best > limits.confidence
    counts = above.sum(dim=1)
    order = best.masked_fill(~above, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    order = order[:, : int(counts.max())]
    rows = predictions[:, :4].gather(2, order[:, None].expand(-1, 4, -1)).transpose(1, 2)
    corners = torch.cat((rows[..., :2] - rows[..., 2:] / 2, rows[..., :2] + rows[..., 2:] / 2), dim=2)
    left = left_after_suppression(corners, classes.gather(1, order), counts, limits.nms_iou, limits.max_detections)

    images, ranks = left.nonzero(as_tuple=True)
    anchors = order[images, ranks]
    boxes = boxes_to_images(corners[images, ranks], images, placements)
    coefficients = predictions[images, 4 + class_count :, anchors]
    shapes = decode_masks(coefficients, images, prototypes, boxes, placements, facts.imgsz) if facts.masks else None
    found = [part.cpu().numpy() for part in (boxes, best[images, anchors], classes[images, anchors])]
    ends = np.searchsorted(images.cpu().numpy(), np.arange(len(placements) + 1)).tolist()
    return [
        Detections(
            found[0][start:end],
            found[1][start:end],
            found[2][start:end],
            None if shapes is None else list(shapes[start:end]),
            placement.height,
            placement.width,
        )
        for placement, (start, end) in zip(placements, pairwise(ends), strict=True)
    ]


def boxes_to_images(corners: Tensor, images: Tensor, placements: Sequence[Letterbox]) -> Tensor:
    """As letterbox.boxes_to_image, for boxes (n, 4) of several images (n,)."""
    import torch

    numbers = [
        [box.scaled_width / box.width, box.scaled_height / box.height, box.left, box.top, box.width, box.height]
        for box in placements
    ]
    own = torch.tensor(numbers, dtype=torch.float64).to(corners.device)[images]
    gain, shift, limit = (own[:, start : start + 2].repeat(1, 2) for start in (0, 2, 4))
    return ((corners - shift) / gain).clamp(min=0).minimum(limit).float()
