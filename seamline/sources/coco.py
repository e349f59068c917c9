"""COCO folders as they come, made canonical.

Canonical: `annotations.json` beside `images/`, every id an integer, every image there, no two images of one name,
every annotation with bbox, area and iscrowd. What cannot be made so is dropped and counted under its reason.
"""

from __future__ import annotations

import itertools
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
from seamline.masks import rle_to_mask, segmentation_to_rle

MIN_SIDE_PX = 10  # ultralytics leaves smaller images out of training without counting them
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


def canonical_categories(records: list[Any], annotation_file: Path) -> list[Record]:
    categories = []
    for record in records:
        number = whole_number(record.get("id")) if isinstance(record, dict) else None
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
    records: list[Any], folder: Path, annotation_file: Path, dropped: Counter[str]
) -> tuple[list[tuple[Record, Path]], dict[Any, int]]:
    """Image records with the files they mean, and the integer id that each id of the source became."""
    source_ids: set[Any] = set()
    for record in records:
        source_id, source_name = (
            (record.get(key) for key in ("id", "file_name")) if isinstance(record, dict) else (None,) * 2
        )
        if not isinstance(source_id, (int, str)) or not isinstance(source_name, str):
            raise SeamlineError(f"{annotation_file.name}: image {record!r} needs an id and a file_name.")
        if source_id in source_ids:
            raise SeamlineError(f"{annotation_file.name}: two images have the id {source_id!r}.")
        source_ids.add(source_id)
    numbers = {whole_number(source_id) for source_id in source_ids}
    keep_numbers = None not in numbers and len(numbers) == len(records)
    paths = files_of_images([record["file_name"] for record in records], annotation_file, folder)
    images: list[tuple[Record, Path]] = []
    ids: dict[Any, int] = {}
    stems: set[str] = set()
    progress = tqdm(records, desc="reading images", unit="image", disable=None)
    for position, (record, path) in enumerate(zip(progress, paths, strict=True), start=1):
        source_id, source_name = record["id"], record["file_name"]
        if path is None:
            dropped["image: file is missing"] += 1
            continue
        size = image_size(path)
        if size is None:
            dropped["image: cannot be decoded"] += 1
            continue
        if min(size) < MIN_SIDE_PX:
            dropped[f"image: a side has fewer than {MIN_SIDE_PX} pixels"] += 1
            continue
        if size != (record.get("height"), record.get("width")):
            dropped["image: has another size than its record says"] += 1
            continue
        number = whole_number(source_id) if keep_numbers else None
        ids[source_id] = number if number is not None else position
        name = unique_name(source_name, stems)
        extra = {} if ids[source_id] == source_id else {"source_id": source_id}
        extra |= {} if name == source_name else {"source_file_name": source_name}
        images.append(({**record, "id": ids[source_id], "file_name": name, **extra}, path))
    return images, ids


def files_of_images(names: list[str], annotation_file: Path, folder: Path) -> list[Path | None]:
    """The file that each file_name means; a file is given to one record only, to the one that names it most exactly.

    A name may lack leading folders or have some that the source does not. So that a record whose own file is
    missing does not take another's of the same last part, exact paths are given away first.
    """
    files = image_files(folder)
    taken: set[Path] = set()
    found: list[Path | None] = []
    for name in names:
        checked_name(name, annotation_file)
        exact = folder / name
        found.append(exact if exact in files.get(PurePosixPath(name).name, []) and exact not in taken else None)
        taken |= {exact} if found[-1] else set()
    for index, name in enumerate(names):
        if found[index] is None:
            path = file_of_image(name, annotation_file, folder, files)
            found[index] = None if path in taken else path
            taken |= {path} if path else set()
    return found


def checked_name(name: str, annotation_file: Path) -> None:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise SeamlineError(f"{annotation_file.name}: the file_name {name!r} leads out of the source.")


def image_files(folder: Path) -> dict[str, list[Path]]:
    """The image files below a folder, by name."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            files.setdefault(path.name, []).append(path)
    return files


def file_of_image(name: str, annotation_file: Path, folder: Path, files: dict[str, list[Path]]) -> Path | None:
    """The file with the longest match of the name's end, if only one file matches it.

    Raises:
        SeamlineError: when several files match it equally well.
    """
    parts = PurePosixPath(name).parts
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


def unique_name(source_name: str, stems: set[str]) -> str:
    """A flat file name: the last part, with the folders before it, then a number, where that is taken.

    Unique without its suffix, since a.jpg and a.png would share the label a.txt.
    """
    parts = PurePosixPath(source_name).with_suffix("").parts
    candidates = ("__".join(parts[-length:]) for length in range(1, len(parts) + 1))
    numbered = (f"{'__'.join(parts)}__{number}" for number in itertools.count(2))
    stem = next(stem for stem in itertools.chain(candidates, numbered) if stem not in stems)
    stems.add(stem)
    return stem + PurePosixPath(source_name).suffix


def canonicalise_annotation(
    record: Any, ids: dict[Any, int], sizes: dict[int, tuple[int, int]], known: set[int], seen: set[Any]
) -> str | None:
    """Make one annotation canonical in place; the reason for dropping it, or None when it stays."""
    if not isinstance(record, dict):
        return "annotation: is no object"
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
        mask = rle_to_mask(rle)
    except (ValueError, TypeError, OverflowError, AttributeError):
        return "annotation: has no usable mask"
    if mask.max(initial=0) > 1:  # what pycocotools makes of counts that are no run lengths
        return "annotation: has no usable mask"
    area = float(mask.sum())
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
    """Keep integer ids where all are and none is below 1; else number from 1, the source's id beside it."""
    numbers = [number for record in annotations if (number := whole_number(record.get("id"))) is not None]
    # pycocotools takes a match with an instance of id 0 for none.
    if len(set(numbers)) == len(annotations) and min(numbers, default=1) >= 1:
        for record, number in zip(annotations, numbers, strict=True):
            record["id"] = number
        return
    for number, record in enumerate(annotations, start=1):
        if record.get("id") is not None:
            record["source_id"] = record["id"]
        record["id"] = number
