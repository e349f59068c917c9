"""What was found in a photo as records: the one form of it, for results.json as for the service's answers."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from pycocotools import mask as coco_mask

from seamline.base.coco import Record
from seamline.models.detections import Detections


def found_to_instances(found: Detections, classes: Collection[int], polygons: bool) -> list[Record]:
    """A record for each instance of the chosen classes, best score first.

    Returns:
        category_id (the class's index and 1), bbox, score; person where people were looked for; attributes where they
        were asked for; with masks segmentation (RLE), area in pixels and, if asked for, polygons.
    """
    most = int(found.classes.max(initial=0)) + 1
    records = found.to_coco(0, list(range(1, most + 1)))
    return [
        instance(records[index], found, index, polygons)
        for index, number in enumerate(found.classes)
        if int(number) in classes
    ]


def instance(record: Record, found: Detections, index: int, polygons: bool) -> Record:
    entry = {key: value for key, value in record.items() if key != "image_id"}
    if found.has_masks:
        entry["area"] = int(coco_mask.area(entry["segmentation"]))
        if polygons:
            entry["polygons"] = mask_to_polygons(found, index)
    return entry


def found_to_persons(found: Detections) -> list[Record] | None:
    """A record for each person, with bbox and score; an instance's person is the index of one. None: not looked for."""
    if found.persons is None:
        return None
    boxes, scores = found.persons.boxes.astype(float).tolist(), found.persons.scores.tolist()
    return [
        {"bbox": [round(side, 3) for side in (x1, y1, x2 - x1, y2 - y1)], "score": round(score, 6)}
        for (x1, y1, x2, y2), score in zip(boxes, scores, strict=True)
    ]


def mask_to_polygons(found: Detections, index: int) -> list[list[float]]:
    """COCO's segmentation as polygons: one, and for a mask without a pixel one that covers none.

    An empty list would be right, and pycocotools cannot read it.
    """
    polygon: list[float] = [float(value) for value in found.polygon(index)]
    x, y = (float(side) for side in found.boxes[index][:2])
    return [polygon or [x, y] * 3]


def instance_to_record(number: int, instance: Record, polygons: bool) -> Record:
    """COCO's results record of image `number`; without a mask where the model finds boxes only."""
    keys = ("category_id", "bbox", "score", "person", "attributes")
    record = {"image_id": number, **{key: instance[key] for key in keys if key in instance}}
    if "segmentation" in instance:
        record["segmentation"] = instance["polygons" if polygons else "segmentation"]
    return record


def to_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
