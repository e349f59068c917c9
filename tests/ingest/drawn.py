"""A dataset of shapes that cv2 has drawn, changed as the caller says, and what pull has made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from seamline.base.coco import Record
from seamline.base.files import copy
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.canonical.source import Reading
from seamline.ingest.layouts.coco import read

HEIGHT, WIDTH = 180, 120
DROPPED = "annotation: its box and its mask contradict each other"
Drawn = npt.NDArray[np.uint8]
Change = Callable[[Record], object]
Shapes = list[tuple[list[float], Drawn]]


def drawn(count: int = 20) -> Shapes:
    """Polygons of every corner of the image, and what cv2 makes of them."""
    rng = np.random.default_rng(5)
    shapes = []
    for _ in range(count):
        centre = rng.uniform((30, 30), (WIDTH - 30, HEIGHT - 30))
        angles = np.arange(16) * np.pi / 8
        radii = rng.uniform(18, 28, 16)
        points = (centre + np.stack((radii * np.cos(angles), 0.8 * radii * np.sin(angles)), axis=1)).round()
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
        shapes.append((points.ravel().tolist(), mask))
    return shapes


def runs(flat: Drawn) -> list[int]:
    """Run lengths, background first: uncompressed RLE written without pycocotools."""
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    return [int(run) for run in np.diff([0, *changes, flat.size])]


def write(
    folder: Path,
    change: Callable[[int, Record], object] = lambda index, record: None,
    shapes: Shapes | None = None,
) -> list[Drawn]:
    """A source of a photo for each annotation, with its polygon; `change` may use the right mask, in field `mask`."""
    (folder / "photos").mkdir(parents=True)
    coco: Record = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "shirt"}]}
    shapes = drawn() if shapes is None else shapes
    for index, (polygon, mask) in enumerate(shapes):
        name = f"{index}.png"
        Image.fromarray(mask * 200).save(folder / "photos" / name)
        coco["images"].append({"id": index, "file_name": name, "width": WIDTH, "height": HEIGHT})
        record = {
            "id": index + 1, "image_id": index, "category_id": 1, "bbox": list(cv2.boundingRect(mask)),
            "area": int(mask.sum()), "iscrowd": 0, "segmentation": [polygon], "mask": mask,
        }  # fmt: skip
        change(index, record)
        del record["mask"]
        coco["annotations"].append(record)
    (folder / "a.json").write_text(json.dumps(coco))
    return [mask for _, mask in shapes]


def pulled(folder: Path, target: Path, **reading: Any) -> tuple[Record, dict[int, tuple[Record, Drawn]]]:
    target.mkdir()
    report = canonicalise(read(folder, None), target, copy, Reading(**reading))
    found = json.loads((target / "annotations.json").read_text())
    masks = {}
    for record in found["annotations"]:
        mask = record["segmentation"]
        rle = coco_mask.merge(coco_mask.frPyObjects(mask, HEIGHT, WIDTH)) if isinstance(mask, list) else mask
        masks[record["id"]] = record, coco_mask.decode(rle)
    return report, masks


def iou(first: Drawn, second: Drawn) -> float:
    return float((first & second).sum() / (first | second).sum())


def rle(record: Record, flat: Drawn, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    record["segmentation"] = {"size": list(size), "counts": runs(flat)}


def scale_mask(record: Record, factor: float) -> None:
    record["segmentation"] = [[value * factor for value in record["segmentation"][0]]]


def swap(record: Record) -> None:
    points = np.reshape(record["segmentation"][0], (-1, 2))[:, ::-1]
    record["segmentation"] = [points.ravel().tolist()]
