"""An R-CNN's detections in tensors whose shapes never depend on the image: what torchvision finds, and then padding.

torchvision's own inference drops boxes as it goes, so that every image has shapes of its own. A file made of that is
slow in OpenVINO, and breaks where nothing is found (torchvision's issues 2251, 2309 and 3291). Here a box that is
dropped gets a score of 0 instead, and the best ones are taken. Numbers and decisions are torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.ops import batched_nms, roi_align

SMALLEST_BOX = 1e-2  # px; torchvision drops smaller detections


class RcnnModule(nn.Module):
    """A network for inference: from (batch, 3, imgsz, imgsz), RGB from 0 to 1, to tensors of fixed shapes.

    They are boxes (batch, detections, 4) as x1, y1, x2, y2 in pixels of the input, scores (batch, detections), best
    first, labels (batch, detections) as class indices from 0, and with masks (batch, detections, 28, 28): how probable
    the label's class is in a grid over the box. Where fewer are found the last ones are 0 throughout.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: FasterRCNN, anchors: Sequence[Tensor], imgsz: int) -> None:
        """anchors: of each feature map, (anchors, 4) in the order of the head's outputs."""
        super().__init__()
        self.backbone, self.rpn, self.heads = network.backbone, network.rpn, network.roi_heads
        self.imgsz, self.maps = imgsz, len(anchors)
        for name, values in (("mean", network.transform.image_mean), ("std", network.transform.image_std)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)
        for number, own in enumerate(anchors):
            self.register_buffer(f"anchors{number}", own, persistent=False)

    def forward(self, tensor: Tensor) -> tuple[Tensor, ...]:
        maps: dict[str, Tensor] = self.backbone((tensor - self.mean) / self.std)
        proposals, is_real = self.propose(list(maps.values()))
        boxes, scores, labels = self.detect(maps, proposals, is_real)
        if self.heads.mask_predictor is None:
            return boxes, scores, labels
        return boxes, scores, labels, self.masks(maps, boxes, scores, labels)

    def propose(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes that may hold something, (batch, proposals, 4), and which of them are not padding."""
        network: Any = self.rpn
        objectness, deltas = network.head(maps)
        most, batch = network.pre_nms_top_n(), tensor_batch(maps[0])
        boxes_of, scores_of = [], []
        for number, (logits, own) in enumerate(zip(objectness, deltas, strict=True)):
            logits = logits.float().permute(0, 2, 3, 1).reshape(batch, -1)
            own = own.float().unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)
            anchors = getattr(self, f"anchors{number}")
            count = min(most, len(anchors))
            best, order = logits.topk(count, dim=1)
            own = own.gather(1, order[:, :, None].expand(-1, -1, 4))
            boxes = network.box_coder.decode_single(own.reshape(-1, 4), anchors[order.reshape(-1)])
            boxes = boxes.reshape(batch, count, 4).clamp(0, self.imgsz)
            scores = best.sigmoid() * is_large(boxes, network.min_size)
            boxes_of.append(functional.pad(boxes, (0, 0, 0, most - count)))
            scores_of.append(functional.pad(scores, (0, most - count)))
        boxes, scores = torch.stack(boxes_of, 1), torch.stack(scores_of, 1)  # (batch, maps, most, ...)
        count = network.post_nms_top_n()
        kept = suppressed(boxes.flatten(0, 1), scores.flatten(0, 1), network.nms_thresh, 0.0, count)
        scores = scores.flatten(1) * kept.reshape(batch, -1)
        best, order = scores.topk(min(count, self.maps * most), dim=1)
        return boxes.flatten(1, 2).gather(1, order[:, :, None].expand(-1, -1, 4)), best > 0

    def detect(self, maps: dict[str, Tensor], proposals: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and class indices of what is found in the proposals."""
        heads: Any = self.heads
        batch, count, _ = proposals.shape
        logits, deltas = heads.box_predictor(heads.box_head(self.pooled(heads.box_roi_pool, maps, proposals)))
        scores = logits.float().softmax(-1)[:, 1:].reshape(batch, count, -1) * is_real[:, :, None]
        boxes = heads.box_coder.decode_single(deltas.float(), proposals.reshape(-1, 4))
        boxes = boxes.reshape(batch, count, -1, 4)[:, :, 1:].clamp(0, self.imgsz)
        boxes, scores = boxes.transpose(1, 2), scores.transpose(1, 2)  # (batch, classes, proposals, ...)
        scores = scores * is_large(boxes, SMALLEST_BOX)
        kept = suppressed(
            boxes.flatten(0, 1), scores.flatten(0, 1), heads.nms_thresh, heads.score_thresh, heads.detections_per_img
        )
        scores = scores.flatten(1) * kept.reshape(batch, -1)
        best, order = scores.topk(min(heads.detections_per_img, scores.shape[1]), dim=1)
        is_found = best > 0
        boxes = boxes.flatten(1, 2).gather(1, order[:, :, None].expand(-1, -1, 4)) * is_found[:, :, None]
        return boxes, best, order.div(count, rounding_mode="floor") * is_found

    def masks(self, maps: dict[str, Tensor], boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        heads: Any = self.heads
        logits = heads.mask_predictor(heads.mask_head(self.pooled(heads.mask_roi_pool, maps, boxes))).float()
        count, channels, height, width = logits.shape
        own = torch.arange(count, device=labels.device) * channels + labels.reshape(-1) + 1
        chosen = logits.reshape(-1, height, width).index_select(0, own)
        masks: Tensor = chosen.sigmoid().reshape(*labels.shape, height, width) * (scores > 0)[:, :, None, None]
        return masks

    def pooled(self, pool: Any, maps: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """What MultiScaleRoIAlign gives, (batch * boxes, channels, size, size), of boxes (batch, boxes, 4).

        Every box is pooled from every map, and then its own is taken: that costs little beside the heads.
        """
        batch, count, _ = boxes.shape
        owners = torch.arange(batch, device=boxes.device).reshape(-1, 1, 1).expand(-1, count, 1)
        rois = torch.cat((owners.to(boxes.dtype), boxes), 2).reshape(-1, 5)
        used = [maps[name] for name in pool.featmap_names if name in maps]
        scales = [2.0 ** round(math.log2(own.shape[-1] / self.imgsz)) for own in used]
        first, last = round(-math.log2(scales[0])), round(-math.log2(scales[-1]))
        areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        wanted = torch.floor(pool.canonical_level + torch.log2(areas.sqrt() / pool.canonical_scale) + 1e-6)
        wanted = wanted.clamp(first, last).reshape(-1, 1, 1, 1) - first
        found: Tensor | None = None
        for level, (own, scale) in enumerate(zip(used[: last - first + 1], scales, strict=False)):
            part = roi_align(own.float(), rois, pool.output_size, scale, pool.sampling_ratio)
            found = part if found is None else torch.where(wanted == level, part, found)
        assert found is not None
        return found.to(used[0].dtype)


def tensor_batch(tensor: Tensor) -> int:
    return int(tensor.shape[0])


def is_large(boxes: Tensor, side: float) -> Tensor:
    """Whether both sides of each box, (..., 4), have that many pixels."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    return (sizes[..., 0] >= side) & (sizes[..., 1] >= side)


def suppressed(boxes: Tensor, scores: Tensor, iou: float, min_score: float, most: int) -> Tensor:
    """Which boxes are left, (groups, n), of boxes (groups, n, 4) and their scores, each group suppressed alone.

    Args:
        iou: of two boxes that overlap more than this the weaker one is left out.
        min_score: boxes of this score or less are left out.
        most: how many the best ones of a group will be taken; in an exported model, further ones are left out.
    """
    kept: Tensor = Suppression.apply(boxes, scores, iou, min_score, most)
    return kept


class Suppression(torch.autograd.Function):
    """torchvision's batched_nms here, and one NonMaxSuppression for all groups in an ONNX file."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, iou: float, min_score: float, most: int) -> Tensor:
        flat, groups = scores.reshape(-1), torch.arange(len(scores), device=scores.device)
        candidates = torch.nonzero(flat > min_score)[:, 0]
        own = groups[:, None].expand_as(scores).reshape(-1)[candidates]
        left = batched_nms(boxes.reshape(-1, 4)[candidates], flat[candidates], own, iou)
        kept = torch.zeros_like(flat)
        kept[candidates[left]] = 1
        return kept.reshape(scores.shape)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou: float, min_score: float, most: int) -> Any:
        groups, count = scores.type().sizes()
        chosen = g.op(
            "NonMaxSuppression",
            boxes,
            g.op("Unsqueeze", scores, constant(g, [1])),
            constant(g, [most]),
            constant(g, [iou], torch.float32),
            constant(g, [min_score], torch.float32),
        )  # (found, 3): group, 0, box
        ones = g.op("Expand", constant(g, [1], torch.float32), g.op("Shape", chosen, start_i=0, end_i=1))
        kept = g.op("ScatterND", constant(g, torch.zeros(groups, 1, count)), chosen, ones)
        kept = g.op("Squeeze", kept, constant(g, [1]))
        kept.setType(scores.type())
        return kept


def constant(g: Any, value: Any, kind: torch.dtype = torch.int64) -> Any:
    return g.op("Constant", value_t=value if isinstance(value, Tensor) else torch.tensor(value, dtype=kind))
