"""Penn-Fudan as it is handed out: PNGImages/FudanPed00001.png beside PedMasks/FudanPed00001_mask.png.

A mask has a number a pixel: 0 for the background, another one for each person, not always 1, 2, 3. It is a PNG with a
palette, whose numbers count and not its colours. Annotation/ says the same in words and boxes, and is not needed.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from tqdm import tqdm

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.images.files import BROKEN, SUFFIX_OF_FORMAT, NotUsable, header_of
from seamline.ingest.archives import files_below, folders_below
from seamline.ingest.canonical.changes import Changes, Place
from seamline.ingest.canonical.source import Part, Source
from seamline.ingest.layouts.annotation_files import is_hidden
from seamline.ingest.layouts.text import without_surrogates
from seamline.masks.rle import mask_to_rle

PHOTOS, MASKS, MASK_END = "PNGImages", "PedMasks", "_mask"
CATEGORIES: list[Record] = [{"id": 1, "name": "person"}]
BACKGROUND = 0
MOST_PEOPLE = 1000  # in a photo: a mask with more numbers is a picture


class Unusable(NamedTuple):
    """Why a mask cannot be used."""

    reason: str
    detail: str = ""


def dataset_folders(folder: Path) -> list[Path]:
    """The folders that have both PNGImages/ and PedMasks/ in them, and a mask."""
    found = (place for place in folders_below(folder) if place.name == MASKS)
    shown = (place.parent for place in found if not is_hidden(place.relative_to(folder)))
    return [place for place in shown if (place / PHOTOS).is_dir() and mask_files(place)]


def mask_files(place: Path) -> list[Path]:
    return [path for path in files_below(place / MASKS, (".png",)) if path.stem.endswith(MASK_END)]


def found_dataset_folders(folder: Path) -> list[Path]:
    """Raises SeamlineError when there are none."""
    found = dataset_folders(folder)
    if not found:
        raise SeamlineError(
            "pull.source: has no folder with PNGImages/ and PedMasks/*_mask.png in it, as Penn-Fudan has."
        )
    return found


def read(folder: Path) -> Source:
    """A part for every folder with photos and masks; ids run through all of them.

    Raises:
        SeamlineError: when there are none.
    """
    parts: list[Part] = []
    changes = Changes()
    image_id = person_id = 0
    for place in found_dataset_folders(folder):
        photos = {path.stem: path for path in files_below(place / PHOTOS)}
        images, annotations = list[bytes](), list[bytes]()
        files: list[Path | None] = []
        for path in tqdm(mask_files(place), desc=f"masks of {place.name}", unit="file", disable=None):
            image_id += 1
            stem = path.stem.removesuffix(MASK_END)
            photo = photos.pop(stem, None)
            name = without_surrogates(
                str((place / PHOTOS / f"{stem}.png" if photo is None else photo).relative_to(folder))
            )
            ids = mask_to_ids(path, photo)
            if isinstance(ids, Unusable):
                title = without_surrogates(str(path.relative_to(folder)))
                changes.drop(ids.reason, Place(title, name, image_id), ids.detail)
                continue
            height, width = ids.shape
            record = {"id": image_id, "file_name": name, "width": width, "height": height}
            images.append(msgspec.json.encode(record))
            files.append(photo)
            for annotation in ids_to_annotations(ids):
                person_id += 1
                annotations.append(msgspec.json.encode({"id": person_id, "image_id": image_id, **annotation}))
        changes.leave([str(photo.relative_to(folder)) for photo in photos.values()])
        title = without_surrogates(str(place.relative_to(folder) / MASKS))
        parts.append(Part(title, images, files, annotations, CATEGORIES))
    return Source(layout="penn-fudan", parts=parts, changes=changes)


def mask_to_ids(path: Path, photo: Path | None) -> npt.NDArray[Any] | Unusable:
    """(height, width): the number of each pixel; `photo` is the one it is of, where that is there."""
    try:
        header = header_of(io.BytesIO(path.read_bytes()), ["PNG"])
        ids: npt.NDArray[Any] = np.asarray(header)  # of a palette's pixels the numbers, where OpenCV gives colours
    except (NotUsable, *BROKEN):
        return Unusable("image: its mask cannot be read")
    if ids.ndim == 3:
        if (ids[..., :3] != ids[..., :1]).any():
            return Unusable("image: its mask has colours, where numbers of people are expected")
        ids = ids[..., 0]
    sides = size_of(photo)
    if sides and sorted(sides) != sorted(ids.shape):  # a photo that EXIF turns is stored on its side
        detail = f"{ids.shape[1]} x {ids.shape[0]} pixels, the photo {sides[1]} x {sides[0]}"
        return Unusable("image: its mask is of another size", detail)
    if len(np.unique(ids)) > MOST_PEOPLE:
        return Unusable(f"image: its mask has more than {MOST_PEOPLE} people, as a picture has")
    return ids


def size_of(photo: Path | None) -> tuple[int, int] | None:
    """Height and width as they are stored; None where there is no photo that can be read, which pull then says."""
    if photo is None:
        return None
    try:
        with photo.open("rb") as stream:
            header = header_of(stream, SUFFIX_OF_FORMAT)
            return int(header.height), int(header.width)
    except (NotUsable, OSError):
        return None


def ids_to_annotations(ids: npt.NDArray[Any]) -> list[Record]:
    """An annotation for every person that a pixel has: all of the person's pixels, as RLE."""
    annotations = []
    for number in np.unique(ids):
        if number != BACKGROUND:
            rle = mask_to_rle((ids == number).astype(np.uint8))
            box = [float(side) for side in coco_mask.toBbox(rle)]
            area = float(coco_mask.area(rle))
            annotations.append({"category_id": 1, "segmentation": rle, "bbox": box, "area": area, "iscrowd": 0})
    return annotations
