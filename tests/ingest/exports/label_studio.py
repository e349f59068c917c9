"""Label Studio's COCO export.

From label-studio-sdk 2.1, label_studio_sdk/converter/converter.py, Converter.convert_to_coco: result.json beside
images/, ids from 0, a polygon a record (percentages of the photo's size made pixels, hence 4.000000000000001),
`ignore`, a rectangle with an empty segmentation; its json writes `/` as `\\/`. file_name is relative to result.json,
and leads to where the server keeps its uploads: `../upload/4/NAME`, with backslashes where the server runs on Windows;
a file of a local storage keeps its absolute name. The server puts copies into images/ and zips the folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
    pixels,
    write_photo,
)

Naming = Callable[[str], str]  # an upload's name -> the record's file_name


def in_images(name: str) -> str:
    return f"images/{name}"


def in_uploads(name: str) -> str:
    return f"../upload/4/{name}"


def on_windows(name: str) -> str:
    return f"..\\..\\label-studio\\label-studio\\media\\upload\\4\\{name}"


def in_images_on_windows(name: str) -> str:
    return f"images\\{name}"


def in_local_storage(name: str) -> str:
    return f"/home/annotator/photos/{name}"


def through_percent(value: int, side: int) -> float:
    return (100 * value / side) / 100 * side


def write(folder: Path, scenes: Sequence[Scene], naming: Naming = in_images) -> Export:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    shown: dict[str, list[Shown]] = {}
    for number, scene in enumerate(scenes):
        name = f"0a{number}b1c2d-{scene.name}.jpg"
        garments = [Garment(garment.label, (part,)) for garment in scene.garments for part in garment.parts]
        photo = write_photo(folder / "images" / name, pixels(scene))
        shown[photo] = [Shown(garment.label, garment.mask) for garment in garments]
        images.append({"width": WIDTH, "height": HEIGHT, "id": number, "file_name": naming(name)})
        for garment in garments:
            points = [(through_percent(x, WIDTH), through_percent(y, HEIGHT)) for x, y in garment.parts[0]]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": LABELS.index(garment.label),
                    "segmentation": [[value for point in points for value in point]],
                    "bbox": corners_box(garment.parts),
                    "ignore": 0,
                    "iscrowd": 0,
                    "area": float(garment.mask.sum()),
                }
            )
        if number == 0:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": 0,
                    "category_id": 0,
                    "segmentation": [],
                    "bbox": [2.24, 2.64, 20.16, 23.76],
                    "ignore": 0,
                    "iscrowd": 0,
                    "area": 479.00160000000005,
                }
            )
    result = {
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in enumerate(LABELS)],
        "annotations": annotations,
        "info": {
            "year": 2024, "version": "1.0", "description": "", "contributor": "Label Studio", "url": "",
            "date_created": "2024-01-01 00:00:00.000000",
        },
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result, indent=2).replace("/", "\\/"))
    return Export(folder, shown, {"annotation: has a box and no mask": 1})
