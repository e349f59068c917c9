"""Images of the canonical dataset: those that can be used, the right way up, each with a number and a plain name."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError, some
from seamline.base.escaping import to_terminal
from seamline.base.files import folded
from seamline.images.files import (
    PIPELINE_SUFFIXES,
    SUFFIX_OF_FORMAT,
    Picture,
    with_right_end,
    without_orientation,
)
from seamline.ingest.canonical.changes import Changes, Place
from seamline.ingest.canonical.identities import assigned_numbers, is_changed, is_identity, record_of, whole_number
from seamline.ingest.canonical.photo_files import read_pictures
from seamline.ingest.canonical.source import Part, Raw

MAX_NAME_BYTES = 200
OTHER_SIZE = "image: has another size than its record says"
MAX_OFF = 2  # pixels a side; a record whose size is off by that is of this photo, which a tool has rounded
AS_SHOWN, AS_STORED = "as_shown", "as_stored"  # what pull.convention says of photos that EXIF turns
OF_IMAGES = ("exchanged", AS_SHOWN, AS_STORED)  # conventions that change nothing of how annotations are read
EXIF_AMBIGUOUS = "image: EXIF turns it, and nothing says which way its masks lie"


class ImageHead(msgspec.Struct, gc=False):
    """What is checked of an image record before its file is looked at; any type, as it is in the file."""

    id: Any = None
    file_name: Any = None
    height: Any = None
    width: Any = None


class Entry(msgspec.Struct):
    """An image that has not been dropped so far."""

    part: int
    raw: Raw
    head: ImageHead
    path: Path
    number: int = 0
    name: str = ""
    picture: Picture = Picture(0, 0, "")
    upright: bool = False  # to be written without its EXIF orientation
    also: dict[int, Any] = {}  # other parts of no split that have the photo, and its id there


def place_of(part: Part, head: ImageHead) -> Place:
    return Place(part.title, head.file_name if isinstance(head.file_name, str) else "", head.id)


def usable_entries(parts: Sequence[Part], changes: Changes) -> list[Entry]:
    """Image records that name an image, each with a file of its own.

    A photo in several annotation files that are read together is one image, with the annotations of all.

    Raises:
        SeamlineError: when two different images of a part have one id: nothing says whose the annotations are.
    """
    entries = []
    together: dict[Path, Entry] = {}
    for index, part in enumerate(parts):
        by_id: dict[Any, ImageHead] = {}
        taken: set[Path] = set()
        for raw, path in zip(part.images, part.files, strict=True):
            record = record_of(raw)
            if record is None:
                changes.drop("image: its record cannot be read", Place(part.title))
                continue
            head = ImageHead(*(record.get(key) for key in ImageHead.__struct_fields__))
            place = place_of(part, head)
            if not is_identity(head.id) or not isinstance(head.file_name, str):
                changes.drop("image: its record has no id or no file_name", place)
                continue
            other = by_id.setdefault(head.id, head)
            if other is not head:
                if other.file_name != head.file_name:
                    raise SeamlineError(
                        f"{part.title}: the images {other.file_name!r} and {head.file_name!r} have the same id "
                        f"{head.id!r}; nothing says whose its annotations are."
                    )
                changes.drop("image: listed twice", place)
            elif path is None:
                changes.drop("image: file is missing", place)
            elif path in taken:
                changes.drop("image: another record has its file", place)
            elif part.split is None and path in together:
                taken.add(path)
                entry = together[path]
                if None not in (sizes := [record_size(entry.head), record_size(head)]) and sizes[0] != sizes[1]:
                    changes.drop("image: another annotation file has it with another size", place)
                    continue
                entry.also[index] = head.id
                changes.repair("image: also in another annotation file, taken for the same", place)
            else:
                taken.add(path)
                entries.append(Entry(part=index, raw=raw, head=head, path=path))
                together[path] = entries[-1]
    return entries


def readable_entries(
    entries: Sequence[Entry], parts: Sequence[Part], changes: Changes, convention: str | float | None = None
) -> tuple[list[Entry], dict[str, list[Entry]]]:
    """Those whose file can be read and has the size its record says, and those dropped, by the reason.

    With pull.convention `scaled` another size of the same shape is allowed: masks are scaled from the one to the other;
    with `exchanged` one with width and height exchanged, whose masks are taken for those of the file.

    A tool wrote masks either on images as EXIF shows them or as they are stored. Images lying on their side, whose
    height and width change places, show which; for the others it is taken over when all of those agree, or said by
    pull.convention: as_shown or as_stored.
    """
    candidates, shown, stored = [], 0, 0
    odd: dict[str, str] = {}
    pictures = read_pictures([entry.path for entry in entries])
    for entry, (picture, said) in zip(entries, pictures, strict=True):
        if said:
            odd[to_terminal(entry.head.file_name)] = said
        if isinstance(picture, str):
            changes.drop(picture, place_of(parts[entry.part], entry.head))
            continue
        entry.picture = picture
        if picture.orientation > 1 and record_size(entry.head) is not None:
            fits = [record_size(entry.head) == size for size in (size_of(picture), picture.stored_size)]
            shown, stored = shown + (fits == [True, False]), stored + (fits == [False, True])
        candidates.append(entry)
    if odd:
        print(f"odd JPEG data in {some(list(odd))}: {next(iter(odd.values()))}; look whether the pictures are whole")
    if convention in (AS_SHOWN, AS_STORED):
        shown, stored = int(convention == AS_SHOWN), int(convention == AS_STORED)
    usable: list[Entry] = []
    others: dict[str, list[Entry]] = {OTHER_SIZE: [], EXIF_AMBIGUOUS: []}
    for entry in candidates:
        reason = entry_problem(entry, shown, stored)
        if reason == OTHER_SIZE and other_size_of(entry) == convention is not None:
            reason = None
        place = place_of(parts[entry.part], entry.head)
        if reason is not None:
            changes.drop(reason, place, sizes_of(entry) if reason == OTHER_SIZE else "")
            others[reason].append(entry)
            continue
        if entry.upright:
            changes.repair("image: EXIF orientation taken out, as its masks ignore it", place)
        if record_size(entry.head) is None:
            changes.repair("image: size was missing, taken from the file", place)
        elif convention not in ("scaled", "exchanged") and record_size(entry.head) != canonical_size(entry):
            changes.repair("image: size was off by a pixel or two, taken from the file", place)
        if entry.picture.wrong_end:
            changes.repair("image: the end of the JPEG put right", place)
        usable.append(entry)
    return usable, others


def entry_problem(entry: Entry, shown: int, stored: int) -> str | None:
    """Why an image cannot stay; decides whether it is to be written upright."""
    size, picture = record_size(entry.head), entry.picture
    if picture.orientation == 1:
        fits = size is None or is_near(size, size_of(picture))
    elif size is None or size_of(picture) == picture.stored_size == size:
        if (shown == 0) == (stored == 0):
            return EXIF_AMBIGUOUS
        entry.upright, fits = stored > 0, True
    else:
        entry.upright = size == picture.stored_size
        fits = entry.upright or size == size_of(picture)
        near = [is_near(size, each) for each in (size_of(picture), picture.stored_size)]
        if not fits and sum(near) == 1:  # of a photo that is almost square both are near
            entry.upright, fits = near[1], True
    return None if fits else OTHER_SIZE


def is_near(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(abs(size[0] - other[0]), abs(size[1] - other[1])) <= MAX_OFF


def sizes_of(entry: Entry) -> str:
    (height, width), said = size_of(entry.picture), record_size(entry.head) or (0, 0)
    return f"record {said[0]} x {said[1]}, file {height} x {width} (height x width)"


def other_size_of(entry: Entry) -> str | None:
    """What a file of another size than its record says is, as pull.convention calls it.

    The photo that the record describes, only larger or smaller (to whole pixels); or with width and height exchanged.
    """
    size, (height, width) = record_size(entry.head), size_of(entry.picture)
    if size is None:
        return None
    if size == (width, height):
        return "exchanged"
    return "scaled" if abs(size[0] * width - size[1] * height) <= max(*size, height, width) else None


class Loss(NamedTuple):
    """Photos that are dropped for one reason, and what to try."""

    photos: int
    what: str
    hint: str


def losses_of(others: Mapping[str, Sequence[Entry]]) -> list[Loss]:
    """Of the photos that are dropped, those that pull.convention may keep, most of one kind first."""
    sizes, turned = others[OTHER_SIZE], others[EXIF_AMBIGUOUS]
    which = f"pull.convention: {AS_SHOWN} or {AS_STORED} says which way their masks lie"
    losses = [
        Loss(len(sizes), "of another size than the record says", other_size_hint(sizes)),
        Loss(len(turned), "with masks that may lie as EXIF turns them or not", which),
    ]
    return sorted((loss for loss in losses if loss.photos), key=lambda loss: -loss.photos)


def other_size_hint(entries: Sequence[Entry]) -> str:
    """What to try where photos have another size than their records say; what they are where it keeps under half."""
    kinds = Counter(kind for entry in entries if (kind := other_size_of(entry)) is not None)
    kind, count = next(iter(kinds.most_common(1)), ("", 0))
    if not entries:
        return ""
    if count < len(entries) / 2:
        return "most have another shape, too, so that they were cut, padded or stretched since, and nothing says how"
    return {
        "scaled": "pull.convention: scaled reads masks for photos of another size",
        "exchanged": "pull.convention: exchanged takes width and height for exchanged in the records",
    }[kind]


def size_of(picture: Picture) -> tuple[int, int]:
    return picture.height, picture.width


def record_size(head: ImageHead) -> tuple[int, int] | None:
    """Height and width as the record says; None where it does not say both."""
    height, width = whole_number(head.height), whole_number(head.width)
    return (height, width) if height and width else None


def number_entries(entries: list[Entry], parts: Sequence[Part], changes: Changes) -> None:
    """Give every image its number and a flat name, and sort them by number."""
    stems: set[str] = set()
    numbers = assigned_numbers([entry.head.id for entry in entries], 0)
    for entry, number in zip(entries, numbers, strict=True):
        part = parts[entry.part]
        place, entry.number = place_of(part, entry.head), number
        if is_changed(number, entry.head.id):
            changes.repair("image: id numbered anew, as it was text, no whole number or taken", place)
        prefix = f"{part.split}__" if len(parts) > 1 and part.split else ""
        entry.name = unique_stem(entry.head.file_name, prefix, stems) + suffix_of(entry)
        if entry.name != entry.head.file_name:
            reason = "image: renamed, as its name had folders, was taken, or was no file name of its format"
            changes.repair(reason, place, f"now {entry.name}")
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
        data, picture = entry.path.read_bytes(), entry.picture
        (folder / entry.name).write_bytes(without_orientation(data, picture.format, picture.orientation)[0])
    elif entry.picture.wrong_end:
        (folder / entry.name).write_bytes(with_right_end(entry.path.read_bytes()) or b"")
    else:
        place(entry.path, folder / entry.name)


def canonical_image(entry: Entry, split: str | None) -> Record:
    """The image's record with what has changed; old values stay in fields named source_..."""
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
