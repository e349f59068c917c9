"""How good an R-CNN is on val while it is trained: pycocotools' figures of the detections that it would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torchvision.models.detection.faster_rcnn import FasterRCNN

from seamline.base.coco import Record, read_coco
from seamline.evaluation.average_precision import average_precision, read_ground_truth
from seamline.evaluation.kinds import kinds_of
from seamline.models.letterbox import letterbox_of
from seamline.models.model_facts import Limits, ModelFacts
from seamline.models.rcnn import canvases_to_tensor, outputs_to_detections
from seamline.models.rcnn_network import Architecture, network_to_module
from seamline.models.rcnn_weights import FAMILY
from seamline.params.evaluate import IouThresholds
from seamline.training.rcnn_data import Samples

LIMITS = Limits(confidence=0.001, nms_iou=0.7, max_detections=100)  # evaluate's defaults
IOUS = IouThresholds(0.5, 0.95, 0.05)  # COCO's


def validated(
    network: FasterRCNN, architecture: Architecture, names: list[str], samples: Samples, split: Path, batch: int
) -> Record:
    """val_box_mAP50, val_box_mAP50_95 and, with masks, those of masks."""
    records = predictions(network, architecture, names, samples, split, batch)
    truth = read_ground_truth(split / "val.json")
    found: Record = {}
    for kind in kinds_of(architecture.has_masks):
        summary = average_precision(truth, records, kind, IOUS).summary
        found |= {f"val_{kind}_{name}": round(summary[name] or 0.0, 5) for name in ("mAP50", "mAP50_95")}
    return found


def predictions(
    network: FasterRCNN, architecture: Architecture, names: list[str], samples: Samples, split: Path, batch: int
) -> list[Record]:
    """COCO results of val's photos, `batch` at a time."""
    module = network_to_module(network, architecture)
    device = next(network.parameters()).device
    facts = ModelFacts(names, architecture.imgsz, family=FAMILY, masks=architecture.has_masks)
    category_ids = [category.id for category in read_coco(split / "val.json").category_refs()]
    records: list[Record] = []
    for start in range(0, len(samples.photos), batch):
        photos = samples.photos[start : start + batch]
        canvases = np.stack([samples.sample(start + number).canvas for number in range(len(photos))])
        with torch.inference_mode():
            outputs = module(torch.from_numpy(canvases_to_tensor(canvases)).to(device))
        arrays = [one.cpu().numpy() for one in outputs]
        for number, photo in enumerate(photos):
            placement = letterbox_of(photo.height, photo.width, architecture.imgsz)
            own = tuple(array[number] for array in arrays)
            records += outputs_to_detections(own, placement, facts, LIMITS).to_coco(photo.image_id, category_ids)
    return records
