"""A dataset of any size for the bench, made from the embedded sample: COCO JSON as DeepFashion2's converters write it.

The sample's drawn garments are enlarged to photo size and, as DeepFashion2 does, the whole outline is listed beside
its parts, which overlap it. Images are of noise, some hundred for each size, hard-linked: an image and those of its
pair show the same, so that splitting finds groups to keep together.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seamline.base.files import whole_folder

SAMPLE = Path("samples/garments.zip")
PICTURES = 100  # of each size; 200,000 images are 2,000 links to each, and file systems allow 65,000
SCALE = 5  # the sample's images are about 160 pixels wide, DeepFashion2's about 750


def sample_shapes() -> list[dict[str, Any]]:
    """The sample's images, each with its polygon annotations, enlarged."""
    with zipfile.ZipFile(SAMPLE) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".json"))
        coco = json.loads(archive.read(name))
    found: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in coco["images"]}
    for record in coco["annotations"]:
        if isinstance(record["segmentation"], list) and record["category_id"] in (1, 8):
            found[record["image_id"]].append(record)
    return [{**image, "annotations": found[image["id"]]} for image in coco["images"] if found[image["id"]]]


def with_overlapping_part(polygons: list[list[float]]) -> list[list[float]]:
    """The outline first, then its upper half again, as DeepFashion2 lists a part beside the whole."""
    enlarged = [[round(SCALE * value, 1) for value in polygon] for polygon in polygons]
    outline = np.array(enlarged[0]).reshape(-1, 2)
    part = outline.copy()
    part[:, 1] = np.minimum(part[:, 1], np.median(part[:, 1]))
    return [*enlarged, part.round(1).ravel().tolist()]


def write_dataset(folder: Path, images: int) -> None:
    """folder/annotations.json and folder/images/ with so many images and 1.2 instances each; kept if it is there."""
    if (folder / "annotations.json").exists():
        return
    with whole_folder(folder) as target:
        write_files(target, images)


def write_files(folder: Path, images: int) -> None:
    shapes = sample_shapes()
    (folder / "images").mkdir()
    looks = np.random.default_rng(0).integers(0, 256, (PICTURES, 8, 8, 3), np.uint8)
    originals: dict[tuple[int, int, int], Path] = {}
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, images + 1):
        shape = shapes[number % len(shapes)]
        size = {"width": SCALE * shape["width"], "height": SCALE * shape["height"]}
        name = f"{number:06d}.jpg"
        records.append({"id": number, "file_name": name, **size, "pair_id": number // 3, "license": 1})
        for record in shape["annotations"][: 2 if number % 5 == 0 else 1]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": record["category_id"],
                    "segmentation": with_overlapping_part(record["segmentation"]),
                    "bbox": [SCALE * side for side in record["bbox"]],
                    "area": SCALE * SCALE * record["area"],
                    "iscrowd": 0,
                    "landmarks": [0, 0, 0] * 25,
                    **dict.fromkeys(("scale", "occlusion", "zoom_in", "viewpoint"), 1),
                }
            )
        look = number // 3 % PICTURES
        original = originals.setdefault((size["width"], size["height"], look), folder / "images" / name)
        if original.name == name:
            Image.fromarray(looks[look]).resize((size["width"], size["height"])).save(original, quality=70)
        else:
            os.link(original, folder / "images" / name)
    categories = [{"id": 1, "name": "short sleeve top"}, {"id": 8, "name": "trousers"}]
    coco = {"images": records, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(coco))
