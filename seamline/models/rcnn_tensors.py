"""The family R-CNN on a GPU: canvases become the input there, and what is found, which is little, is decoded here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seamline.models import rcnn
from seamline.models.detections import Detections
from seamline.models.letterbox import Letterbox
from seamline.models.model_facts import Limits, ModelFacts
from seamline.models.tensor_canvases import canvases_to_tensor as canvases_to_tensor

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def convert_module(module: nn.Module, dtype: torch.dtype) -> None:
    """Have the network compute in another kind of numbers, but boxes in f32.

    A box's edge in f16 is off by up to a quarter of a pixel from 512 px on, and in bf16 by up to two.
    """
    module.to(dtype)
    for name, buffer in module.named_buffers():
        if name.startswith("anchors"):
            buffer.data = buffer.data.float()


def outputs_to_detections(
    outputs: Sequence[Tensor], placements: Sequence[Letterbox], facts: ModelFacts, limits: Limits
) -> list[Detections]:
    """Decode a batch's outputs, which are as rcnn.outputs_to_detections has them with the batch before."""
    found: list[Any] = [output.cpu().numpy() for output in outputs]
    return [
        rcnn.outputs_to_detections(own, placement, facts, limits)
        for own, placement in zip(zip(*found, strict=True), placements, strict=True)
    ]
