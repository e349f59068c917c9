"""DeepFashion2 as it is handed out: train/image/000001.jpg beside train/annos/000001.json, the same in validation/.

An annotation file has `source` and `pair_id`, which go to the image, and item1, item2, ..., each an instance with
category, box, polygons, landmarks, style, scale, occlusion, zoom_in and viewpoint, which stay with it. A folder
without annotations (the official test split) is left alone.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.ingest.archives import files_below, folders_below
from seamline.ingest.canonical.changes import Changes, Place
from seamline.ingest.canonical.source import Part, Source
from seamline.ingest.layouts.annotation_files import is_hidden
from seamline.ingest.layouts.split_names import split_of_file
from seamline.ingest.layouts.text import to_utf8, without_surrogates

NAMES = (
    "short sleeve top", "long sleeve top", "short sleeve outwear", "long sleeve outwear", "vest", "sling", "shorts",
    "trousers", "skirt", "short sleeve dress", "long sleeve dress", "vest dress", "sling dress",
)  # fmt: skip
CATEGORIES: list[Record] = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]
ITEM = re.compile(r"item\d{1,9}")
MAX_LOOKED_AT = 20  # files that tell whether a folder is of this layout


def split_folders(folder: Path) -> list[Path]:
    """The folders that have both image/ and annos/ in them."""
    annotated = (place for place in folders_below(folder) if place.name == "annos")
    shown = (place.parent for place in annotated if not is_hidden(place.relative_to(folder)))
    return [place for place in shown if (place / "image").is_dir()]


def is_recognised(folder: Path) -> bool:
    """Whether the folders are there, and a file in them is one of an image's items.

    Others call their folders image/ and annos/ too: the first files decide.
    """
    for place in split_folders(folder):
        listed = (path for path in files_below(place / "annos", (".json",)))
        found = (read_annotation_file(path) for path in islice(listed, MAX_LOOKED_AT))
        if any(record and any(map(ITEM.fullmatch, record)) for record in found):
            return True
    return False


def found_split_folders(folder: Path) -> list[Path]:
    """Raises SeamlineError when there are none."""
    found = split_folders(folder)
    if not found:
        raise SeamlineError("pull.source: has no folder with image/ and annos/ in it, as DeepFashion2 has.")
    return found


def read(folder: Path) -> Source:
    """A part for every folder with images and annotations; ids run through all of them.

    Raises:
        SeamlineError: when there are none.
    """
    parts: list[Part] = []
    changes = Changes()
    image_id = item_id = 0
    for place in found_split_folders(folder):
        photos = {path.stem: path for path in files_below(place / "image")}
        images, annotations = list[bytes](), list[bytes]()
        files: list[Path | None] = []
        listed = [path for path in files_below(place / "annos") if path.suffix.lower() == ".json"]
        for path in tqdm(listed, desc=f"annos of {place.name}", unit="file", disable=None):
            photo = photos.pop(path.stem, None)
            name = without_surrogates(f"{path.stem}.jpg" if photo is None else photo.name)
            image_id += 1
            found = read_annotation_file(path)
            if found is None:
                title = str(path.relative_to(folder))
                changes.drop("image: its annotation file cannot be read", Place(title, name, image_id))
                continue
            keys = sorted(filter(ITEM.fullmatch, found), key=lambda key: int(key.removeprefix("item")))
            rest = {key: value for key, value in found.items() if key not in keys}
            file_name = without_surrogates(str((place / "image" / name).relative_to(folder)))
            images.append(msgspec.json.encode({**rest, "id": image_id, "file_name": file_name}))
            files.append(photo)
            for key in keys:
                item_id += 1
                annotations.append(msgspec.json.encode(item_to_annotation(found[key], key, item_id, image_id)))
        changes.leave([str(photo.relative_to(folder)) for photo in photos.values()])
        split = split_of_file(place.relative_to(folder)) or split_of_file(Path(place.name))
        title = str(place.relative_to(folder) / "annos")
        parts.append(Part(title, images, files, annotations, CATEGORIES, split))
    return Source(layout="deepfashion2", parts=parts, changes=changes)


def read_annotation_file(path: Path) -> dict[str, Any] | None:
    """One image's annotations; None where the file is not a JSON object. NaN becomes null."""
    data, _ = to_utf8(path.read_bytes())
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:  # takes NaN and a byte-order mark
        found = json.loads(data.decode("utf-8-sig"), parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def item_to_annotation(item: Any, key: str, number: int, image_id: int) -> Any:
    """One item as a COCO annotation; its corners [x1, y1, x2, y2] become [x, y, width, height]."""
    if not isinstance(item, dict):
        return item
    corners, box = item.get("bounding_box"), None
    if isinstance(corners, list) and len(corners) == 4 and all(isinstance(side, (int, float)) for side in corners):
        box = [corners[0], corners[1], corners[2] - corners[0], corners[3] - corners[1]]
    others = {name: value for name, value in item.items() if name not in ("bounding_box", "category_name")}
    # The number and the name say the same; where they do not, neither can be trusted.
    category = item.get("category_id")
    names = (None, NAMES[category - 1]) if isinstance(category, int) and 1 <= category <= len(NAMES) else ()
    known = item.get("category_name") in names
    number_and_box = {"id": number, "bbox": box, "iscrowd": 0, "item": key}
    return {**others, **number_and_box, "image_id": image_id, "category_id": category if known else None}
