"""How good an R-CNN is on val while it is trained: pycocotools' figures of the detections that it would give.

pycocotools itself is asked, and not seamline/evaluation, whose figures are the same: an edit there, or of its section
of params.yaml, trains nothing again.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models.detection.faster_rcnn import FasterRCNN

from seamline.base.coco import Record, read_coco
from seamline.models.letterbox import letterbox_of
from seamline.models.model_facts import Limits, ModelFacts
from seamline.models.rcnn import RCNN, canvases_to_tensor, outputs_to_detections
from seamline.models.rcnn_network import Architecture, network_to_module
from seamline.training.rcnn_data import Samples

LIMITS = Limits(confidence=0.001, nms_iou=0.7, max_detections=100)  # evaluate's defaults
KINDS = {"box": "bbox", "mask": "segm"}


def validated(
    network: FasterRCNN, architecture: Architecture, names: list[str], samples: Samples, split: Path, batch: int
) -> Record:
    """val_box_mAP50, val_box_mAP50_95 and, with masks, those of masks."""
    records = predictions(network, architecture, names, samples, split, batch)
    found: Record = {}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(split / "val.json")
        for kind, iou_type in KINDS.items():
            if kind == "box" or architecture.has_masks:
                stats = [0.0, 0.0]
                if records:
                    measure = COCOeval(truth, truth.loadRes(records), iou_type)
                    measure.evaluate()
                    measure.accumulate()
                    measure.summarize()
                    stats = [max(float(stat), 0.0) for stat in measure.stats]  # -1 where there is nothing to find
                found |= {f"val_{kind}_mAP50": round(stats[1], 5), f"val_{kind}_mAP50_95": round(stats[0], 5)}
    return found


def predictions(
    network: FasterRCNN, architecture: Architecture, names: list[str], samples: Samples, split: Path, batch: int
) -> list[Record]:
    """COCO results of val's photos, `batch` at a time."""
    module = network_to_module(network, architecture)
    device = next(network.parameters()).device
    facts = ModelFacts(names, architecture.imgsz, family=RCNN, masks=architecture.has_masks)
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
