"""COCO Annotator's export and the folder of its dataset.

From jsbroks/coco-annotator: backend/workers/tasks/data.py, export_annotations (the keys of COCO_PROPERTIES in
backend/database/annotations.py, images.py and categories.py; iscrowd as true or false, `isbbox`, `color`, `metadata`;
written to .exports/coco-TIME.json in the dataset's own folder), backend/webserver/api/exports.py (downloaded as
DATASET-COCO-CATEGORIES.json), backend/database/images.py (thumbnails in .thumbnail/ beside the photos, under their
names; `path` is where the container has the photo), backend/webserver/util/coco_util.py, paperjs_to_coco (coordinates
to two digits, area and box by pycocotools).

The tool is a web service with a database; no package of it installs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from tests.ingest.exports.scenes import (
    HEIGHT,
    LABELS,
    WIDTH,
    Export,
    Scene,
    Shown,
    corners_box,
    flat,
    pixels,
    rectangle,
    write_photo,
)

EXPORT = ".exports/coco-1704067200.123456.json"


def write(folder: Path, scenes: Sequence[Scene], downloaded: bool = False, boxes: int = 0) -> Export:
    """The dataset `clothes`, or what is downloaded beside it.

    Args:
        folder: the dataset's own, or, where the export is `downloaded`, the one that has both.
        scenes: the photos; a mask with a hole cannot be drawn with this tool and is left out.
        downloaded: the export lies beside the folder of photos.
        boxes: how many of the first photos have a third annotation, made with the box tool: its corners as polygon.
    """
    photos = folder / "clothes" if downloaded else folder
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    shown: dict[str, list[Shown]] = {}
    for number, scene in enumerate(scenes, 11):
        name = f"{scene.name}.jpg"
        photo = pixels(scene)
        thumbnail = photo.copy()
        for garment in scene.garments:
            thumbnail[garment.mask] = (0, 0, 200)
        write_photo(photos / ".thumbnail" / name, cv2.resize(thumbnail, (WIDTH // 2, HEIGHT // 2)))
        garments = [garment for garment in scene.garments if garment.hole is None]
        shown[write_photo(photos / name, photo)] = [Shown(garment.label, garment.mask) for garment in garments]
        images.append(
            {
                "id": number,
                "dataset_id": 3,
                "path": f"/datasets/clothes/{name}",
                "width": WIDTH,
                "height": HEIGHT,
                "file_name": name,
            }
        )
        outlines = [(garment.label, garment.parts, int(garment.mask.sum())) for garment in garments]
        is_box = [False] * len(outlines)
        if number - 11 < boxes:
            outlines.append(("shirt", (rectangle(70, 60, 100, 80),), 600))
            is_box.append(True)
        for (label, parts, area), box in zip(outlines, is_box, strict=True):
            annotations.append(
                {
                    "id": 40 + len(annotations),
                    "image_id": number,
                    "category_id": 5 + LABELS.index(label),
                    "segmentation": [flat(part) for part in parts],
                    "area": area,
                    "bbox": corners_box(parts),
                    "iscrowd": False,
                    "isbbox": box,
                    "color": "#f50a75",
                    "metadata": {},
                }
            )
    categories = [
        {
            "id": number,
            "name": name,
            "supercategory": "",
            "color": "#0cf2c4",
            "metadata": {},
            "keypoint_colors": [],
        }
        for number, name in enumerate(LABELS, 5)
    ]
    text = json.dumps({"images": images, "categories": categories, "annotations": annotations})
    (photos / EXPORT).parent.mkdir()
    (photos / EXPORT).write_text(text)
    if downloaded:
        (folder / "clothes-COCO-shirt-skirt.json").write_text(text)
    return Export(folder, shown, unlisted=None)
