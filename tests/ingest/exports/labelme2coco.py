"""labelme2coco's dataset.json beside labelme's own files.

From labelme2coco 0.2.6, labelme2coco/labelme2coco.py, get_coco_from_labelme_folder (file_name is the folder as it was
given and imagePath; the parts of a group are records of their own; a rectangle has no segmentation) and __init__.py,
convert (runs/labelme2coco/dataset.json, or train.json and val.json); records by sahi 0.12, sahi/utils/coco.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.ingest.exports.scenes import (
    HEIGHT,
    LABELS,
    WIDTH,
    Export,
    Garment,
    Scene,
    Shown,
    corners_box,
    flat,
    pixels,
    write_photo,
)


def write(folder: Path, scenes: Sequence[Scene], given: str = "photos", split: bool = False) -> Export:
    """A folder in which labelme2coco was run.

    Args:
        folder: with photos/ and their labelme files in it.
        scenes: the photos.
        given: what the folder of photos was called on the command line.
        split: train.json and val.json, as with --train_split_rate.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    shown: dict[str, list[Shown]] = {}
    for number, scene in enumerate(scenes, 1):
        name = f"{scene.name}.jpg"
        garments = [Garment(garment.label, (part,)) for garment in scene.garments for part in garment.parts]
        photo = write_photo(folder / "photos" / name, pixels(scene))
        shown[photo] = [Shown(garment.label, garment.mask) for garment in garments]
        shapes = [shape(garment.label, garment.parts[0], "polygon") for garment in garments]
        if number == 1:
            shapes.append(shape("shirt", [(2, 3), (20, 30)], "rectangle"))
        labelme: dict[str, Any] = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None,
            "imageHeight": HEIGHT, "imageWidth": WIDTH,
        }  # fmt: skip
        (folder / "photos" / f"{scene.name}.json").write_text(json.dumps(labelme, indent=2))
        images.append({"height": HEIGHT, "width": WIDTH, "id": number, "file_name": f"{given}/{name}"})
        for garment in garments:
            annotations.append(
                {
                    "iscrowd": 0,
                    "image_id": number,
                    "bbox": corners_box(garment.parts),
                    "segmentation": [[int(value) for value in flat(garment.parts[0])]],
                    "category_id": LABELS.index(garment.label),
                    "id": len(annotations) + 1,
                    "area": int(garment.mask.sum()),
                }
            )
        if number == 1:
            annotations.append(
                {
                    "iscrowd": 0,
                    "image_id": 1,
                    "bbox": [2.0, 3.0, 18.0, 27.0],
                    "segmentation": [],
                    "category_id": 0,
                    "id": len(annotations) + 1,
                    "area": 486,
                }
            )
    categories = [{"id": number, "name": name, "supercategory": name} for number, name in enumerate(LABELS)]
    files = {"dataset": (images, annotations)}
    if split:
        files = {"train": subset(images[:-2], annotations), "val": subset(images[-2:], annotations)}
    runs = folder / "runs" / "labelme2coco"
    runs.mkdir(parents=True)
    for name, (own_images, own_annotations) in files.items():
        coco = {"images": own_images, "annotations": own_annotations, "categories": categories}
        (runs / f"{name}.json").write_text(json.dumps(coco, separators=(",", ":")))
    own = ["train"] * (len(scenes) - 2) + ["val"] * 2
    splits = dict(zip(shown, own, strict=True)) if split else {}
    return Export(folder, shown, {"annotation: has a box and no mask": 1}, splits=splits)


def shape(label: str, points: Sequence[tuple[int, int]], kind: str) -> dict[str, Any]:
    return {
        "label": label, "points": [[float(x), float(y)] for x, y in points], "group_id": None, "description": "",
        "shape_type": kind, "flags": {}, "mask": None,
    }  # fmt: skip


def subset(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """A split's images and annotations, both numbered from 1."""
    numbers = {image["id"]: number for number, image in enumerate(images, 1)}
    own = [record for record in annotations if record["image_id"] in numbers]
    return (
        [{**image, "id": numbers[image["id"]]} for image in images],
        [{**record, "id": at, "image_id": numbers[record["image_id"]]} for at, record in enumerate(own, 1)],
    )
