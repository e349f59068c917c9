"""COCO folders as they come, made canonical.

Canonical: `annotations.json` beside `images/`, every id an integer, every image there, no two images of one name,
every annotation with bbox, area and iscrowd. What cannot be made so is dropped and counted under its reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import msgspec
import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from seamline.coco import Record, raw_to_record, read_coco, write_coco
from seamline.errors import SeamlineError
from seamline.masks import segmentation_to_rle

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def find_annotations(folder: Path, named: str | None) -> Path:
    """The annotation file: the one named by pull.annotations, else the only COCO file in the folder.

    Raises:
        SeamlineError: when the named file is missing, or none or several are found.
    """
    if named is not None:
        path = folder / named
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            raise SeamlineError(f"pull.annotations: {named!r} is not a file of the source.")
        return path
    candidates = sorted(path for path in folder.rglob("*.json") if looks_like_coco(path))
    if not candidates:
        raise SeamlineError(
            "pull.source: has no COCO annotation file (a JSON object with images, annotations and categories)."
        )
    if len(candidates) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in candidates)
        raise SeamlineError(f"pull.source: has several COCO files ({names}); name one of them in pull.annotations.")
    return candidates[0]


def looks_like_coco(path: Path) -> bool:
    """Whether a JSON file has COCO's three lists; its records are not read."""

    class Lists(msgspec.Struct):
        images: msgspec.Raw
        annotations: msgspec.Raw
        categories: msgspec.Raw

    try:
        lists = msgspec.json.decode(path.read_bytes(), type=Lists)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return all(bytes(raw).startswith(b"[") for raw in (lists.images, lists.annotations, lists.categories))


def coco_to_canonical(folder: Path, annotation_file: Path, target: Path, place: Callable[[Path, Path], None]) -> Record:
    """Write target/annotations.json and target/images/ from a COCO folder; `place` puts a file at its target.

    Returns:
        What was kept and what was dropped under which reason, for reports/pull.json.

    Raises:
        SeamlineError: when the file is no COCO, ids collide, or nothing is left.
    """
    source = read_coco(annotation_file)
    dropped: Counter[str] = Counter()
    categories = canonical_categories([raw_to_record(raw) for raw in source.categories], annotation_file)
    images, ids = canonical_images([raw_to_record(raw) for raw in source.images], folder, annotation_file, dropped)
    if not images:
        raise SeamlineError(
            f"{annotation_file.name}: none of its {len(source.images)} images is among the source's files."
        )
    for image, path in tqdm(images, desc="images", unit="image", disable=None):
        place(path, target / "images" / image["file_name"])
    sizes = {image["id"]: (image["height"], image["width"]) for image, _ in images}
    known = {category["id"] for category in categories}
    annotations: list[Record] = []
    seen: set[Any] = set()
    for raw in tqdm(source.annotations, desc="annotations", unit="annotation", disable=None):
        record = raw_to_record(raw)
        reason = canonicalise_annotation(record, ids, sizes, known, seen)
        if reason is None:
            annotations.append(record)
        else:
            dropped[reason] += 1
    number_annotations(annotations)
    write_coco(
        target / "annotations.json",
        sorted((image for image, _ in images), key=lambda image: image["id"]),
        sorted(annotations, key=lambda record: record["id"]),
        categories,
    )
    return {
        "images": len(images),
        "annotations": len(annotations),
        "categories": len(categories),
        "dropped": dict(sorted(dropped.items())),
    }


def canonical_categories(records: list[Record], annotation_file: Path) -> list[Record]:
    categories = []
    for record in records:
        number = whole_number(record.get("id"))
        if number is None or not isinstance(record.get("name"), str):
            raise SeamlineError(f"{annotation_file.name}: category {record!r} needs an integer id and a name.")
        categories.append({**record, "id": number})
    for key in ("id", "name"):
        values = [category[key] for category in categories]
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise SeamlineError(f"{annotation_file.name}: two categories have the {key} {twice[0]!r}.")
    return sorted(categories, key=lambda category: category["id"])


def canonical_images(
    records: list[Record], folder: Path, annotation_file: Path, dropped: Counter[str]
) -> tuple[list[tuple[Record, Path]], dict[Any, int]]:
    """Image records with the files they mean, and the integer id that each id of the source became."""
    files = image_files(folder)
    keep_numbers = all(whole_number(record.get("id")) is not None for record in records) and len(
        {whole_number(record.get("id")) for record in records}
    ) == len(records)
    images: list[tuple[Record, Path]] = []
    ids: dict[Any, int] = {}
    names: set[str] = set()
    for position, record in enumerate(tqdm(records, desc="reading images", unit="image", disable=None), start=1):
        source_id, source_name = record.get("id"), record.get("file_name")
        if not isinstance(source_id, (int, str)) or not isinstance(source_name, str):
            raise SeamlineError(f"{annotation_file.name}: image {source_id!r} needs an id and a file_name.")
        if source_id in ids:
            raise SeamlineError(f"{annotation_file.name}: two images have the id {source_id!r}.")
        path = file_of_image(source_name, annotation_file, folder, files)
        if path is None:
            dropped["image: file is missing"] += 1
            continue
        size = image_size(path)
        if size is None:
            dropped["image: cannot be decoded"] += 1
            continue
        if size != (record.get("height"), record.get("width")):
            dropped["image: has another size than its record says"] += 1
            continue
        number = whole_number(source_id) if keep_numbers else None
        ids[source_id] = number if number is not None else position
        name = unique_name(source_name, names)
        extra = {} if ids[source_id] == source_id else {"source_id": source_id}
        extra |= {} if name == source_name else {"source_file_name": source_name}
        images.append(({**record, "id": ids[source_id], "file_name": name, **extra}, path))
    return images, ids


def image_files(folder: Path) -> dict[str, list[Path]]:
    """The image files below a folder, by name."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            files.setdefault(path.name, []).append(path)
    return files


def file_of_image(name: str, annotation_file: Path, folder: Path, files: dict[str, list[Path]]) -> Path | None:
    """The file that a record's file_name means: the longest match of its end, if only one file matches it.

    Raises:
        SeamlineError: when the name leads out of the source, or several files match it equally well.
    """
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
        raise SeamlineError(f"{annotation_file.name}: the file_name {name!r} leads out of the source.")
    candidates = files.get(parts[-1], [])
    for length in range(len(parts), 0, -1):
        matches = [path for path in candidates if path.relative_to(folder).parts[-length:] == parts[-length:]]
        if len(matches) == 1:
            return matches[0]
        if matches:
            found = ", ".join(str(path.relative_to(folder)) for path in matches)
            raise SeamlineError(f"{annotation_file.name}: the file_name {name!r} fits several files: {found}.")
    return None


def image_size(path: Path) -> tuple[int, int] | None:
    """Height and width as everything after this sees them, EXIF rotation applied; None if it cannot be decoded."""
    data = np.fromfile(path, dtype=np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    return None if image is None else (image.shape[0], image.shape[1])


def unique_name(source_name: str, names: set[str]) -> str:
    """A flat file name no other image has: the last part, with the folders before it where that is taken."""
    parts = PurePosixPath(source_name).parts
    candidates = ["__".join(parts[-length:]) for length in range(1, len(parts) + 1)]
    stem, suffix = PurePosixPath(candidates[-1]).stem, PurePosixPath(candidates[-1]).suffix
    name = next((name for name in candidates if name not in names), None)
    number = 2
    while name is None:
        name = None if f"{stem}__{number}{suffix}" in names else f"{stem}__{number}{suffix}"
        number += 1
    names.add(name)
    return name


def canonicalise_annotation(
    record: Record, ids: dict[Any, int], sizes: dict[int, tuple[int, int]], known: set[int], seen: set[Any]
) -> str | None:
    """Make one annotation canonical in place; the reason for dropping it, or None when it stays."""
    image_id = ids.get(record.get("image_id")) if isinstance(record.get("image_id"), (int, str)) else None
    if image_id is None:
        return "annotation: its image is unknown or was dropped"
    category_id = whole_number(record.get("category_id"))
    if category_id not in known:
        return "annotation: its category is unknown"
    source_id = record.get("id") if isinstance(record.get("id"), (int, str)) else None
    if source_id in seen:
        return "annotation: another has the same id"
    height, width = sizes[image_id]
    segmentation = record.get("segmentation")
    if isinstance(segmentation, list):
        segmentation = [polygon for polygon in segmentation if is_polygon(polygon)]
    try:
        rle = segmentation_to_rle(segmentation, height, width)
    except (ValueError, TypeError):
        return "annotation: has no usable mask"
    area = float(coco_mask.area(rle))
    if area == 0:
        return "annotation: its mask covers no pixel of the image"
    if source_id is not None:
        seen.add(source_id)
    crowd = record.pop("is_crowd", 0)
    crowd = record.get("iscrowd", crowd)
    record["iscrowd"] = int(bool(crowd[0] if isinstance(crowd, list) and crowd else crowd))
    record |= {"image_id": image_id, "category_id": category_id, "segmentation": segmentation}
    if not is_finite_list(record.get("bbox"), 4):
        record["bbox"] = [float(value) for value in coco_mask.toBbox(rle)]
    if not is_finite_list([record.get("area")], 1):
        record["area"] = area
    return None


def is_polygon(points: Any) -> bool:
    return (
        isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0 and is_finite_list(points, len(points))
    )


def is_finite_list(values: Any, length: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == length
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    )


def whole_number(value: Any) -> int | None:
    """An integer id, also from text such as "000042"; None where it is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return None


def number_annotations(annotations: list[Record]) -> None:
    """Keep integer ids where all are; else number from 1 and keep the source's id beside it."""
    numbers = [whole_number(record.get("id")) for record in annotations]
    if None not in numbers and len(set(numbers)) == len(numbers):
        for record, number in zip(annotations, numbers, strict=True):
            record["id"] = number
        return
    for number, record in enumerate(annotations, start=1):
        if record.get("id") is not None:
            record["source_id"] = record["id"]
        record["id"] = number
