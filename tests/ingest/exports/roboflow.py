"""Roboflow's "COCO Segmentation".

Its writer is not public (the package `roboflow` downloads what the service has written), so the structure is that of
exports that people publish: a folder a split with _annotations.coco.json among the photos, README.dataset.txt and
README.roboflow.txt; category 0 is the project itself, with supercategory "none" and no annotation; ids from 0 in every
file; photos called NAME_jpg.rf.HASH.jpg, whose `extra.name` is the upload's. With augmentation, train has several
versions of a photo, which differ in the hash alone (docs.roboflow.com/datasets/versions); valid and test have one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.ingest.exports.scenes import (
    HEIGHT,
    LABELS,
    WIDTH,
    Export,
    Outline,
    Scene,
    Shown,
    corners_box,
    flat,
    pixels,
    write_photo,
)

Corner = Callable[[int, int], tuple[int, int]]

# What was done to a photo's array and mask, and to the corners of its outlines.
VERSIONS: list[tuple[Callable[[Any], Any], Corner]] = [
    (lambda array: array, lambda x, y: (x, y)),
    (lambda array: array[:, ::-1], lambda x, y: (WIDTH - x, y)),
    (lambda array: array[::-1, ::-1], lambda x, y: (WIDTH - x, HEIGHT - y)),
]


def write(folder: Path, scenes: Sequence[Scene], project: str = "clothes", labels: Sequence[str] = LABELS) -> Export:
    """The first photos in train, in three versions each, the last two in valid and the two before them in test.

    Args:
        folder: to write to.
        scenes: the photos; a hole is lost, as the service keeps outlines.
        project: its name, which the root category has.
        labels: the classes that are annotated.
    """
    members = {"train": scenes[:-4], "valid": scenes[-4:-2], "test": scenes[-2:]}
    shown: dict[str, list[Shown]] = {}
    versions: list[set[str]] = []
    splits: dict[str, str] = {}
    for split, own in members.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for scene in own:
            versions.append(set())
            for change, move in VERSIONS if split == "train" else VERSIONS[:1]:
                number = len(images)
                name_hash = hashlib.md5(f"{scene.name} {split} {number}".encode(), usedforsecurity=False).hexdigest()
                name = f"{scene.name}_jpg.rf.{name_hash}.jpg"
                photo = write_photo(folder / split / name, np.ascontiguousarray(change(pixels(scene))))
                garments = [garment for garment in scene.garments if garment.label in labels and garment.hole is None]
                shown[photo] = [Shown(garment.label, change(garment.mask)) for garment in garments]
                versions[-1].add(photo)
                splits[photo] = split.replace("valid", "val")
                images.append(
                    {
                        "id": number,
                        "license": 1,
                        "file_name": name,
                        "height": HEIGHT,
                        "width": WIDTH,
                        "date_captured": "2024-01-01T00:00:00+00:00",
                        "extra": {"name": f"{scene.name}.jpg"},
                    }
                )
                for garment in garments:
                    parts: list[Outline] = [[move(*corner) for corner in part] for part in garment.parts]
                    annotations.append(
                        {
                            "id": len(annotations),
                            "image_id": number,
                            "category_id": 1 + list(labels).index(garment.label),
                            "bbox": corners_box(parts),
                            "area": float(garment.mask.sum()),
                            "segmentation": [flat(part) for part in parts],
                            "iscrowd": 0,
                        }
                    )
        write_split(folder / split, project, labels, images, annotations)
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        (folder / name).write_text(f"{project} - v3 2024-01-01 12:00am\n==============================\n")
    return Export(folder, shown, versions=versions, splits=splits)


def write_split(folder: Path, project: str, labels: Sequence[str], images: list[Any], annotations: list[Any]) -> None:
    coco = {
        "info": {
            "year": "2024", "version": "3", "description": "Exported from roboflow.com", "contributor": "",
            "url": "https://public.roboflow.com/object-detection/undefined",
            "date_created": "2024-01-01T00:00:00+00:00",
        },
        "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}],
        "categories": [
            {"id": 0, "name": project, "supercategory": "none"},
            *({"id": number, "name": name, "supercategory": project} for number, name in enumerate(labels, 1)),
        ],
        "images": images,
        "annotations": annotations,
    }  # fmt: skip
    (folder / "_annotations.coco.json").write_text(json.dumps(coco, separators=(",", ":")))
