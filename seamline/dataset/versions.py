"""Versions of one photo, as platforms write them when they augment a dataset: recognised by their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from seamline.base.coco import Coco
from seamline.dataset.groups import has_value, image_field

# Roboflow's: look00.jpg becomes look00_jpg.rf.0f3a....jpg, once for each version.
VERSION = re.compile(r"(?P<photo>.+)\.rf\.[0-9A-Za-z_-]{6,}\.[0-9A-Za-z]+")
MAX_VERSIONS = 50  # of one photo, as many as Roboflow makes: more images of one name are what phones call every photo
Pairs = npt.NDArray[np.int64]  # (pairs, 2): positions of images


def version_pairs(coco: Coco) -> Pairs:
    """Pairs of images that are versions of one photo, each version with the first one.

    Two signs tie: names as Roboflow gives them, with which a file of the photo's own name goes too; and equal values of
    `extra.name`, where it keeps the name of the file that was uploaded. A name of more images than versions are made of
    one photo ties none, and is printed: phones call every photo image.jpg, and shops front.jpg.
    """
    sources = coco.image_values("source_file_name")
    names = [
        str(source if has_value(source) else name)
        for source, name in zip(sources, coco.image_values("file_name"), strict=True)
    ]
    uploaded = [str(value) if has_value(value) else None for value in image_field(coco, "extra.name")]
    pairs = [
        *pairs_of_equal(without_common(photo_names(names), "names before .rf.")),
        *pairs_of_equal(without_common(uploaded, "extra.name")),
    ]
    return np.unique(np.array(pairs, dtype=np.int64).reshape(-1, 2), axis=0)


def photo_names(names: Sequence[str]) -> list[str | None]:
    """What Roboflow would call each file's photo: `look00_jpg`; None for those that no version is made of."""
    files = [PurePosixPath(name.replace("\\", "/")).name for name in names]
    found = [VERSION.fullmatch(file) for file in files]
    photos = {match["photo"] for match in found if match}
    plain = [file.replace(".", "_") for file in files]
    own = [name if name in photos else None for name in plain]
    return [match["photo"] if match else name for match, name in zip(found, own, strict=True)]


def without_common(values: Sequence[str | None], kind: str) -> list[str | None]:
    """None in place of what more images have than there are versions of one photo."""
    counts = Counter(value for value in values if value is not None)
    common = {value: count for value, count in counts.items() if count > MAX_VERSIONS}
    for value, count in sorted(common.items()):
        print(
            f"{kind}: {count} images have {value!a}, more than there are versions of one photo; they are not tied by it"
        )
    return [None if value in common else value for value in values]


def pairs_of_equal(values: Iterable[Any]) -> list[tuple[int, int]]:
    """Each position with the first one of the same value; those of None are with no other."""
    first: dict[Any, int] = {}
    pairs = [(first.setdefault(value, index), index) for index, value in enumerate(values) if value is not None]
    return [(one, other) for one, other in pairs if one != other]
