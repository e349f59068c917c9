"""The loss of YOLO's segmentation models, without waiting for the GPU.

ultralytics' loss asks the GPU a hundred times in a batch of 16 which anchors of an image are positive. Until the answer
is there the GPU is given nothing more to do, and waits in its turn. Here all shapes follow from the numbers of
instances, which are known on the host, and positives that are not there weigh nothing. Sums are taken in another order,
so that losses differ in their last digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ultralytics.utils.loss import BboxLoss, v8SegmentationLoss
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.ops import xywh2xyxy, xyxy2xywh
from ultralytics.utils.tal import TaskAlignedAssigner, bbox2dist, make_anchors

Tensor = torch.Tensor
INSTANCES = "instances"  # in a batch: how many each of its images shows
# Images of a batch x instances of the image that has most x anchors; a dozen numbers are held for each. For more pairs
# ultralytics' assigner takes less memory: it asks for the anchors inside boxes, and looks at these alone.
MOST_PAIRS = 2**22


def loss_without_waiting(model: Any) -> SegmentationLoss | None:
    """For a model that has ultralytics' usual loss; None for another one (YOLO26's), which keeps its own."""
    usual = type(model.init_criterion()) is v8SegmentationLoss and model.model[-1].reg_max > 1
    return SegmentationLoss(model) if usual else None


def instances_of(batch: dict[str, Any]) -> list[int]:
    """How many instances each image of a batch shows that is still on the host."""
    image = batch["batch_idx"].numpy().astype(int).ravel()
    counts: list[int] = np.bincount(image, minlength=len(batch["img"])).tolist()
    return counts


class SegmentationLoss(v8SegmentationLoss):  # type: ignore[misc]
    """For batches with INSTANCES."""

    assigner: Any

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model)
        self.assigner = Assigner.like(self.assigner)
        self.bbox_loss = BoxLoss(self.reg_max)
        self.constants: dict[Any, tuple[Tensor, ...]] = {}
        self.instances: list[int] = []

    def loss(self, preds: dict[str, Any], batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        self.instances = batch[INSTANCES]
        coefficients, proto = preds["mask_coefficient"].permute(0, 2, 1).contiguous(), preds["proto"]
        (fg_mask, target_gt_idx, target_bboxes), (box, cls, dfl) = self.assigned(preds, batch)
        if sum(self.instances):
            masks = batch["masks"].to(self.device).float()
            if masks.shape[-2:] != proto.shape[-2:]:
                proto = torch.nn.functional.interpolate(proto, masks.shape[-2:], mode="bilinear", align_corners=False)
            seg = self.masks_loss(fg_mask, masks, target_gt_idx, target_bboxes, proto, coefficients, preds)
        else:  # every weight has a gradient, as several GPUs need it
            seg = (proto * 0).sum() + (coefficients * 0).sum()
        losses = torch.stack([one.float() for one in (box, seg * self.hyp.box, cls, dfl, torch.zeros_like(box))])
        return losses * len(self.instances), dict(zip(self.loss_names, losses.detach(), strict=True))

    def fixed(self, preds: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Anchors, their strides, and the image's size as (w, h, w, h): made once for each size of the image."""
        key = (dtype, *(tuple(level.shape[2:]) for level in preds["feats"]))
        if key not in self.constants:
            anchors, strides = make_anchors(preds["feats"], self.stride, 0.5)
            size = torch.tensor(preds["feats"][0].shape[2:], device=self.device, dtype=dtype) * self.stride[0]
            self.constants[key] = (anchors, strides, size[[1, 0, 1, 0]])
        return self.constants[key]

    def assigned(self, preds: dict[str, Any], batch: dict[str, Any]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Positive anchors, their instances and boxes; and the losses of boxes, classes and box edges, weighted."""
        edges = preds["boxes"].permute(0, 2, 1).contiguous()
        scores = preds["scores"].permute(0, 2, 1).contiguous()
        anchors, strides, size = self.fixed(preds, scores.dtype)
        targets = torch.cat((batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), batch["bboxes"]), 1)
        targets = self.preprocess(targets.to(self.device), len(self.instances), size)
        labels, boxes = targets[..., :1], targets[..., 1:]
        there = boxes.sum(2, keepdim=True).gt_(0.0)
        found = self.bbox_decode(anchors, edges)
        _, target_bboxes, target_scores, fg_mask, target_gt_idx = self.assigner(
            scores.detach().sigmoid(),
            (found.detach() * strides).type(boxes.dtype),
            anchors * strides,
            labels,
            boxes,
            there,
        )
        total = target_scores.sum().clamp_(min=1)
        bce = self.bce(scores, target_scores.to(scores.dtype))
        if self.class_weights is not None:
            bce *= self.class_weights
        self.bbox_loss.most = sum(self.instances) * self.assigner.topk
        box, dfl = self.bbox_loss(
            edges, found, anchors, target_bboxes / strides, target_scores, total, fg_mask, size, strides
        )
        losses = (box * self.hyp.box, bce.sum() / total * self.hyp.cls, dfl * self.hyp.dfl)
        return (fg_mask, target_gt_idx, target_bboxes), losses

    def preprocess(self, targets: Tensor, batch_size: int, scale_tensor: Tensor) -> Tensor:
        """(images, most instances of one, 5): class and box (x1, y1, x2, y2) in pixels, zeros where there is none."""
        out = torch.zeros(batch_size, max(self.instances, default=0), targets.shape[1] - 1, device=self.device)
        if len(targets):
            image = targets[:, 0].long()
            ends = torch.zeros(batch_size + 1, dtype=torch.long, device=self.device)
            ends.scatter_add_(0, image + 1, torch.ones_like(image))
            within = torch.arange(len(targets), device=self.device) - ends.cumsum(0)[image]
            out[image, within] = targets[:, 1:]
            out[..., 1:5] = xywh2xyxy(out[..., 1:5].mul_(scale_tensor))
        return out

    def masks_loss(
        self,
        fg_mask: Tensor,
        masks: Tensor,
        target_gt_idx: Tensor,
        target_bboxes: Tensor,
        proto: Tensor,
        coefficients: Tensor,
        preds: dict[str, Any],
    ) -> Tensor:
        """The mean over the positive anchors; each one's mask is compared inside its instance's box."""
        _, _, height, width = proto.shape
        boxes = target_bboxes / self.fixed(preds, coefficients.dtype)[2]
        areas = xyxy2xywh(boxes)[..., 2:].prod(2)
        x, y = boxes[..., 0::2] * width, boxes[..., 1::2] * height
        in_pixels = torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), -1)
        loss, first = torch.zeros((), device=self.device), 0
        for image, count in enumerate(self.instances):
            if count == 0:
                continue
            anchor, is_positive = positives(fg_mask[image], count * self.assigner.topk)
            of = target_gt_idx[image][anchor]
            if self.overlap:
                truth = (masks[image] == (of + 1).view(-1, 1, 1)).float()
            else:
                truth = masks[first : first + count][of]
            area = torch.where(is_positive, areas[image][anchor], torch.inf)  # 1 / inf: it weighs nothing
            one = coefficients[image][anchor]
            loss = loss + self.single_mask_loss(truth, one, proto[image], in_pixels[image][anchor], area)
            first += count
        return loss / fg_mask.sum().clamp(min=1)


class Assigner(TaskAlignedAssigner):  # type: ignore[misc]
    """Looks at all pairs of instances and anchors, instead of asking which anchors are inside a box."""

    @classmethod
    def like(cls, other: TaskAlignedAssigner) -> Assigner:
        names = ("topk", "num_classes", "alpha", "beta", "stride", "eps", "topk2")
        return cls(**{name: getattr(other, name) for name in names})

    def get_box_metrics(
        self, pd_scores: Tensor, pd_bboxes: Tensor, gt_labels: Tensor, gt_bboxes: Tensor, mask_gt: Tensor
    ) -> tuple[Tensor, Tensor]:
        images, anchors, _ = pd_bboxes.shape
        if images * anchors * self.n_max_boxes > MOST_PAIRS:
            metrics: tuple[Tensor, Tensor] = super().get_box_metrics(
                pd_scores, pd_bboxes, gt_labels, gt_bboxes, mask_gt
            )
            return metrics
        inside = mask_gt.bool()
        labels = gt_labels.long().expand(-1, -1, anchors)
        scores = pd_scores.transpose(1, 2).gather(1, labels)  # (images, instances, anchors)
        overlaps = self.iou_calculation(gt_bboxes.unsqueeze(2), pd_bboxes.unsqueeze(1))
        alignment = scores.pow(self.alpha) * overlaps.pow(self.beta)
        return alignment.masked_fill_(~inside, 0), overlaps.masked_fill_(~inside, 0)

    def select_candidates_in_gts(
        self, xy_centers: Tensor, gt_bboxes: Tensor, mask_gt: Tensor, eps: float = 1e-9
    ) -> Tensor:
        boxes = xyxy2xywh(gt_bboxes)
        tiny = (boxes[..., 2:] < self.stride_val) & mask_gt.bool()
        boxes[..., 2:] = boxes[..., 2:].masked_fill(tiny, self.stride_val)
        first, last = xywh2xyxy(boxes).unsqueeze(2).chunk(2, 3)
        inside: Tensor = xy_centers[:, 0] - first[..., 0] > eps
        inside &= xy_centers[:, 1] - first[..., 1] > eps
        inside &= last[..., 0] - xy_centers[:, 0] > eps
        inside &= last[..., 1] - xy_centers[:, 1] > eps
        return inside


class BoxLoss(BboxLoss):  # type: ignore[misc]
    """Of at most `most` positive anchors."""

    most = 0

    def forward(
        self,
        pred_dist: Tensor,
        pred_bboxes: Tensor,
        anchor_points: Tensor,
        target_bboxes: Tensor,
        target_scores: Tensor,
        target_scores_sum: Tensor,
        fg_mask: Tensor,
        imgsz: Tensor,
        stride: Tensor,
    ) -> tuple[Tensor, Tensor]:
        anchor, is_positive = positives(fg_mask.flatten(), self.most)
        weight = target_scores.flatten(0, 1)[anchor].sum(-1, keepdim=True) * is_positive.unsqueeze(-1)
        truth = target_bboxes.flatten(0, 1)[anchor]
        iou = bbox_iou(pred_bboxes.flatten(0, 1)[anchor], truth, xywh=False, CIoU=True)
        box = ((1.0 - iou) * weight).sum() / target_scores_sum
        edges = pred_dist.flatten(0, 1)[anchor].view(-1, self.dfl_loss.reg_max)
        points = anchor_points.repeat(len(pred_dist), 1)[anchor]
        distances = bbox2dist(points, truth, self.dfl_loss.reg_max - 1)
        dfl = (self.dfl_loss(edges, distances) * weight).sum() / target_scores_sum
        return box, dfl


def positives(mask: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Indices of a mask's true values, filled up with 0 to a length known beforehand; and which of them are true."""
    length = min(most, len(mask))
    index = torch.nonzero_static(mask, size=length, fill_value=0).flatten()
    return index, torch.arange(length, device=mask.device) < mask.sum()
