"""Gates: an f32 model has to predict what the weights predict in PyTorch, whatever its family."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError

DETECTED_SCORE = 0.25  # a detection counts above it
MATCHED_IOU = 0.95
PLURALS = {"mask": "masks", "box": "boxes"}


class Drifted(SeamlineError):
    """A model does not predict what the weights predict in PyTorch."""


def matched_share(found: Sequence[Record], reference: Sequence[Record]) -> float | None:
    """Which share of the reference's detections above DETECTED_SCORE is found again; None where it has none.

    Found again is a detection of the same class in the same image, of any score, whose mask has an IoU of at least
    MATCHED_IOU with the reference's; each counts once. Where there are no masks, boxes are compared. Masks without a
    pixel, and boxes without an area, are left out. Both are COCO results.
    """
    key = "segmentation" if any("segmentation" in record for record in reference) else "bbox"
    wanted = [record for record in reference if record["score"] > DETECTED_SCORE and has_area(record, key)]
    candidates: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in found:
        candidates[record["image_id"], record["category_id"]].append(record[key])
    matched = 0
    for record in sorted(wanted, key=lambda record: -float(record["score"])):
        shapes = candidates[record["image_id"], record["category_id"]]
        ious = coco_mask.iou([record[key]], shapes, [0] * len(shapes)) if shapes else np.zeros((1, 1))
        if ious.max() >= MATCHED_IOU:
            del shapes[int(ious.argmax())]
            matched += 1
    return matched / len(wanted) if wanted else None


def has_area(record: Record, key: str) -> bool:
    if key == "bbox":
        return bool(min(record["bbox"][2:]) > 0)
    return bool(coco_mask.area(record["segmentation"]) > 0)


def check_drift(name: str, kind: str, drop: float, max_drift: float, matched: float | None, min_matched: float) -> None:
    """Raise Drifted when an f32 model does not predict what PyTorch predicts.

    Args:
        kind: mask or box: what average precision and matched_share are of.
        drop: of mAP50-95 on val.
        matched: see matched_share.
    """
    remedy = "f16 is too coarse for its weights" if name == "openvino_f16" else "try another export.opset"
    if abs(drop) > max_drift:
        raise Drifted(
            f"{name}: its {kind} mAP50-95 on val differs by {abs(drop):.4f} from PyTorch's, more than export.max_drift "
            f"({max_drift:g}); {remedy}, or raise export.max_drift."
        )
    if matched is not None and matched < min_matched:
        raise Drifted(
            f"{name}: finds only {matched:.2%} of what PyTorch finds on val (score above {DETECTED_SCORE}, "
            f"{PLURALS[kind]} of IoU {MATCHED_IOU}), less than export.min_matched ({min_matched:g}); {remedy} or lower "
            "export.min_matched."
        )
