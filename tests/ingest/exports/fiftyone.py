"""FiftyOne's COCODetectionDataset.

From fiftyone 1.22, fiftyone/utils/coco.py: COCODetectionDatasetExporter (data/, labels.json, category ids from 1,
supercategory null, absolute names with abs_paths=True), COCOObject.from_label (area is the box's, a box alone has no
key `segmentation`), _mask_to_polygons (outlines through the pixels' centres, closed, of at most 2 pixels' deviation),
_mask_to_rle (uncompressed, where the label's iscrowd is set).

The outlines are half a pixel off COCO's and simplified. Here they are only shifted, which is nearer to the mask.
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
    pixels,
    runs,
    write_photo,
)


def outline(part: Sequence[tuple[int, int]]) -> list[float]:
    """Closed, half a pixel to the left and up; what falls below zero is zero."""
    return [max(0.0, value - 0.5) for corner in [*part, part[0]] for value in corner]


def annotation(garment: Garment) -> dict[str, Any]:
    crowd = garment.hole is not None
    left, top, width, height = (float(value) for value in box_of(garment.mask))
    segmentation: Any = [outline(part) for part in garment.parts]
    if crowd:
        segmentation = {"counts": runs(garment.mask), "size": [HEIGHT, WIDTH]}
    return {
        "category_id": 1 + LABELS.index(garment.label), "bbox": [left, top, width, height],
        "segmentation": segmentation, "area": width * height, "iscrowd": int(crowd),
    }  # fmt: skip


def write(folder: Path, scenes: Sequence[Scene], names_below: str = "") -> Export:
    """An export; a label whose mask has a hole was marked as a crowd.

    Args:
        folder: to write to.
        scenes: the photos.
        names_below: the folder of the machine that the export was made on, for abs_paths=True.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    shown: dict[str, list[Shown]] = {}
    for number, scene in enumerate(scenes, 1):
        name = f"{scene.name}.jpg"
        photo = write_photo(folder / "data" / name, pixels(scene))
        shown[photo] = [Shown(garment.label, garment.mask, garment.hole is not None) for garment in scene.garments]
        images.append(
            {
                "id": number,
                "file_name": f"{names_below}{name}",
                "height": HEIGHT,
                "width": WIDTH,
                "license": None,
                "coco_url": None,
            }
        )
        found = [annotation(garment) for garment in scene.garments]
        if number == 1:
            found.append({"category_id": 1, "bbox": [2.0, 3.0, 18.0, 27.0], "area": 486.0, "iscrowd": 0})
        for record in found:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **record})
    labels = {
        "info": {
            "year": "", "version": "", "contributor": "", "url": "https://voxel51.com/fiftyone",
            "date_created": "2024-01-01T00:00:00",
        },
        "licenses": [],
        "categories": [{"id": number, "name": name, "supercategory": None} for number, name in enumerate(LABELS, 1)],
        "images": images,
        "annotations": annotations,
    }  # fmt: skip
    (folder / "labels.json").write_text(json.dumps(labels))
    return Export(folder, shown, {"annotation: has a box and no mask": 1})
