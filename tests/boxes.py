"""A model that finds boxes only, for the rooms that measure: a stub detector, and reports as such a model has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from seamline.base.coco import Record
from seamline.models.model_facts import ModelFacts


class FoundBoxes:
    """What the stub finds in one image."""

    timings_ms = (1.0, 2.0, 3.0)

    def __init__(self, records: list[Record]) -> None:
        self.records = records

    def to_coco(self, image_id: int, category_ids: list[int]) -> list[Record]:
        return [{"image_id": image_id, **record} for record in self.records]


class BoxDetector:
    """Finds what is annotated, a little beside it, and now and then not at all; without a mask."""

    has_masks, precision, device, imgsz = False, "f32", "cpu", 64
    confidence, nms_iou, max_detections = 0.001, 0.7, 100
    family = SimpleNamespace(limits_within=lambda facts, asked: asked)
    engine = SimpleNamespace(streams=1, facts=ModelFacts(["x", "y"], imgsz, family="stub", masks=False))

    def __init__(self, split_file: Path, seed: int = 0) -> None:
        coco = json.loads(split_file.read_text())
        self.names = [category["name"] for category in sorted(coco["categories"], key=lambda one: one["id"])]
        random = np.random.default_rng(seed)
        self.found: dict[str, list[Record]] = {}
        for image in coco["images"]:
            own = [record for record in coco["annotations"] if record["image_id"] == image["id"]]
            self.found[image["file_name"]] = [
                {
                    "category_id": record["category_id"],
                    "bbox": (np.array(record["bbox"]) + np.array([*random.integers(-3, 4, 2), 0, 0])).tolist(),
                    "score": float(random.random()),
                }
                for record in own
                if random.random() < 0.9
            ]

    def detect(self, image: Path) -> FoundBoxes:
        return FoundBoxes(self.found[image.name])

    def detect_all(self, images: Iterable[Path]) -> Iterator[FoundBoxes]:
        return (self.detect(image) for image in images)


def without_masks(reports: Path) -> None:
    """Turn the reports of a model with masks into those of one that finds boxes as it found masks."""
    for path in reports.rglob("*.json"):
        if path.parent.name != "data":
            path.write_text(json.dumps(boxes_alone(json.loads(path.read_text()))))
    for name in ("slices.csv", "bootstrap.csv", "mistakes.csv"):
        path = reports / "evaluate" / name
        header, *lines = path.read_text().splitlines()
        columns = [index for index, column in enumerate(header.split(",")) if "box" not in column]
        rows = [[line.split(",")[index] for index in columns] for line in (header, *lines)]
        path.write_text("".join(f"{','.join(row)}\n" for row in rows).replace("mask", "box"))
    path = reports / "train" / "validation.csv"
    header, rest = path.read_text().split("\n", 1)
    path.write_text(re.sub("val_mask", "val_box", re.sub(r"val_box_\w+", "left_out", header)) + "\n" + rest)


def boxes_alone(value: Any) -> Any:
    """What is named after masks named after boxes, in place of what was; without YOLO's own differences of outputs."""
    if isinstance(value, list):
        return [boxes_alone(one) for one in value]
    if not isinstance(value, dict):
        return re.sub("mask(?=s on| mAP)", "box", value).replace("boxs", "boxes") if isinstance(value, str) else value
    dropped = {key for key in value if key.replace("box", "mask") in value and "box" in key.split("_")}
    dropped |= {key for key in value if key.startswith(("max_abs_box", "max_abs_prototype"))}
    return {key.replace("mask", "box"): boxes_alone(one) for key, one in value.items() if key not in dropped}
