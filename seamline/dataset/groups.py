"""Groups of images that belong together, such as the shop's and the customers' photos of one garment."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from seamline.base.coco import Coco, raw_to_record
from seamline.base.errors import SeamlineError

Groups = npt.NDArray[np.int64]  # (images,): the number of each image's group, from 0
Assigned = npt.NDArray[np.int64]  # (images,) or (groups,): index into SPLITS


def field_groups(coco: Coco, field: str | None) -> Groups:
    """The group of each image: equal values of a field of the image record; one without it is a group of its own.

    Numbers are given in the order of the images.

    Raises:
        SeamlineError: when no image has the field, but one of a similar name: most likely a typing error, and one
            that would let the groups leak.
    """
    if field is None:
        return np.arange(len(coco.images))
    values = coco.image_values(field)
    if not any(value is not None for value in values):
        values = annotation_values(coco, field)
    if not any(value is not None for value in values):
        near = difflib.get_close_matches(field, sorted({key for raw in coco.images for key in raw_to_record(raw)}), n=1)
        if near:
            raise SeamlineError(f"group_by: no image has the field {field!r}; did you mean {near[0]!r}? null: none.")
        print(f"no image has the field {field!r}: each image is a group of its own")
    numbers: dict[str, int] = {}
    groups = np.empty(len(values), dtype=np.int64)
    alone = 0
    for index, value in enumerate(values):
        if value is None:
            groups[index] = len(numbers) + alone
            alone += 1
        else:
            groups[index] = numbers.setdefault(str(value), len(numbers) + alone)
    return groups


def annotation_values(coco: Coco, field: str) -> list[Any]:
    """The field as the annotations have it, as some of DeepFashion2's converters write pair_id; one value an image.

    Raises:
        SeamlineError: when the annotations of an image differ in it.
    """
    kind = msgspec.defstruct("Field", [("image_id", int), ("value", Any, None)], rename={"value": field}, gc=False)
    found: dict[int, Any] = {}
    for raw in coco.annotations:
        one: Any = msgspec.json.decode(raw, type=kind)
        if one.value is not None and found.setdefault(one.image_id, one.value) != one.value:
            raise SeamlineError(
                f"group_by: the annotations of image {one.image_id} differ in {field!r} ({found[one.image_id]!r}, "
                f"{one.value!r}); give the image itself that field, or choose another."
            )
    return [found.get(identity) for identity in coco.image_values("id")]
