"""One image through all formats: where they differ most, drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from seamline.base.coco import Record
from seamline.evaluation.kinds import shape_of
from seamline.images.colours import class_colour, hex_to_bgr
from seamline.images.overlays import in_a_row, overlay, record_to_shape, to_jpeg
from seamline.images.reading import Image, read_image

FONT = cv2.FONT_HERSHEY_SIMPLEX
HEAD_PX = 26
COLUMNS = 3


def most_different(
    found: Mapping[str, Sequence[Record]], reference: str, confidence: float, image_ids: Sequence[int], kind: str
) -> Record:
    """The image on which the formats differ most from the reference, the lowest id of several.

    Args:
        found: COCO results of each format on the same images.
        reference: the format that the others are compared with.
        confidence: detections with a lower score are left out.
        image_ids: of the images; at least one.
        kind: "box" or "mask", what is compared.

    Returns:
        image_id, and mean_iou of each other format: for each detection of either the best IoU with a detection of the
        same class by the other, and the mean of these; None where neither has a detection.
    """
    of_image: dict[int, dict[str, list[Record]]] = {image_id: {name: [] for name in found} for image_id in image_ids}
    for name, records in found.items():
        for record in records:
            if record["score"] >= confidence and area_of(record, kind) > 0:
                of_image[record["image_id"]][name].append(record)
    candidates: list[Record] = [
        {
            "image_id": image_id,
            "mean_iou": {
                name: mean_iou(records[reference], others, kind)
                for name, others in records.items()
                if name != reference
            },
        }
        for image_id, records in sorted(of_image.items())
    ]
    return min(candidates, key=lambda one: sum(1 if iou is None else iou for iou in one["mean_iou"].values()))


def area_of(record: Record, kind: str) -> float:
    if kind == "mask":
        return float(coco_mask.area(record["segmentation"]))
    _, _, width, height = record["bbox"]
    return float(width * height)


def mean_iou(first: Sequence[Record], other: Sequence[Record], kind: str) -> float | None:
    """See most_different; None where neither has a detection, 0 where only one has."""
    best = []
    for ours, theirs in ((first, other), (other, first)):
        for record in ours:
            shapes = [shape_of(one, kind) for one in theirs if one["category_id"] == record["category_id"]]
            ious = coco_mask.iou([shape_of(record, kind)], shapes, [0] * len(shapes)) if shapes else np.zeros(1)
            best.append(float(ious.max()))
    return round(sum(best) / len(best), 5) if best else None


def side_by_side(image: Image, found: Mapping[str, Sequence[Record]], truth: COCO, labels: Mapping[str, str]) -> Image:
    """The image once for each format with its name above it, three in a row; a class has one colour in all of them."""
    order = sorted(truth.cats)
    panels = []
    for name, records in found.items():
        shapes = [
            record_to_shape(
                record,
                hex_to_bgr(class_colour(order.index(record["category_id"]))),
                truth.cats[record["category_id"]]["name"],
                f" {record['score']:.2f}",
            )
            for record in records
        ]
        panel = overlay(image, shapes)
        head = np.full((HEAD_PX, panel.shape[1], 3), 255, np.uint8)
        width = cv2.getTextSize(labels.get(name, name), FONT, 0.5, 1)[0][0]
        scale = 0.5 * min(1.0, (panel.shape[1] - 8) / width)
        cv2.putText(head, labels.get(name, name), (4, HEAD_PX - 9), FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
        panels.append(np.vstack([head, panel]))
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % COLUMNS)
    rows = [in_a_row(panels[start : start + COLUMNS]) for start in range(0, len(panels), COLUMNS)]
    return np.asarray(np.vstack(rows), dtype=np.uint8)


def picture_of(
    record: Record, found: Mapping[str, Sequence[Record]], truth: COCO, images: Path, labels: Mapping[str, str]
) -> bytes:
    """JPEG of the image of most_different's record through all formats, at its confidence."""
    shown = {
        name: [one for one in records if one["image_id"] == record["image_id"] and one["score"] >= record["confidence"]]
        for name, records in found.items()
    }
    picture = side_by_side(read_image(images / record["file_name"]), shown, truth, labels)
    return to_jpeg(picture)
