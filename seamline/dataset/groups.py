"""Groups of images that belong together, such as the shop's and the customers' photos of one garment."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from seamline.base.coco import Coco, raw_to_record
from seamline.base.errors import SeamlineError

Groups = npt.NDArray[np.int64]  # (images,): the number of each image's group, from 0
Assigned = npt.NDArray[np.int64]  # (images,) or (groups,): index into SPLITS


def field_groups(coco: Coco, field: str | None) -> Groups:
    """The group of each image: equal values of a field of the image record; one without a value is a group of its own.

    Numbers are given in the order of the images.

    Args:
        field: its name; a dot leads into an object (`extra.name`), unless a field is called so itself.

    Raises:
        SeamlineError: when no image has the field, but one of a similar name: most likely a typing error, and one
            that would let the groups leak.
    """
    if field is None:
        return np.arange(len(coco.images))
    values = image_field(coco, field)
    if not any(has_value(value) for value in values):
        values = annotation_values(coco, field)
    if not any(has_value(value) for value in values):
        names = field_names(coco)
        near = difflib.get_close_matches(field, sorted(names), n=1) if field not in names else []
        if near:
            raise SeamlineError(f"group_by: no image has the field {field!r}; did you mean {near[0]!r}? null: none.")
        what = f"a value in the field {field!r}" if field in names else f"the field {field!r}"
        print(f"no image has {what}: each image is a group of its own")
    numbers: dict[str, int] = {}
    groups = np.empty(len(values), dtype=np.int64)
    alone = 0
    for index, value in enumerate(values):
        if not has_value(value):
            groups[index] = len(numbers) + alone
            alone += 1
        else:
            groups[index] = numbers.setdefault(str(value), len(numbers) + alone)
    return groups


def has_value(value: Any) -> bool:
    """Whether a field says anything; 0 and false do, blank text and empty lists do not."""
    return value is not None and value not in ([], {}) and not (isinstance(value, str) and not value.strip())


def image_field(coco: Coco, field: str) -> list[Any]:
    """One field of every image record, by its own name or by a path with dots; None where it is missing."""
    values = coco.image_values(field)
    if "." not in field or any(value is not None for value in values):
        return values
    outer, *path = field.split(".")
    return [value_at(value, path) for value in coco.image_values(outer)]


def value_at(value: Any, path: Sequence[str]) -> Any:
    """What lies at a path of keys below a value; None where there is nothing."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def field_names(coco: Coco) -> set[str]:
    """The fields of all image records, and those of the objects in them as paths with a dot."""
    names = set()
    for record in map(raw_to_record, coco.images):
        for key, value in record.items():
            names.add(key)
            names.update(f"{key}.{inner}" for inner in (value if isinstance(value, dict) else ()))
    return names


def annotation_values(coco: Coco, field: str) -> list[Any]:
    """The field as the annotations have it, as some of DeepFashion2's converters write pair_id; one value an image.

    Raises:
        SeamlineError: when the annotations of an image differ in it.
    """
    found: dict[int, Any] = {}
    for name, path in (field, []), (field.partition(".")[0], field.split(".")[1:]):
        kind = msgspec.defstruct("Field", [("image_id", int), ("value", Any, None)], rename={"value": name}, gc=False)
        for raw in coco.annotations:
            one: Any = msgspec.json.decode(raw, type=kind)
            value = value_at(one.value, path)
            if has_value(value) and found.setdefault(one.image_id, value) != value:
                raise SeamlineError(
                    f"group_by: the annotations of image {one.image_id} differ in {field!r} "
                    f"({found[one.image_id]!r}, {value!r}); give the image itself that field, or choose another."
                )
        if found or "." not in field:
            break
    return [found.get(identity) for identity in coco.image_values("id")]
