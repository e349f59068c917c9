"""Datumaro's COCO formats, which CVAT's exporter writes its own with.

From datumaro 1.13, datumaro/plugins/data_formats/coco/exporter.py: CocoExporter._apply_impl (folders, one file a task
and subset), _InstancesExporter.convert_instance and find_instance_parts (a mask becomes uncompressed RLE with iscrowd
1, a group of polygons one record behind the others, a box an empty segmentation), _PanopticExporter.save_annotations.

`coco_instances` writes the instances alone. `coco` writes every task that is not empty: image_info_*.json has no
categories, stuff_*.json says what the instances say once more, panoptic_*.json has segments_info and a folder of PNGs
that are called like the photos.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

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
    write_photo,
)

Record = dict[str, Any]
BOX = (2.0, 3.0, 18.0, 27.0)  # around no outline: a box that somebody drew on the first photo


def head(categories: bool = True) -> Record:
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": dict.fromkeys(("contributor", "date_created", "description", "url", "version", "year"), ""),
        "categories": [
            {"id": number, "name": name, "supercategory": ""} for number, name in enumerate(LABELS, 1) if categories
        ],
    }


def image_record(number: int, file_name: str) -> Record:
    return {
        "id": number, "width": WIDTH, "height": HEIGHT, "file_name": file_name, "license": 0, "flickr_url": "",
        "coco_url": "", "date_captured": 0,
    }  # fmt: skip


def annotation_record(garment: Garment, as_mask: bool) -> Record:
    mask = garment.mask
    area = float(mask.sum())
    if as_mask:
        segmentation: Any = {"counts": runs(mask), "size": [HEIGHT, WIDTH]}
        box = [float(value) for value in box_of(mask)]
    else:
        segmentation, box = [flat(part) for part in garment.parts], corners_box(garment.parts)
    return {
        "category_id": 1 + LABELS.index(garment.label), "segmentation": segmentation, "area": area, "bbox": box,
        "iscrowd": int(as_mask),
    }  # fmt: skip


def box_record() -> Record:
    return {"category_id": 1, "segmentation": [], "area": BOX[2] * BOX[3], "bbox": list(BOX), "iscrowd": 0}


def instances(
    scenes: Sequence[Scene],
    numbers: Sequence[int],
    names: Sequence[str],
    masks: Mapping[str, set[int]],
    attributes: Record | None = None,
    box_attributes: Record | None = None,
) -> Record:
    """What an instances file of these photos says.

    Args:
        scenes: the photos of one subset; a box is drawn on look00.
        numbers: their image ids.
        names: their file names.
        masks: name of a scene -> the positions of the garments that are painted as masks; those with a hole always are.
        attributes: of every annotation, where there are any.
        box_attributes: likewise, of boxes.
    """
    annotations: list[Record] = []
    for scene, number in zip(scenes, numbers, strict=True):
        painted = [is_mask(scene, position, masks) for position in range(len(scene.garments))]
        found = [annotation_record(garment, mask) for garment, mask in zip(scene.garments, painted, strict=True)]
        grouped = [len(garment.parts) > 1 for garment in scene.garments]
        ordered = [record for record, last in sorted(zip(found, grouped, strict=True), key=lambda pair: pair[1])]
        ordered += [box_record()] if scene.name == "look00" else []
        for record in ordered:
            own = attributes if record["segmentation"] else box_attributes
            more = {} if own is None else {"attributes": own}
            annotations.append({"id": len(annotations) + 1, "image_id": number, **record, **more})
    images = [image_record(number, name) for number, name in zip(numbers, names, strict=True)]
    return {**head(), "images": images, "annotations": annotations}


def is_mask(scene: Scene, position: int, masks: Mapping[str, set[int]]) -> bool:
    return scene.garments[position].hole is not None or position in masks.get(scene.name, set())


def shown_with_crowds(scene: Scene, masks: Mapping[str, set[int]]) -> list[Shown]:
    return [
        Shown(garment.label, garment.mask, crowd=is_mask(scene, position, masks))
        for position, garment in enumerate(scene.garments)
    ]


def write(folder: Path, scenes: Sequence[Scene], every_task: bool = False, merged: bool = False) -> Export:
    """The last quarter of the photos in the subset val, the others in train.

    Args:
        folder: to write to.
        scenes: the photos.
        every_task: the format `coco`; else `coco_instances`.
        merged: all photos in one folder, as --merge-images does.
    """
    shown: dict[str, list[Shown]] = {}
    splits: dict[str, str] = {}
    subsets = {"train": scenes[: -(len(scenes) // 4)], "val": scenes[-(len(scenes) // 4) :]}
    first = 1
    for subset, members in subsets.items():
        numbers = range(first, first + len(members))
        first += len(members)
        names = [f"{scene.name}.jpg" for scene in members]
        for scene, name in zip(members, names, strict=True):
            place = folder / "images" / ("" if merged else subset) / name
            photo = write_photo(place, pixels(scene))
            shown[photo], splits[photo] = shown_with_crowds(scene, {}), subset
        found = instances(members, numbers, names, {})
        files = {"instances": found}
        if every_task:
            bare = {**head(categories=False), "images": found["images"], "annotations": []}
            files |= {"image_info": bare, "stuff": found}
            files |= panoptic(folder / "annotations" / f"panoptic_{subset}", members, found)
        for task, content in files.items():
            path = folder / "annotations" / f"{task}_{subset}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, separators=(",", ":")))
    dropped = {"annotation: has a box and no mask": 1}
    return Export(folder, shown, dropped, unlisted=None if every_task else 0, splits=splits)


def panoptic(folder: Path, scenes: Sequence[Scene], found: Record) -> dict[str, Record]:
    """The panoptic task of those photos that have masks, and its PNGs; nothing where none has."""
    annotations = []
    for scene, image in zip(scenes, found["images"], strict=True):
        masks = [garment for garment in scene.garments if garment.hole is not None]
        if not masks:
            continue
        ids = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        segments = []
        for number, garment in enumerate(masks, 1):
            ids[garment.mask, 2] = number
            box = [float(value) for value in box_of(garment.mask)]
            segments.append(
                {
                    "id": number,
                    "category_id": 1 + LABELS.index(garment.label),
                    "area": float(garment.mask.sum()),
                    "bbox": box,
                    "iscrowd": 0,
                }
            )
        name = f"{scene.name}.png"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), ids)
        annotations.append({"image_id": image["id"], "file_name": name, "segments_info": segments})
    if not annotations:
        return {}
    categories = [{**category, "isthing": 0} for category in found["categories"]]
    return {"panoptic": {**found, "categories": categories, "annotations": annotations}}
