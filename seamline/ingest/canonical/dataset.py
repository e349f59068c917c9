"""The canonical dataset, and how what an adapter found becomes one.

Canonical: `annotations.json` beside `images/`; every id an integer, every image there and readable, no two images of
one name, every annotation with segmentation, bbox, area and iscrowd. Whatever differs is repaired where that is
certain, else dropped; both are counted under their reason. docs/data.md has the table.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from seamline.base.coco import Record, write_coco
from seamline.base.errors import SeamlineError
from seamline.base.escaping import has_control_character
from seamline.base.files import sha256_of
from seamline.ingest.canonical.annotations import canonical_annotations
from seamline.ingest.canonical.changes import Changes, Place
from seamline.ingest.canonical.identities import assigned_numbers, is_changed, is_identity, lookup
from seamline.ingest.canonical.images import (
    canonical_image,
    number_entries,
    place_image,
    readable_entries,
    usable_entries,
)
from seamline.ingest.canonical.source import Part, Source


def canonicalise(source: Source, target: Path, place: Callable[[Path, Path], None]) -> Record:
    """Write target/annotations.json and target/images/; `place` puts a file at its target.

    Returns:
        What was kept, repaired and dropped, for reports/pull.json. images_sha256 is the hash of a list, in the order
        of the image ids, as sha256sum prints it: each image's hash as it came, and its name in target/images.

    Raises:
        SeamlineError: when ids or categories contradict each other, no image is left, or none of the annotations.
    """
    changes = source.changes
    categories, category_ids = canonical_categories(source.parts, changes)
    entries = readable_entries(usable_entries(source.parts, changes), source.parts, changes)
    title = source.parts[0].title
    if not entries:
        raise SeamlineError(
            f"{title}: no image of it can be used ({reasons(changes.counts('dropped')) or 'it lists none'})."
        )
    number_entries(entries, source.parts, changes)
    for entry in tqdm(entries, desc="images", unit="image", disable=None):
        place_image(entry, target / "images", place)
    count = 0

    def counted(annotations: Iterable[Record]) -> Iterator[Record]:
        nonlocal count
        for annotation in annotations:
            count += 1
            yield annotation

    annotations = counted(canonical_annotations(source.parts, entries, category_ids, changes))
    write_coco(
        target / "annotations.json",
        (canonical_image(entry, source.parts[entry.part].split) for entry in entries),
        annotations,
        categories,
        source.attributes,
    )
    dropped = changes.counts("dropped")
    lost = {reason: count for reason, count in dropped.items() if reason.startswith("annotation:")}
    if lost and not count:
        raise SeamlineError(f"{title}: no annotation of it can be used ({reasons(lost)}).")
    report: Record = {
        "layout": source.layout,
        "images": len(entries),
        "annotations": count,
        "categories": len(categories),
        "annotations_sha256": sha256_of(target / "annotations.json"),
        "images_sha256": hashlib.sha256(
            "".join(f"{entry.picture.sha256}  {entry.name}\n" for entry in entries).encode()
        ).hexdigest(),
    }
    splits = Counter(source.parts[entry.part].split for entry in entries)
    if None not in splits:
        report["official_splits"] = {str(split): splits[split] for split in sorted(splits, key=str)}
    return {
        **report,
        "files_without_record": source.files_without_record,
        "repaired": changes.counts("repaired"),
        "dropped": dropped,
    }


def reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items())


def canonical_categories(parts: Sequence[Part], changes: Changes) -> tuple[list[Record], list[dict[Any, int]]]:
    """The categories of all parts by name, and for each part what its ids have become.

    Raises:
        SeamlineError: when a category has no name or no id, a name that cannot be printed, or one of another's.
    """
    by_name: dict[str, Record] = {}
    part_of: dict[str, Part] = {}
    for part in parts:
        seen: dict[str, set[Any]] = {"id": set(), "name": set()}
        for record in part.categories:
            if not (isinstance(record, dict) and is_identity(record.get("id")) and isinstance(record.get("name"), str)):
                raise SeamlineError(f"{part.title}: category {record!r} needs an id and a name.")
            if has_control_character(record["name"]):  # which a terminal would obey wherever the name is printed
                raise SeamlineError(
                    f"{part.title}: the category {record['name']!r} has a control character in its name."
                )
            for key, values in seen.items():
                if record[key] in values:
                    raise SeamlineError(f"{part.title}: two categories have the {key} {record[key]!r}.")
                values.add(record[key])
            by_name.setdefault(record["name"], record)
            part_of.setdefault(record["name"], part)
    numbers = dict(zip(by_name, assigned_numbers([record["id"] for record in by_name.values()], 0), strict=True))
    for name, record in by_name.items():
        if is_changed(numbers[name], record["id"]):
            reason = "category: id numbered anew, as it was text, no whole number or taken"
            changes.repair(reason, Place(part_of[name].title))
    ids = []
    for part in parts:
        position = lookup([record["id"] for record in part.categories])
        ids.append({key: numbers[part.categories[index]["name"]] for key, index in position.items()})
    categories = [{**by_name[name], "id": number} for name, number in numbers.items()]
    return sorted(categories, key=lambda category: int(category["id"])), ids
