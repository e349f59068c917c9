"""Supervisely's COCO.

From supervisely 6.74, supervisely/convert/image/coco/coco_helper.py: sly_project_to_coco (a folder a dataset),
sly_ds_to_coco (annotations/coco_instances.json, with captions coco_captions.json, which has the same three lists and no
mask; images/), sly_ann_to_coco (polygons first, then boxes, then bitmaps; outlines without their holes; bitmaps as
uncompressed RLE with iscrowd 0, and a box from the first to the last pixel, one narrower and lower than COCO's).
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
    box_of,
    corners_box,
    flat,
    pixels,
    runs,
    shown_in,
    write_photo,
)


def is_bitmap(garment: Garment) -> bool:
    return garment.hole is not None or len(garment.parts) > 1


def annotation(garment: Garment, image_id: int) -> dict[str, Any]:
    mask = garment.mask
    if is_bitmap(garment):
        left, top, width, height = box_of(mask)
        box = [left, top, width - 1, height - 1]
        segmentation: Any = {"counts": runs(mask), "size": [HEIGHT, WIDTH]}
    else:
        box = [int(value) for value in corners_box(garment.parts)]
        segmentation = [flat(garment.parts[0])]
    return {
        "segmentation": segmentation, "area": float(mask.sum()), "iscrowd": 0, "image_id": image_id, "bbox": box,
        "category_id": 1 + LABELS.index(garment.label),
    }  # fmt: skip


def write(folder: Path, scenes: Sequence[Scene], captions: bool = False) -> Export:
    """A project of one dataset, `clothes`."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    shown: dict[str, list[Shown]] = {}
    for number, scene in enumerate(scenes, 1):
        name = f"{scene.name}.jpg"
        shown[write_photo(folder / "clothes" / "images" / name, pixels(scene))] = shown_in(scene)
        images.append(
            {
                "license": "None",
                "file_name": name,
                "url": "None",
                "height": HEIGHT,
                "width": WIDTH,
                "date_captured": None,
                "id": number,
                "sly_id": None,
            }
        )
        polygons = [annotation(garment, number) for garment in scene.garments if not is_bitmap(garment)]
        boxes = [
            {"segmentation": [], "area": 486.0, "iscrowd": 0, "image_id": 1, "bbox": [2, 3, 17, 26], "category_id": 1}
            for _ in range(number == 1)
        ]
        bitmaps = [annotation(garment, number) for garment in scene.garments if is_bitmap(garment)]
        for record in polygons + boxes + bitmaps:
            annotations.append({"id": len(annotations) + 1, **record})
    head = {
        "info": {
            "description": "COCO dataset converted from Supervisely", "url": "None", "version": "1.0", "year": 2024,
            "contributor": "Supervisely", "date_created": "2024-01-01 00:00:00",
        },
        "licenses": [{"url": "None", "id": 0, "name": "None"}],
        "images": images,
    }  # fmt: skip
    categories = [{"supercategory": name, "id": number, "name": name} for number, name in enumerate(LABELS, 1)]
    files = {"coco_instances": annotations}
    if captions:
        files["coco_captions"] = [
            {"image_id": image["id"], "id": at, "caption": "a look"} for at, image in enumerate(images, 1)
        ]
    for name, records in files.items():
        path = folder / "clothes" / "annotations" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**head, "annotations": records, "categories": categories}, indent=4))
    return Export(folder, shown, {"annotation: has a box and no mask": 1})
