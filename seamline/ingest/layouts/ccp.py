"""Clothing Co-Parsing as it is handed out: photos/0001.jpg, annotations/pixel-level/0001.mat, label_list.mat.

A .mat file has `groundtruth`, a label a pixel. Every label of a photo but `null` (the background) is one instance of
all its pixels, in as many parts as they have: photos show one person, who wears one of each, and a pair of shoes is
one instance. Photos with image-level labels only are left alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from tqdm import tqdm

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.ingest.archives import files_below
from seamline.ingest.canonical.changes import Changes, Place
from seamline.ingest.canonical.source import Part, Source
from seamline.ingest.layouts.annotation_files import is_hidden
from seamline.ingest.layouts.text import without_surrogates
from seamline.masks.rle import mask_to_rle

BACKGROUND = 0
BROKEN = (zlib.error, struct.error, MemoryError, OverflowError)  # beside the usual, of damaged files


def label_list(folder: Path) -> Path | None:
    """The label_list.mat beside annotations/pixel-level and photos, wherever in the source that is."""
    for path in files_below(folder, (".mat",)):
        base = path.parent if (path.parent / "photos").is_dir() else path.parent.parent
        hidden = is_hidden(path.relative_to(folder))
        if path.name == "label_list.mat" and not hidden and (base / "photos").is_dir() and label_maps(base).is_dir():
            return path
    return None


def label_maps(base: Path) -> Path:
    return base / "annotations" / "pixel-level"


def read(folder: Path) -> Source:
    """One part with every photo that has a label map.

    Raises:
        SeamlineError: when the layout is another, or the list of labels cannot be read.
    """
    listing = found_label_list(folder)
    base = listing.parent if (listing.parent / "photos").is_dir() else listing.parent.parent
    names = read_names(listing)
    photos = {path.stem: path for path in files_below(base / "photos")}
    images: list[bytes] = []
    files: list[Path | None] = []
    annotations: list[bytes] = []
    changes = Changes()
    maps = [path for path in files_below(label_maps(base)) if path.suffix == ".mat"]
    numbered = all(path.stem.isascii() and path.stem.isdigit() for path in maps)
    numbered = numbered and len({int(path.stem) for path in maps}) == len(maps)
    for path in tqdm(maps, desc="label maps", unit="file", disable=None):
        labels = read_mat(path, "groundtruth")
        if labels is None or labels.ndim != 2 or labels.dtype.kind not in "uif":
            changes.drop("image: its label map cannot be read", Place(str(path.relative_to(folder)), path.stem))
            continue
        photo = photos.get(path.stem)
        name = without_surrogates(path.stem + ".jpg" if photo is None else photo.name)
        image_id = int(path.stem) if numbered else without_surrogates(path.stem)
        height, width = labels.shape
        images.append(msgspec.json.encode({"id": image_id, "file_name": name, "width": width, "height": height}))
        files.append(photo)
        for record in labels_to_annotations(labels):
            identity = {"id": len(annotations) + 1, "image_id": image_id}
            annotations.append(msgspec.json.encode({**identity, **record}))
    categories = [{"id": label, "name": names[label]} for label in garment_labels(names)]
    title = str(listing.parent.relative_to(folder) / "annotations/pixel-level")
    part = Part(title=title, images=images, files=files, annotations=annotations, categories=categories)
    changes.leave([str(photo.relative_to(folder)) for photo in photos.values() if photo not in set(files)])
    return Source(layout="ccp", parts=[part], changes=changes)


def found_label_list(folder: Path) -> Path:
    """Raises SeamlineError when there is none."""
    found = label_list(folder)
    if found is None:
        raise SeamlineError(
            "pull.source: has no label_list.mat, photos/ and annotations/pixel-level/, as Clothing Co-Parsing has."
        )
    return found


def category_names(folder: Path) -> list[str]:
    names = read_names(found_label_list(folder))
    return [names[label] for label in garment_labels(names)]


def garment_labels(names: Sequence[str]) -> list[int]:
    return [label for label in range(len(names)) if label != BACKGROUND]


def labels_to_annotations(labels: npt.NDArray[Any]) -> list[Record]:
    """An annotation for every label that a pixel has: all its pixels, as RLE."""
    annotations = []
    for label in np.unique(labels[np.isfinite(labels)]):
        if label != BACKGROUND:
            rle = mask_to_rle((labels == label).astype(np.uint8))
            box = [float(side) for side in coco_mask.toBbox(rle)]
            area = float(coco_mask.area(rle))
            annotations.append(
                {"category_id": int(label), "segmentation": rle, "bbox": box, "area": area, "iscrowd": 0}
            )
    return annotations


def read_names(path: Path) -> list[str]:
    cells = read_mat(path, "label_list")
    try:
        return [str(cell[0]) for cell in np.asarray(cells).ravel()]
    except (IndexError, TypeError):
        raise SeamlineError(f"{path.name}: has no list of label names.") from None


def read_mat(path: Path, key: str) -> npt.NDArray[Any] | None:
    """One variable of a MATLAB file; None where it cannot be read."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        values: npt.NDArray[Any] = loadmat(path, variable_names=[key])[key]
    except (MatReadError, LookupError, ValueError, TypeError, OSError, EOFError, RuntimeError, *BROKEN):
        return None
    return values
