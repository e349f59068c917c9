"""Attributes that annotations of a canonical dataset have: garments in photos, each with its box and mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from seamline.attributes.garments import Collected, Garment, first_codes
from seamline.attributes.oddities import OTHER_CLASS, SEVERAL, WITHOUT_VALUE, Oddities
from seamline.attributes.values import (
    Vocabulary,
    cell_to_value,
    check_names,
    label_to_vocabulary,
    listed_values,
    ordered_values,
    value_below,
)
from seamline.base.coco import Coco, Record, images_of_split, raw_to_record, read_coco
from seamline.base.errors import SeamlineError, some
from seamline.base.files import read_json
from seamline.base.splits import SPLITS
from seamline.dataset.groups import field_groups
from seamline.masks.rle import segmentation_to_rle
from seamline.params.attributes import Attributes, Label

ANNOTATIONS = "annotations.json"
OBJECT = "attributes"  # the field that COCO's readers and the sample have them in


def collect(folder: Path, params: Attributes, split: Path | None) -> Collected:
    """Garments with the attributes that their annotations have.

    Args:
        folder: canonical, with annotations.json and images/.
        params: which fields, and what their values are called.
        split: the pipeline's split, which photos keep: a detector was trained on those of train.

    Raises:
        SeamlineError: when no annotation has such a field, or a value has no name.
    """
    coco = read_coco(folder / ANNOTATIONS)
    every = [record for record in map(raw_to_record, coco.annotations) if not record.get("iscrowd")]
    oddities, garments = Oddities(), []
    records = of_classes(every, coco, params.classes, oddities)
    vocabularies = vocabularies_of(records, params)
    images = {image.id: image for image in coco.image_refs()}
    splits = split_of_photos(split) if split is not None else {}
    groups = dict(zip(images, field_groups(coco, params.group_by).tolist(), strict=True))
    tied = groups_of_split(split, coco) if split is not None else {}
    for record in sorted(records, key=lambda one: int(one["id"])):
        image = images[record["image_id"]]
        values = {one.name: value_of(record, one, oddities) for one in vocabularies}
        if all(value is None for value in values.values()):
            oddities.add(WITHOUT_VALUE, name=str(record["id"]), detail=image.file_name)
            continue
        left, top, width, height = (float(side) for side in record["bbox"])
        garments.append(
            Garment(
                id=int(record["id"]),
                photo=folder / "images" / image.file_name,
                file_name=image.file_name,
                values=values,
                box=(left, top, left + width, top + height),
                mask=segmentation_to_rle(record["segmentation"], image.height, image.width),
                official=splits.get(image.file_name),
                belongs_to=f"{tied.get(image.id, f'group {groups[image.id]}')}",
            )
        )
    found = {}
    for one in vocabularies:
        seen = {value for garment in garments if (value := garment.values[one.name]) is not None}
        found[one.name] = ordered_values(seen, one)
    names = {
        "file": "file_name",
        "columns": {one.name: one.field for one in vocabularies},
        "codes": {one.name: first_codes(one.values, found[one.name]) for one in vocabularies},
    }
    photos = len({garment.file_name for garment in garments})
    return Collected("annotations", ANNOTATIONS, garments, found, oddities, names, len(every), photos)


def of_classes(records: list[Record], coco: Coco, classes: list[str] | None, oddities: Oddities) -> list[Record]:
    """The garments that attributes are of; the others are counted.

    Raises:
        SeamlineError: when the annotations do not know one of these classes.
    """
    if classes is None:
        return records
    names = {one.id: one.name for one in coco.category_refs()}
    if unknown := [name for name in classes if name not in names.values()]:
        raise SeamlineError(
            f"attributes.classes: the annotations of attributes.source have no class {unknown[0]!r}; they have "
            f"{some(sorted(names.values()))}, and null is all of them."
        )
    for record in records:
        if names[record["category_id"]] not in classes:
            oddities.add(OTHER_CLASS, name=str(record["id"]), detail=names[record["category_id"]])
    return [record for record in records if names[record["category_id"]] in classes]


def vocabularies_of(records: Iterable[Record], params: Attributes) -> list[Vocabulary]:
    """The attributes that params name, else the keys of the annotations' object `attributes`."""
    labels = params.labels
    if labels is None:
        objects = [record[OBJECT] for record in records if isinstance(record.get(OBJECT), dict)]
        labels = {key: Label(f"{OBJECT}.{key}") for key in sorted({key for one in objects for key in one})}
        check_names(labels)
    if not labels:
        raise SeamlineError(
            f"attributes.source: its annotations have no field {OBJECT!r}; name those that have attributes in "
            "attributes.labels."
        )
    found = [label_to_vocabulary(name, label, params.missing) for name, label in labels.items()]
    for one in found:
        if not any(value_below(record, one.field) is not None for record in records):
            names = sorted({key for record in records for key in fields_of(record)})
            raise SeamlineError(
                f"attributes.labels.{one.name}: no annotation has a value in the field {one.field!r}; fields are "
                f"{', '.join(names)}."
            )
    return found


def fields_of(record: Record) -> list[str]:
    """The fields of a record that may be attributes, those of objects as paths with a dot."""
    known = {"id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd"}
    return [
        path
        for key, value in record.items()
        if key not in known
        for path in ([f"{key}.{inner}" for inner in value] if isinstance(value, dict) else [key])
    ]


def value_of(record: Record, one: Vocabulary, oddities: Oddities) -> str | None:
    found = value_below(record, one.field)
    if not isinstance(found, list):
        return cell_to_value(found, one, f"annotation {record['id']}")
    if one.values is None:
        raise SeamlineError(
            f"annotation {record['id']}: the field {one.field!r} is a list; name the values that belong to this "
            f"attribute in attributes.labels.{one.name}.values."
        )
    value, several = listed_values(found, one)
    if several:
        oddities.add(SEVERAL, name=str(record["id"]), attribute=one.name, detail=" and ".join(several))
    return value


def split_of_photos(folder: Path) -> Mapping[str, str]:
    """The pipeline's split of each photo, by its file_name."""
    found: dict[str, str] = {}
    for split in SPLITS:
        found |= {path.name: split for path in images_of_split(folder / f"{split}.json", Path())}
    return found


def groups_of_split(folder: Path, coco: Coco) -> dict[int, str]:
    """What the split stage kept together, by the ids of photos that are in its groups under the same name."""
    groups = read_json(folder / "groups.json")
    known: dict[str, int] = {}
    for split in SPLITS:
        refs = read_coco(folder / f"{split}.json").image_refs()
        known |= {ref.file_name: ref.id for ref in refs}
    return {
        image.id: f"split {groups[str(known[image.file_name])]}"
        for image in coco.image_refs()
        if image.file_name in known
    }
