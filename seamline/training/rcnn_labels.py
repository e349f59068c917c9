"""What is left of the split's masks at the sizes an R-CNN sees them in: on its canvas, and in its mask head's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seamline.base.coco import Coco, ImageRef
from seamline.dataset.conversion import Instance
from seamline.dataset.trained_sizes import frame_of, iou_of, measured, true_masks
from seamline.masks.rle import Mask, rle_to_mask, segmentation_to_rle
from seamline.training.rcnn_data import MIN_SIDE_PX

GRID = 28  # cells a side over each box


def masks_at_trained_sizes(split: Path, imgsz: int) -> dict[str, Any]:
    """What reports/train/labels.json certifies, of train and val, in the keys that it has for YOLO's labels.

    On the canvas a mask is the source's, shrunk by area, so that nothing differs there; at_loss_size is what a mask
    head can give at best. `too_thin` instances, of those measured, are left out of the training: see MIN_SIDE_PX.
    """
    too_thin = 0

    def measure(image: ImageRef, records: list[Instance], _: Coco) -> list[tuple[float, float]]:
        nonlocal too_thin
        frame = frame_of(image.height, image.width, imgsz)
        found = []
        for record in records:
            if not record.iscrowd:
                rle = segmentation_to_rle(record.segmentation, image.height, image.width)
                true = true_masks(rle_to_mask(rle), frame, imgsz, 1).full
                too_thin += min(cv2.boundingRect(true)[2:]) < MIN_SIDE_PX
                found.append((iou_of(true, true), iou_of(true, through_grid(true))))
        return found

    return {"imgsz": imgsz, "mask_ratio": None, **measured(split, measure, imgsz, GRID), "too_thin": too_thin}


def through_grid(mask: Mask) -> Mask:
    """A mask's part in its box, shrunk to the grid and brought back."""
    left, top, width, height = cv2.boundingRect(mask)
    found = np.zeros_like(mask)
    if width and height:
        box = mask[top : top + height, left : left + width].astype(np.float32)
        grid = cv2.resize(box, (GRID, GRID), interpolation=cv2.INTER_AREA)
        back = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
        found[top : top + height, left : left + width] = back >= 0.5
    return found
