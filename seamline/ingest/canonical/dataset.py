"""The canonical dataset, and how what an adapter found becomes one.

Canonical: `annotations.json` beside `images/`; every id an integer, every image there and readable, no two images of
one name, every annotation with segmentation, bbox, area and iscrowd. What is not so is repaired where that is certain,
else dropped; both are counted under their reason. docs/data.md has the table.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from tqdm import tqdm

from seamline.base.coco import Record, write_coco
from seamline.base.errors import SeamlineError
from seamline.base.escaping import has_control_character
from seamline.base.files import folded, sha256_of
from seamline.base.parallel import in_threads
from seamline.images.files import (
    PIPELINE_SUFFIXES,
    SUFFIX_OF_FORMAT,
    Picture,
    inspect,
    with_right_end,
    without_orientation,
)
from seamline.ingest.canonical.repair import Unusable, mend_annotation, whole_number

Raw = bytes | msgspec.Raw
MAX_NAME_BYTES = 200
EXIF_AMBIGUOUS = "image: EXIF turns it, and nothing says which way its masks lie"


class Part(msgspec.Struct):
    """One annotation file, or what comes to the same: ids mean something within it only."""

    title: str  # what error messages call it
    images: Sequence[Raw]  # JSON objects with at least id and file_name
    files: Sequence[Path | None]  # each image's file
    annotations: Sequence[Raw]  # COCO-like JSON objects
    categories: Sequence[Record]  # with id and name
    split: str | None = None  # train, val or test, where the source says so


class Source(msgspec.Struct):
    """A dataset as an adapter found it."""

    layout: str
    parts: Sequence[Part]
    attributes: msgspec.Raw = msgspec.Raw(b"[]")  # Fashionpedia's table of them
    files_without_record: int = 0
    dropped: dict[str, int] = {}  # by the adapter itself


class ImageHead(msgspec.Struct, gc=False):
    """What is checked of an image record before its file is looked at; any type, as it comes."""

    id: Any = None
    file_name: Any = None
    height: Any = None
    width: Any = None


class Entry(msgspec.Struct):
    """An image that stays so far."""

    part: int
    raw: Raw
    head: ImageHead
    path: Path
    number: int = 0
    name: str = ""
    picture: Picture = Picture(0, 0, "")
    upright: bool = False  # to be written without its EXIF orientation


def canonicalise(source: Source, target: Path, place: Callable[[Path, Path], None]) -> Record:
    """Write target/annotations.json and target/images/; `place` puts a file at its target.

    Returns:
        What was kept, repaired and dropped, for reports/pull.json. images_sha256 is the hash of a list, in the order
        of the image ids, as sha256sum prints it: each image's hash as it came, and its name in target/images.

    Raises:
        SeamlineError: when ids or categories contradict each other, no image is left, or none of the annotations.
    """
    dropped, repaired = Counter(source.dropped), Counter[str]()
    categories, category_ids = canonical_categories(source.parts, repaired)
    entries = readable_entries(usable_entries(source.parts, dropped), dropped, repaired)
    title = source.parts[0].title
    if not entries:
        raise SeamlineError(f"{title}: no image of it can be used ({reasons(dropped) or 'it lists none'}).")
    number_entries(entries, source.parts, repaired)
    for entry in tqdm(entries, desc="images", unit="image", disable=None):
        place_image(entry, target / "images", place)
    kept = Counter[str]()
    write_coco(
        target / "annotations.json",
        (canonical_image(entry, source.parts[entry.part].split) for entry in entries),
        canonical_annotations(source.parts, entries, category_ids, kept, dropped, repaired),
        categories,
        source.attributes,
    )
    lost = Counter({reason: count for reason, count in dropped.items() if reason.startswith("annotation:")})
    if lost and not kept["annotations"]:
        raise SeamlineError(f"{title}: no annotation of it can be used ({reasons(lost)}).")
    report: Record = {
        "layout": source.layout,
        "images": len(entries),
        "annotations": kept["annotations"],
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
        "repaired": dict(sorted(repaired.items())),
        "dropped": dict(sorted(dropped.items())),
    }


def reasons(dropped: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))


def canonical_categories(parts: Sequence[Part], repaired: Counter[str]) -> tuple[list[Record], list[dict[Any, int]]]:
    """The categories of all parts by name, and for each part what its ids have become.

    Raises:
        SeamlineError: when a category has no name or no id, a name that is no text to print, or one of another's.
    """
    by_name: dict[str, Record] = {}
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
    numbers = dict(zip(by_name, assigned_numbers([record["id"] for record in by_name.values()], 0), strict=True))
    changed = sum(is_changed(numbers[name], record["id"]) for name, record in by_name.items())
    if changed:
        repaired["category: id numbered anew, as it was text, no whole number or taken"] += changed
    ids = []
    for part in parts:
        position = lookup([record["id"] for record in part.categories])
        ids.append({key: numbers[part.categories[index]["name"]] for key, index in position.items()})
    categories = [{**by_name[name], "id": number} for name, number in numbers.items()]
    return sorted(categories, key=lambda category: int(category["id"])), ids


def assigned_numbers(identities: Sequence[Any], lowest: int) -> list[int]:
    """A number of its own for every record: its id where that is a whole number and not taken, else the next free."""
    numbers = [whole_number(identity) for identity in identities]
    free = max((number for number in numbers if number is not None), default=0) + 1
    taken: set[int] = set()
    result = []
    for number in numbers:
        if number is None or number < lowest or number in taken:
            number, free = free, free + 1
        taken.add(number)
        result.append(number)
    return result


def is_changed(number: int, identity: Any) -> bool:
    return number != identity or isinstance(identity, str)


def lookup(identities: Sequence[Any]) -> dict[Any, int]:
    """What records may be called by -> their position: their very id, and the whole number it is, where only one is."""
    positions: dict[Any, int] = {}
    for position, identity in enumerate(identities):
        number = whole_number(identity)
        if number is not None:
            positions[number] = -1 if number in positions else position
    positions = {number: position for number, position in positions.items() if position >= 0}
    return positions | {identity: position for position, identity in enumerate(identities)}


def found_in(positions: Mapping[Any, int], identity: Any) -> int | None:
    if not is_identity(identity):
        return None
    return positions.get(identity, positions.get(whole_number(identity)))


def usable_entries(parts: Sequence[Part], dropped: Counter[str]) -> list[Entry]:
    """Image records that say which image they mean, with files of their own.

    Raises:
        SeamlineError: when two different images of a part have one id, so that their annotations cannot be told apart.
    """
    entries = []
    for index, part in enumerate(parts):
        by_id: dict[Any, ImageHead] = {}
        taken: set[Path] = set()
        for raw, path in zip(part.images, part.files, strict=True):
            record = record_of(raw)
            if record is None:
                dropped["image: its record cannot be read"] += 1
                continue
            head = ImageHead(*(record.get(key) for key in ImageHead.__struct_fields__))
            if not is_identity(head.id) or not isinstance(head.file_name, str):
                dropped["image: its record has no id or no file_name"] += 1
                continue
            other = by_id.setdefault(head.id, head)
            if other is not head:
                if other.file_name != head.file_name:
                    raise SeamlineError(
                        f"{part.title}: the images {other.file_name!r} and {head.file_name!r} have the same id "
                        f"{head.id!r}; whose its annotations are cannot be told."
                    )
                dropped["image: listed twice"] += 1
            elif path is None:
                dropped["image: file is missing"] += 1
            elif path in taken:
                dropped["image: another record has its file"] += 1
            else:
                taken.add(path)
                entries.append(Entry(part=index, raw=raw, head=head, path=path))
    return entries


def record_of(raw: Raw) -> Record | None:
    """A record; None where it is no object, is not UTF-8 or has a number out of range."""
    try:
        record: Record = msgspec.json.decode(raw, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return record


def is_identity(value: Any) -> bool:
    return isinstance(value, (int, str, float)) and not isinstance(value, bool)


def readable_entries(entries: Sequence[Entry], dropped: Counter[str], repaired: Counter[str]) -> list[Entry]:
    """Those whose file can be read and has the size its record says; which way up, where EXIF turns it.

    A tool wrote masks either on images as EXIF shows them or as they are stored. Which one is told by images lying on
    their side, whose height and width change places; for the others it is taken over when all of those agree.
    """
    pictures = in_threads(lambda entry: inspect(entry.path), entries)
    progress = tqdm(zip(entries, pictures, strict=True), desc="reading images", total=len(entries), disable=None)
    candidates, shown, stored = [], 0, 0
    for entry, picture in progress:
        if isinstance(picture, str):
            dropped[picture] += 1
            continue
        entry.picture = picture
        if picture.orientation > 1 and record_size(entry.head) is not None:
            fits = [record_size(entry.head) == size for size in (size_of(picture), picture.stored_size)]
            shown, stored = shown + (fits == [True, False]), stored + (fits == [False, True])
        candidates.append(entry)
    kept = []
    for entry in candidates:
        reason = entry_problem(entry, shown, stored)
        if reason is not None:
            dropped[reason] += 1
            continue
        if entry.upright:
            repaired["image: EXIF orientation taken out, as its masks ignore it"] += 1
        if record_size(entry.head) is None:
            repaired["image: size was missing, taken from the file"] += 1
        if entry.picture.wrong_end:
            repaired["image: the end of the JPEG put right"] += 1
        kept.append(entry)
    return kept


def entry_problem(entry: Entry, shown: int, stored: int) -> str | None:
    """Why an image cannot stay; decides whether it is to be written upright."""
    size, picture = record_size(entry.head), entry.picture
    if picture.orientation == 1:
        fits = size in (None, size_of(picture))
    elif size is None or size_of(picture) == picture.stored_size == size:
        if (shown == 0) == (stored == 0):
            return EXIF_AMBIGUOUS
        entry.upright, fits = stored > 0, True
    else:
        entry.upright = size == picture.stored_size
        fits = entry.upright or size == size_of(picture)
    return None if fits else "image: has another size than its record says"


def size_of(picture: Picture) -> tuple[int, int]:
    return picture.height, picture.width


def record_size(head: ImageHead) -> tuple[int, int] | None:
    """Height and width as the record says; None where it does not say both."""
    height, width = whole_number(head.height), whole_number(head.width)
    return (height, width) if height and width else None


def number_entries(entries: list[Entry], parts: Sequence[Part], repaired: Counter[str]) -> None:
    """Give every image its number and a flat name, and sort them by number."""
    stems: set[str] = set()
    numbers = assigned_numbers([entry.head.id for entry in entries], 0)
    for entry, number in zip(entries, numbers, strict=True):
        entry.number = number
        if is_changed(number, entry.head.id):
            repaired["image: id numbered anew, as it was text, no whole number or taken"] += 1
        prefix = f"{parts[entry.part].split}__" if len(parts) > 1 and parts[entry.part].split else ""
        entry.name = unique_stem(entry.head.file_name, prefix, stems) + suffix_of(entry)
        if entry.name != entry.head.file_name:
            repaired["image: renamed, as its name had folders, was taken, or was no file name of its format"] += 1
    entries.sort(key=lambda entry: entry.number)


def suffix_of(entry: Entry) -> str:
    if entry.upright and entry.picture.format not in ("JPEG", "MPO"):
        return ".png"
    own = PurePosixPath(entry.head.file_name).suffix
    return own if own.lower() in PIPELINE_SUFFIXES else SUFFIX_OF_FORMAT[entry.picture.format]


def unique_stem(source_name: str, prefix: str, stems: set[str]) -> str:
    """A flat name without suffix: the last part, with the folders before it, then a number, where that is taken.

    Unique without its suffix, since a.jpg and a.png would share the label a.txt; and whatever its upper and lower case,
    since A.jpg and a.jpg are one file on most Macs.
    """
    parts = PurePosixPath(source_name.replace("\\", "/")).with_suffix("").parts
    candidates = (prefix + "__".join(parts[-length:]) for length in range(1, len(parts) + 1))
    numbered = (f"{prefix}{'__'.join(parts)}__{number}" for number in itertools.count(2))
    plain = (plain_name(stem) for stem in itertools.chain(candidates, numbered))
    stem = next(stem for stem in plain if folded(stem) not in stems)
    stems.add(folded(stem))
    return stem


def canonical_size(entry: Entry) -> tuple[int, int]:
    return entry.picture.stored_size if entry.upright else size_of(entry.picture)


def plain_name(stem: str) -> str:
    """Without what would end a line in a list of files, and short enough for any file system with something added."""
    stem = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", "_", stem)
    return stem.encode(errors="replace")[-MAX_NAME_BYTES:].decode(errors="ignore")


def place_image(entry: Entry, folder: Path, place: Callable[[Path, Path], None]) -> None:
    folder.mkdir(exist_ok=True)
    if entry.upright:
        (folder / entry.name).write_bytes(without_orientation(entry.path.read_bytes(), entry.picture.format)[0])
    elif entry.picture.wrong_end:
        (folder / entry.name).write_bytes(with_right_end(entry.path.read_bytes()) or b"")
    else:
        place(entry.path, folder / entry.name)


def canonical_image(entry: Entry, split: str | None) -> Record:
    """The image's record with what has changed; what it was is kept beside."""
    record: Record = msgspec.json.decode(entry.raw)
    height, width = canonical_size(entry)
    extra: Record = {}
    if is_changed(entry.number, record["id"]):
        extra["source_id"] = record.get("source_id", record["id"])
    if entry.name != record["file_name"]:
        extra["source_file_name"] = record.get("source_file_name", record["file_name"])
    if split is not None:
        extra["split"] = split
    return {**record, "id": entry.number, "file_name": entry.name, "width": width, "height": height, **extra}


def canonical_annotations(
    parts: Sequence[Part],
    entries: Sequence[Entry],
    category_ids: Sequence[Mapping[Any, int]],
    kept: Counter[str],
    dropped: Counter[str],
    repaired: Counter[str],
) -> Iterator[Record]:
    """Every usable annotation in the order of the ids; the counters are complete when the last one is taken.

    Ids are at least 1: pycocotools takes a match with an instance of id 0 for none.
    """
    raws = list(without_repeated(parts, dropped))
    numbers = assigned_numbers([annotation_id(raw) for _, raw in raws], 1)
    order = sorted(range(len(raws)), key=lambda index: numbers[index])
    images = [{entry.head.id: entry for entry in entries if entry.part == index} for index in range(len(parts))]
    listed = [listed_ids(part) for part in parts]
    positions = [lookup(ids) for ids in listed]
    for index in tqdm(order, desc="annotations", unit="annotation", disable=None):
        part, raw = raws[index]
        try:
            record = record_of(raw)
            if record is None:
                raise Unusable("annotation: is no object, or cannot be read")
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
            repairs = mend_annotation(record, *canonical_size(entry))
        except Unusable as reason:
            dropped[str(reason)] += 1
            continue
        identity = record.get("id")
        if is_changed(numbers[index], identity):
            repairs.append("annotation: id numbered anew, as it was missing, zero, text or taken")
            record |= {} if identity is None else {"source_id": record.get("source_id", identity)}
        repaired.update(repairs)
        kept["annotations"] += 1
        yield {**record, "id": numbers[index], "image_id": entry.number, "category_id": category}


def listed_ids(part: Part) -> list[Any]:
    """The ids of all the part's images, those that were dropped included."""
    records = (record_of(raw) for raw in part.images)
    return [record["id"] for record in records if record is not None and is_identity(record.get("id"))]


def without_repeated(parts: Sequence[Part], dropped: Counter[str]) -> Iterator[tuple[int, Raw]]:
    """Every annotation with its part; those that are there twice, letter by letter, once only."""
    seen: set[tuple[int, int]] = set()
    for index, part in enumerate(parts):
        for raw in part.annotations:
            key = (index, hash(bytes(raw)))
            if key in seen:
                dropped["annotation: listed twice"] += 1
                continue
            seen.add(key)
            yield index, raw


def annotation_id(raw: Raw) -> Any:
    record = record_of(raw)
    return None if record is None else record.get("id")
