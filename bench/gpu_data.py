"""Photos and labels for the GPU bench, made from the embedded sample: its pictures, enlarged to the size of a photo."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import msgspec
import yaml

from seamline.base.coco import Record
from seamline.base.files import whole_folder, write_text
from seamline.dataset.conversion import write_labels
from seamline.images.reading import read_image

SAMPLE = Path(__file__).parent.parent / "samples" / "garments.zip"
SCALE = 4  # the sample's pictures are about 160 pixels wide, photos of the street 550 to 830
CLASSES = (1, 8)


def write_photos(folder: Path, train: int, val: int) -> Path:
    """folder/yolo (images, labels) and folder/split (data.yaml, train.txt, val.txt); kept if they are there.

    Args:
        train, val: how many photos each split gets; the sample has about 400 that show an instance.
    """
    if folder.exists():
        return folder
    with zipfile.ZipFile(SAMPLE) as archive, whole_folder(folder) as target:
        coco = json.loads(archive.read("annotations.json"))
        shown = photos_with_instances(coco)[: train + val]
        source = target / "source"
        for part in (source / "images", target / "split", target / "yolo" / "images", target / "yolo" / "labels"):
            part.mkdir(parents=True)
        jobs = []
        for image, annotations in shown:
            name = Path(image["file_name"]).name
            picture = read_image(archive.read(f"images/{name}"), name)
            large = cv2.resize(picture, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(source / "images" / name), large, [cv2.IMWRITE_JPEG_QUALITY, 90])
            jobs.append((name, *large.shape[:2], [msgspec.json.encode(enlarged(record)) for record in annotations]))
        write_labels(jobs, {number: index for index, number in enumerate(CLASSES)}, source, target / "yolo")
        names = {category["id"]: category["name"] for category in coco["categories"]}
        data = {"train": "train.txt", "val": "val.txt", "names": dict(enumerate(names[number] for number in CLASSES))}
        write_text(target / "split" / "data.yaml", yaml.safe_dump(data, sort_keys=False))
        for part_name, part_jobs in (("train", jobs[:train]), ("val", jobs[train:])):
            write_text(target / "split" / f"{part_name}.txt", "".join(f"./images/{name}\n" for name, *_ in part_jobs))
    return folder


def photos_with_instances(coco: Any) -> list[tuple[Record, list[Record]]]:
    """The sample's photos that show an instance with an outline, and these instances."""
    found: dict[int, list[Record]] = {image["id"]: [] for image in coco["images"]}
    for record in coco["annotations"]:
        if isinstance(record["segmentation"], list) and record["category_id"] in CLASSES:
            found[record["image_id"]].append(record)
    return [(image, found[image["id"]]) for image in coco["images"] if found[image["id"]]]


def enlarged(record: Record) -> Record:
    """An annotation of a picture that is SCALE times as large."""
    return {
        **{key: record[key] for key in ("id", "image_id", "category_id", "iscrowd")},
        "segmentation": [[SCALE * value for value in polygon] for polygon in record["segmentation"]],
        "bbox": [SCALE * value for value in record["bbox"]],
        "area": SCALE * SCALE * record["area"],
    }
