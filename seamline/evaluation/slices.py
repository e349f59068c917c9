"""Average precision of parts of a split: the instances that share the value of a field, as DeepFashion2's tables do.

A slice is measured on the images that show at least one of its instances. Only its instances count: a prediction
matched to another instance is neither right nor wrong, one matched to none is a false alarm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO

from seamline.evaluation.average_precision import Bools, Ints, Matches
from seamline.evaluation.bootstrap import groups_showing, interval, mean_of_classes, sample_precisions

LARGEST = 20  # slices of a field: those with the most instances
Row = tuple[Any, ...]


class Field(NamedTuple):
    """A field's slices in the order of their values, and how many instances are in none of those."""

    field: str
    slices: list[tuple[str, Bools]]  # name of the value, instances that have it
    without_value: int
    in_smaller_slices: int


def header_of(kind: str) -> tuple[str, ...]:
    """The columns of reports/evaluate/slices.csv."""
    measures = [f"{kind}_{measure}{end}" for measure in ("mAP50_95", "mAP50") for end in ("", "_low", "_high")]
    return ("split", "field", "value", "images", "instances", *measures)


def field_of(truth: COCO, matches: Matches, field: str, names: Mapping[str, str] | None) -> Field:
    """The slices of a field of annotations, or of images where annotations lack it; a dot leads into an object.

    Args:
        truth: the split's records.
        matches: which instances are evaluated, in which order.
        field: such as "occlusion", "attributes.colour", or "attribute_ids", a list, whose instances are in several.
        names: of values, as text; None: Fashionpedia's table of attributes where the file has one, else the values.
    """
    if names is None and field == "attribute_ids":
        names = {str(record["id"]): str(record["name"]) for record in truth.dataset.get("attributes", [])}
    members: dict[str, list[int]] = {}  # by the name of the value, under which 1, 1.0 and "1" may be one
    values_of: dict[str, Any] = {}
    without = 0
    for value, rows in rows_by_value(truth, matches, field):
        values = value if isinstance(value, list) else [value]
        known = {label_of(one, names): one for one in values if is_value(one)}
        without += 0 if known else len(rows)
        for label, one in sorted(known.items()):
            values_of.setdefault(label, one)
            members.setdefault(label, []).extend(rows)
    largest = sorted(members, key=lambda label: (-len(members[label]), label))
    slices = []
    for label in sorted(largest[:LARGEST], key=lambda label: natural(values_of[label])):
        counted = np.zeros(len(matches.instance_id), dtype=np.bool_)
        counted[members[label]] = True
        slices.append((label, counted))
    return Field(field, slices, without, sum(len(members[label]) for label in largest[LARGEST:]))


def rows_by_value(truth: COCO, matches: Matches, field: str) -> list[tuple[Any, list[int]]]:
    """The instances (rows of matches, no crowd regions) of each value of a field, a list for itself."""
    found: list[tuple[Any, list[int]]] = []
    # Few values of many instances: each is looked at once. 1, 1.0 and True are equal, but differ as text.
    of_value: dict[tuple[type, Any], list[int]] = {}
    for row, (number, crowd) in enumerate(zip(matches.instance_id.tolist(), matches.crowd.tolist(), strict=True)):
        if crowd:
            continue
        record = truth.anns[number]
        value = value_at(record, field)
        value = value_at(truth.imgs[record["image_id"]], field) if value is None else value
        if not isinstance(value, str | int | float | None):
            found.append((value, [row]))
            continue
        key = (type(value), value)
        rows = of_value.get(key)
        if rows is None:
            of_value[key] = rows = []
            found.append((value, rows))
        rows.append(row)
    return found


def is_value(value: Any) -> bool:
    """Text, true or false, or a finite number."""
    return isinstance(value, str) or (isinstance(value, int | float) and abs(value) < float("inf"))


def label_of(value: Any, names: Mapping[str, str] | None) -> str:
    """A value's name: the given one, else the value as text, 1.0 as 1."""
    if isinstance(value, float):
        text = str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:g}"
    else:
        text = str(value)
    return (names or {}).get(text, text)


def value_at(record: Mapping[str, Any], field: str) -> Any:
    """The value of a field; one with dots leads from object to object, unless a field has just that name."""
    if field in record:
        return record[field]
    value: Any = record
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def natural(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, then text."""
    number = isinstance(value, int | float) and abs(value) < 1e300
    return (not number, float(value) if number else 0.0, str(value))


def job_to_rows(job: tuple[str, Field, Matches, Ints, Ints]) -> list[Row]:
    """One field's rows under header_of, from the split's name, field, matches and groups, and their weights_without."""
    split, field, matches, groups, weights = job
    return [(split, field.field, value, *figures(matches, groups, weights, counted)) for value, counted in field.slices]


def figures(matches: Matches, groups: Ints, weights: Ints, counted: Bools) -> Row:
    """Images, instances, and each average precision with its interval; six digits, None where there is no interval."""
    every_image_once = np.ones((1, weights.shape[1]), dtype=weights.dtype)
    found, *others = sample_precisions(matches, np.concatenate([every_image_once, weights]), counted)
    left_out = np.array(others)
    showing = groups_showing(matches, groups, counted)
    values: list[float | None] = []
    for part, parts in ((found, left_out), (found[:, :1], left_out[..., :1])):
        values += [
            round(float(mean_of_classes(part)), 6),
            *(interval(mean_of_classes(parts), showing, float(mean_of_classes(part))) or (None, None)),
        ]
    images = len(np.unique(matches.instance_image[counted]))
    return (images, int(counted.sum()), *values)
