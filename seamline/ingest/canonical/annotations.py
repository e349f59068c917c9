"""Annotations of the canonical dataset: repaired where that is certain, else dropped and counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from seamline.base.coco import Record
from seamline.ingest.canonical.changes import Changes, Place
from seamline.ingest.canonical.crowds import Crowds, mask_form
from seamline.ingest.canonical.identities import assigned_numbers, found_in, is_changed, is_identity, lookup, record_of
from seamline.ingest.canonical.images import Entry, canonical_size
from seamline.ingest.canonical.repair import Unusable, mend_annotation
from seamline.ingest.canonical.source import Part, Raw


def canonical_annotations(
    parts: Sequence[Part],
    entries: Sequence[Entry],
    category_ids: Sequence[Mapping[Any, int]],
    changes: Changes,
    crowds: Crowds,
) -> Iterator[Record]:
    """Every usable annotation in the order of the ids; the changes and crowds are complete when the last one is taken.

    Ids are at least 1: pycocotools takes a match with an instance of id 0 for no match.
    """
    raws = list(without_repeated(parts, changes))
    numbers = assigned_numbers([annotation_id(raw) for _, raw in raws], 1)
    order = sorted(range(len(raws)), key=lambda index: numbers[index])
    images = [{entry.head.id: entry for entry in entries if entry.part == index} for index in range(len(parts))]
    listed = [listed_ids(part) for part in parts]
    positions = [lookup(ids) for ids in listed]
    for index in tqdm(order, desc="annotations", unit="annotation", disable=None):
        part, raw = raws[index]
        entry = None
        record = record_of(raw)
        try:
            if record is None:
                raise Unusable("annotation: is not an object, or cannot be read")
            # Of all images, the dropped ones included: else its annotations might go to one with a similar id.
            position = found_in(positions[part], record.get("image_id"))
            if position is None:
                raise Unusable("annotation: its image is unknown")
            entry = images[part].get(listed[part][position])
            if entry is None:
                raise Unusable("annotation: its image was dropped")
            category = found_in(category_ids[part], record.get("category_id"))
            if category is None:
                raise Unusable("annotation: its category is unknown")
            form = mask_form(record.get("segmentation"))
            repairs = mend_annotation(record, *canonical_size(entry))
        except Unusable as unusable:
            changes.drop(str(unusable), place_of(parts[part], entry, record))
            continue
        crowds.count(form, record["iscrowd"])
        identity = record.get("id")
        if is_changed(numbers[index], identity):
            repairs.append("annotation: id numbered anew, as it was missing, zero, text or taken")
            record |= {} if identity is None else {"source_id": record.get("source_id", identity)}
        if repairs:
            place = place_of(parts[part], entry, record)
            for reason in repairs:
                changes.repair(reason, place)
        yield {**record, "id": numbers[index], "image_id": entry.number, "category_id": category}


def listed_ids(part: Part) -> list[Any]:
    """The ids of all the part's images, those that were dropped included."""
    records = (record_of(raw) for raw in part.images)
    return [record["id"] for record in records if record is not None and is_identity(record.get("id"))]


def without_repeated(parts: Sequence[Part], changes: Changes) -> Iterator[tuple[int, Raw]]:
    """Every annotation with its part; exact copies only once."""
    seen: set[tuple[int, int]] = set()
    for index, part in enumerate(parts):
        for raw in part.annotations:
            key = (index, hash(bytes(raw)))
            if key in seen:
                changes.drop("annotation: listed twice", place_of(part, None, record_of(raw)))
                continue
            seen.add(key)
            yield index, raw


def annotation_id(raw: Raw) -> Any:
    record = record_of(raw)
    return None if record is None else record.get("id")


def place_of(part: Part, entry: Entry | None, record: Record | None) -> Place:
    record = record or {}
    if entry is None:
        return Place(part.title, "", record.get("image_id", ""), record.get("id", ""))
    return Place(part.title, entry.head.file_name, entry.head.id, record.get("id", ""))
