"""Annotations of the canonical dataset: repaired where that is certain, else dropped and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from tqdm import tqdm

from seamline.base.coco import Record
from seamline.ingest.canonical.categories import CategoryIds, numbers_by_id
from seamline.ingest.canonical.changes import Changes, Place
from seamline.ingest.canonical.checks import Unusable
from seamline.ingest.canonical.crowds import Crowds, mask_form
from seamline.ingest.canonical.details import detail_of
from seamline.ingest.canonical.identities import assigned_numbers, found_in, is_changed, is_identity, lookup, record_of
from seamline.ingest.canonical.images import Entry, canonical_size
from seamline.ingest.canonical.judging import Contradiction, Setting
from seamline.ingest.canonical.repair import Mended, mend_annotation
from seamline.ingest.canonical.source import Part, Raw, Reading
from seamline.ingest.canonical.survey import check_extents, find_followers, plan_of, setting_of, surveyed
from seamline.ingest.canonical.tally import Tallies

DOUBLE = "annotation: has the mask and class of another of its image"


class Images:
    """Where the images of one part are that an annotation may mean.

    Args:
        part: the annotation file.
        entries: its images by their ids in it.
    """

    def __init__(self, part: Part, entries: Mapping[Any, Entry]) -> None:
        self.part = part
        self.ids = list(self.values("id"))
        self.names = [name if isinstance(name, str) else "" for name in self.values("file_name")]
        self.positions = lookup(self.ids)
        self.entries = entries

    def values(self, key: str) -> Iterator[Any]:
        """One field of every image with an id, those that were dropped included."""
        records = (record_of(raw) for raw in self.part.images)
        return (record.get(key) for record in records if record is not None and is_identity(record.get("id")))

    @cached_property
    def by_name(self) -> dict[str, int]:
        """The images' places by name, of names that only one has."""
        names = Counter(self.names)
        return {name: index for index, name in enumerate(self.names) if names[name] == 1}

    def name_of(self, identity: Any) -> str:
        """The file_name of an image, dropped or not; "" where there is none."""
        position = found_in(self.positions, identity)
        return "" if position is None else self.names[position]

    def size_of(self, identity: Any) -> tuple[int, int] | None:
        """Height and width of an image that was not dropped, by its id."""
        position = found_in(self.positions, identity)
        entry = None if position is None else self.entries.get(self.ids[position])
        return None if entry is None else canonical_size(entry)

    def find(self, identity: Any, repairs: list[str]) -> Entry:
        """Raises Unusable when there is none.

        Of all images, the dropped ones included: else its annotations might go to one with a similar id.
        """
        position = found_in(self.positions, identity)
        if position is None and isinstance(identity, str) and identity in self.by_name:
            position = self.by_name[identity]
            repairs.append("annotation: its image was given by its file name")
        if position is None:
            raise Unusable("annotation: its image is unknown")
        entry = self.entries.get(self.ids[position])
        if entry is None:
            raise Unusable("annotation: its image was dropped")
        return entry


def canonical_annotations(
    parts: Sequence[Part],
    entries: Sequence[Entry],
    category_ids: Sequence[CategoryIds],
    changes: Changes,
    crowds: Crowds,
    tallies: Tallies,
    reading: Reading,
) -> Iterator[Record]:
    """Every usable annotation in the order of the ids; changes, crowds and tallies are complete after the last one.

    Ids are at least 1: pycocotools takes a match with an instance of id 0 for no match.

    Raises:
        SeamlineError: when too many contradict themselves, or their category ids are those of other categories.
    """
    images = [Images(part, by_id) for part, by_id in zip(parts, entries_by_id(entries, len(parts)), strict=True)]
    raws = list(without_repeated(parts, images, changes))
    sizes = [image.size_of for image in images]
    identities, extents = surveyed(raws, sizes)
    find_followers(raws, extents, sizes, reading.convention)
    check_extents(parts, extents, reading.convention)
    plans = [plan_of(extent, reading.convention) for extent in extents]
    categories = [
        numbers_by_id(part, ids, extent.categories, reading.category_ids)
        for part, ids, extent in zip(parts, category_ids, extents, strict=True)
    ]
    numbers = assigned_numbers(identities, 1)
    order = sorted(range(len(raws)), key=lambda index: numbers[index])
    masks: set[int] = set()
    for index in tqdm(order, desc="annotations", unit="annotation", disable=None):
        part, raw = raws[index]
        entry, record, repairs = None, record_of(raw), list[str]()
        try:
            if record is None:
                raise Unusable("annotation: is not an object, or cannot be read")
            entry = images[part].find(record.get("image_id"), repairs)
            category = category_of(record.get("category_id"), categories[part], category_ids[part], repairs)
            form = mask_form(record.get("segmentation"))
            setting = setting_of(entry, plans[part], reading.convention)
            where = f"{parts[part].title}: annotation {record.get('id')!r}"
            mended = mended_and_told(record, entry, part, setting, tallies, where)
            refuse_double(masks, entry, category, record, mended)
        except Unusable as unusable:
            place = place_of(parts[part], entry, record, images[part])
            changes.drop(str(unusable), place, detail_of(unusable, record, entry))
            tallies.incomplete |= {entry.number} if entry and str(unusable) != DOUBLE else set()
            continue
        crowds.count(form, record["iscrowd"])
        tallies.add(part, mended, record, setting, where)
        repairs += mended.repairs
        identity = record.get("id")
        if is_changed(numbers[index], identity):
            repairs.append("annotation: id numbered anew, as it was missing, zero, text or taken")
            record |= {} if identity is None else {"source_id": record.get("source_id", identity)}
        for reason in repairs:
            changes.repair(reason, place_of(parts[part], entry, record, images[part]))
        yield {**record, "id": numbers[index], "image_id": entry.number, "category_id": category}
    tallies.check(reading.convention)
    tallies.say(reading.convention)


def entries_by_id(entries: Sequence[Entry], parts: int) -> list[dict[Any, Entry]]:
    """Of each part the images by their ids in it; those of several parts in each of them."""
    found: list[dict[Any, Entry]] = [{} for _ in range(parts)]
    for entry in entries:
        for part, identity in ((entry.part, entry.head.id), *entry.also.items()):
            found[part][identity] = entry
    return found


def mended_and_told(record: Record, entry: Entry, part: int, setting: Setting, tallies: Tallies, where: str) -> Mended:
    """The annotation mended in place; what says something of the whole source or file goes to `tallies`."""
    if entry.upright:
        tallies.add_turned(part, record.get("segmentation"), setting, where)
    try:
        return mend_annotation(record, setting)
    except Contradiction as contradiction:
        tallies.add_contradiction(part, contradiction, setting, where)
        raise


def category_of(identity: Any, numbers: Mapping[Any, int], ids: CategoryIds, repairs: list[str]) -> int:
    """Raises Unusable when there is no such category."""
    category = found_in(numbers, identity)
    if category is not None and numbers is not ids.by_id and found_in(ids.by_id, identity) != category:
        repairs.append("annotation: its category_id was read as pull.category_ids says")
    if category is None and isinstance(identity, str) and identity in ids.by_name:
        repairs.append("annotation: its category was given by its name")
        return ids.by_name[identity]
    if category is None:
        raise Unusable("annotation: its category is unknown")
    return category


def refuse_double(masks: set[int], entry: Entry, category: int, record: Record, mended: Mended) -> None:
    """Raises Unusable when an annotation before has the same mask: for pycocotools it would be missed for ever."""
    key = hash((entry.number, category, record["iscrowd"], mended.rle["counts"]))
    if key in masks:
        raise Unusable(DOUBLE)
    masks.add(key)


def without_repeated(parts: Sequence[Part], images: Sequence[Images], changes: Changes) -> Iterator[tuple[int, Raw]]:
    """Every annotation with its part; exact copies only once."""
    seen: set[tuple[int, int]] = set()
    for index, part in enumerate(parts):
        for raw in part.annotations:
            key = (index, hash(bytes(raw)))
            if key in seen:
                changes.drop("annotation: listed twice", place_of(part, None, record_of(raw), images[index]))
                continue
            seen.add(key)
            yield index, raw


def place_of(part: Part, entry: Entry | None, record: Record | None, images: Images) -> Place:
    record = record or {}
    if entry is None:
        identity = record.get("image_id", "")
        return Place(part.title, images.name_of(identity), identity, record.get("id", ""))
    return Place(part.title, entry.head.file_name, entry.head.id, record.get("id", ""))
