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
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.ops import FrozenBatchNorm2d, batched_nms, roi_align

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
        self.imgsz = imgsz
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
        batch, most = sizes_of(maps[0])[0], network.pre_nms_top_n()
        boxes_of, scores_of = [], []
        for number, (logits, own) in enumerate(zip(objectness, deltas, strict=True)):
            anchors: Tensor = getattr(self, f"anchors{number}")
            _, shapes, height, width = sizes_of(logits)
            count = min(most, len(anchors))
            best, order = logits.float().permute(0, 2, 3, 1).reshape(batch, -1).topk(count, dim=1)
            own = own.float().reshape(batch, shapes, 4, height, width).permute(0, 3, 4, 1, 2)
            chosen = rows_of(own.reshape(batch, len(anchors), 4), order)
            boxes = network.box_coder.decode_single(chosen, anchors.index_select(0, order.reshape(-1)))
            boxes = boxes.reshape(batch, 1, count, 4).clamp(0, self.imgsz)
            scores = best.sigmoid().reshape(batch, 1, count) * is_large(boxes, network.min_size)
            boxes_of.append(functional.pad(boxes, (0, 0, 0, most - count)))
            scores_of.append(functional.pad(scores, (0, most - count)))
        boxes, scores = torch.cat(boxes_of, 1), torch.cat(scores_of, 1)  # (batch, maps, most, ...)
        count = min(network.post_nms_top_n(), len(maps) * most)
        best, order = best_left(boxes, scores, network.nms_thresh, 0.0, count)
        return rows_of(boxes.reshape(batch, -1, 4), order).reshape(batch, count, 4), best > 0

    def detect(self, maps: dict[str, Tensor], proposals: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and class indices of what is found in the proposals."""
        heads: Any = self.heads
        batch, count, _ = sizes_of(proposals)
        logits, deltas = heads.box_predictor(heads.box_head(self.pooled(heads.box_roi_pool, maps, proposals)))
        classes = sizes_of(logits)[1] - 1
        scores = logits.float().softmax(-1)[:, 1:].reshape(batch, count, classes) * is_real[:, :, None]
        boxes = heads.box_coder.decode_single(deltas.float(), proposals.reshape(-1, 4))
        boxes = boxes.reshape(batch, count, classes + 1, 4)[:, :, 1:].clamp(0, self.imgsz)
        boxes, scores = boxes.transpose(1, 2), scores.transpose(1, 2)  # (batch, classes, proposals, ...)
        scores = scores * is_large(boxes, SMALLEST_BOX)
        found = min(heads.detections_per_img, classes * count)
        best, order = best_left(boxes, scores, heads.nms_thresh, heads.score_thresh, found)
        boxes = rows_of(boxes.reshape(batch, -1, 4), order).reshape(batch, found, 4)
        labels = torch.arange(classes, device=order.device).repeat_interleave(count)
        labels = labels.index_select(0, order.reshape(-1)).reshape(batch, found)
        return boxes * (best > 0)[:, :, None], best, labels * (best > 0)

    def masks(self, maps: dict[str, Tensor], boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        heads: Any = self.heads
        batch, found, _ = sizes_of(boxes)
        logits = heads.mask_predictor(heads.mask_head(self.pooled(heads.mask_roi_pool, maps, boxes))).float()
        count, channels, height, width = sizes_of(logits)
        own = torch.arange(count, device=labels.device) * channels + labels.reshape(-1) + 1
        chosen = logits.reshape(count * channels, height, width).index_select(0, own)
        masks: Tensor = chosen.sigmoid().reshape(batch, found, height, width) * (scores > 0)[:, :, None, None]
        return masks

    def pooled(self, pool: Any, maps: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """What MultiScaleRoIAlign gives, (batch * boxes, channels, size, size), of boxes (batch, boxes, 4).

        Every box is pooled from every map, and then its own is taken: that costs little beside the heads.
        """
        batch, count, _ = sizes_of(boxes)
        owners = torch.arange(batch, device=boxes.device).repeat_interleave(count)
        rois = torch.cat((owners.to(boxes.dtype)[:, None], boxes.reshape(-1, 4)), 1)
        if not torch.onnx.is_in_onnx_export():  # where a training diverges; roi_align would read outside of its memory
            rois = rois.nan_to_num()
        used = [maps[name] for name in pool.featmap_names if name in maps]
        scales = [2.0 ** round(math.log2(sizes_of(own)[-1] / self.imgsz)) for own in used]
        first, last = round(-math.log2(scales[0])), round(-math.log2(scales[-1]))
        areas = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
        wanted = torch.floor(pool.canonical_level + torch.log2(areas.sqrt() / pool.canonical_scale) + 1e-6)
        wanted = wanted.clamp(first, last).reshape(-1, 1, 1, 1) - first
        found, *others = (
            roi_align(own.float(), rois, pool.output_size, scale, pool.sampling_ratio)
            for own, scale in zip(used[: last - first + 1], scales, strict=False)
        )
        for level, part in enumerate(others, 1):
            found = torch.where(wanted == level, part, found)
        pooled: Tensor = found.to(used[0].dtype)
        return pooled


def fuse(module: nn.Module) -> None:
    """Put normalisations into the convolutions before them, which takes less time and gives the same but for rounding.

    In torchvision's networks a normalisation always comes right behind its convolution.
    """
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if before and isinstance(child, nn.BatchNorm2d | FrozenBatchNorm2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, nn.Identity())
        fuse(child)
        before = (name, child) if isinstance(child, nn.Conv2d) else None


def sizes_of(tensor: Tensor) -> list[int]:
    """Its shape in plain numbers, which an exported model has as constants."""
    return [int(size) for size in tensor.shape]


def is_large(boxes: Tensor, side: float) -> Tensor:
    """Whether both sides of each box, (..., 4), have that many pixels."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    return (sizes[..., 0] >= side) & (sizes[..., 1] >= side)


def rows_of(tensor: Tensor, order: Tensor) -> Tensor:
    """Of (batch, n, 4) the rows that order, (batch, k), names, as (batch * k, 4)."""
    batch, count, _ = sizes_of(tensor)
    first = torch.arange(batch, device=order.device)[:, None] * count
    return tensor.reshape(-1, 4).index_select(0, (order + first).reshape(-1))


def best_left(boxes: Tensor, scores: Tensor, iou: float, min_score: float, count: int) -> tuple[Tensor, Tensor]:
    """Scores and indices, (batch, count), of the best boxes that are left when each group was suppressed alone.

    Args:
        boxes, scores: (batch, groups, n, 4) and (batch, groups, n). Indices are those of groups and n as one.
        iou: of two boxes that overlap more than this the weaker one is left out.
        min_score: boxes of this score or less are left out.

    Returns:
        Scores are 0 where fewer are left.
    """
    batch, groups, length = sizes_of(scores)
    flat = scores.reshape(batch * groups, length)
    flags = Suppression.apply(boxes.reshape(batch * groups, length, 4), flat, sizes_of(flat), iou, min_score, count)
    best, order = (flat * flags).reshape(batch, groups * length).topk(count, dim=1)
    return best, order


class Suppression(torch.autograd.Function):
    """1 for each box that is left of its group, (groups, n), else 0.

    torchvision's batched_nms here, and one NonMaxSuppression for all groups in an ONNX file. It leaves the best
    `most` of each group, of which more would not be taken.
    """

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, scores: Tensor, sizes: list[int], iou: float, min_score: float, most: int
    ) -> Tensor:
        flat, groups = scores.reshape(-1), torch.arange(sizes[0], device=scores.device)
        candidates = torch.nonzero(flat > min_score)[:, 0]
        own = groups[:, None].expand_as(scores).reshape(-1)[candidates]
        left = batched_nms(boxes.reshape(-1, 4)[candidates], flat[candidates], own, iou)
        flags = torch.zeros_like(flat)
        flags[candidates[left]] = 1
        return flags.reshape(scores.shape)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, sizes: list[int], iou: float, min_score: float, most: int) -> Any:
        chosen = g.op(
            "NonMaxSuppression",
            boxes,
            g.op("Unsqueeze", scores, constant(g, [1])),
            constant(g, [most]),
            constant(g, [iou], torch.float32),
            constant(g, [min_score], torch.float32),
        )  # (found, 3): group, 0, box
        ones = g.op("Expand", constant(g, [1], torch.float32), g.op("Shape", chosen, start_i=0, end_i=1))
        flags = g.op("ScatterND", constant(g, torch.zeros(sizes[0], 1, sizes[1])), chosen, ones)
        flags = g.op("Squeeze", flags, constant(g, [1]))
        flags.setType(scores.type().with_sizes(sizes))
        return flags


def constant(g: Any, value: Any, kind: torch.dtype = torch.int64) -> Any:
    return g.op("Constant", value_t=value if isinstance(value, Tensor) else torch.tensor(value, dtype=kind))
