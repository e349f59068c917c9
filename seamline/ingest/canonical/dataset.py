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

from tqdm import tqdm

from seamline.base.coco import Record, write_coco
from seamline.base.errors import SeamlineError, counted
from seamline.base.escaping import to_terminal
from seamline.base.files import sha256_of
from seamline.ingest.canonical.annotations import canonical_annotations
from seamline.ingest.canonical.categories import canonical_categories
from seamline.ingest.canonical.changes import Changes
from seamline.ingest.canonical.crowds import Crowds
from seamline.ingest.canonical.images import (
    OF_IMAGES,
    Entry,
    canonical_image,
    losses_of,
    number_entries,
    place_image,
    readable_entries,
    usable_entries,
)
from seamline.ingest.canonical.source import Part, Reading, Source
from seamline.ingest.canonical.tally import Tallies


def canonicalise(
    source: Source, target: Path, place: Callable[[Path, Path], None], reading: Reading | None = None
) -> Record:
    """Write target/annotations.json and target/images/; `place` puts a file at its target.

    Returns:
        What was kept, repaired and dropped, for reports/pull.json. images_sha256 is the hash of a list, in the order
        of the image ids, as sha256sum prints it: each image's hash as it came, and its name in target/images.

    Raises:
        SeamlineError: when ids or categories contradict each other, no image is left, or none of the annotations; when
            over a tenth of the annotations contradict themselves, as they follow another convention than COCO's.
    """
    changes, reading = source.changes, reading or Reading()
    categories, category_ids = canonical_categories(source.parts, changes)
    entries, reading = numbered_entries(source, reading.convention), of_annotations(reading)
    for entry in tqdm(entries, desc="images", unit="image", disable=None):
        place_image(entry, target / "images", place)
    equal = equal_photos(entries)
    say_equal(equal)
    crowds, tallies, count = Crowds(), Tallies(len(source.parts)), 0

    def tallied(annotations: Iterable[Record]) -> Iterator[Record]:
        nonlocal count
        for annotation in annotations:
            count += 1
            yield annotation

    annotations = tallied(canonical_annotations(source.parts, entries, category_ids, changes, crowds, tallies, reading))
    write_coco(
        target / "annotations.json",
        (canonical_image(entry, source.parts[entry.part].split) for entry in entries),
        annotations,
        categories,
        source.attributes,
        tallies.incomplete,
    )
    dropped = changes.counts("dropped")
    check_any_left(source.parts[0].title, count, dropped)
    say_lost_files(source.parts, tallies, changes)
    return {
        "layout": source.layout,
        "images": len(entries),
        "annotations": count,
        "categories": len(categories),
        "annotations_sha256": sha256_of(target / "annotations.json"),
        "images_sha256": sha256_of_images(entries),
        **official_splits(source.parts[entry.part].split for entry in entries),
        "files_without_record": len(changes.left()),
        "repaired": changes.counts("repaired"),
        "dropped": dropped,
        "equal_photos": len(equal),
        "convention": reading.convention,
        "category_ids": reading.category_ids,
        "crowds": crowds.habit(),
        "unchecked_masks": tallies.source.unchecked,
        "incomplete_images": len(tallies.incomplete),
    }


def sha256_of_images(entries: Sequence[Entry]) -> str:
    """Of the list of all images' hashes and names; see canonicalise."""
    return hashlib.sha256("".join(f"{entry.picture.sha256}  {entry.name}\n" for entry in entries).encode()).hexdigest()


def of_annotations(reading: Reading) -> Reading:
    """Without a convention that is one of photos: annotations are read as COCO says."""
    return reading._replace(convention=None) if reading.convention in OF_IMAGES else reading


def check_any_left(title: str, count: int, dropped: Mapping[str, int]) -> None:
    """Raises SeamlineError when there were annotations, and all are dropped; a source may have none."""
    lost = {reason: number for reason, number in dropped.items() if reason.startswith("annotation:")}
    if lost and not count:
        raise SeamlineError(f"{title}: no annotation of it can be used ({reasons(lost)}).")
    if not count:
        print(f"{to_terminal(title)}: has no annotation; all its images are background")


def say_lost_files(parts: Sequence[Part], tallies: Tallies, changes: Changes) -> None:
    """Names those of several files without an annotation that can be used."""
    lost = [
        part.title for part, tally in zip(parts, tallies.files, strict=False) if part.annotations and not tally.masks
    ]
    for title in lost:
        counts = Counter(
            change.reason
            for change in changes.rows
            if change.place.annotation_file == title and change.verb == "dropped" and "annotation:" in change.reason
        )
        print(f"{to_terminal(title)}: no annotation of it can be used ({reasons(counts)})")


def numbered_entries(source: Source, convention: str | float | None) -> list[Entry]:
    """The images that can be used, each with its number and name; raises SeamlineError when there are none."""
    changes = source.changes
    entries, others = readable_entries(usable_entries(source.parts, changes), source.parts, changes, convention)
    title, losses = source.parts[0].title, losses_of(others)
    if not entries:
        lost = reasons(changes.counts("dropped")) or "it lists none"
        hint = losses[0].hint if losses else ""
        raise SeamlineError(f"{title}: no image of it can be used ({lost}){hint and f'; {hint}'}.")
    total = len(entries) + sum(loss.photos for loss in losses)
    for loss in losses:
        if loss.photos > total / 2 and convention != "drop":
            raise SeamlineError(
                f"{title}: {loss.photos} of {total} photos are {loss.what}; {loss.hint and f'{loss.hint}; '}"
                "pull.convention: drop leaves them out."
            )
        if loss.hint:
            print(f"{to_terminal(title)}: {counted(loss.photos, 'photo')} {loss.what}; {loss.hint}")
    say_dark(entries)
    number_entries(entries, source.parts, changes)
    return entries


def say_dark(entries: Sequence[Entry]) -> None:
    """Photos as sensors and X-ray software write them: all here reads the upper 8 of 16 bits, which are empty."""
    dark = [entry for entry in entries if entry.picture.dark_bits]
    if dark:
        bits = max(entry.picture.dark_bits for entry in dark)
        print(
            f"{counted(len(dark), 'photo')} of 16 bits a channel, such as {to_terminal(dark[0].head.file_name)}, with "
            f"values in the lower {bits} bits alone: they are read as nearly black, in training and in prediction; "
            "save them as 8-bit images, and give prediction the same"
        )


def official_splits(splits_of_images: Iterable[str | None]) -> Record:
    """How many images each split has, where every image has one."""
    splits = Counter(splits_of_images)
    return (
        {} if None in splits else {"official_splits": {str(split): splits[split] for split in sorted(splits, key=str)}}
    )


def equal_photos(entries: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Images whose file has the same bytes as that of an image before, each with the first such image."""
    firsts: dict[str, Entry] = {}
    pairs = [(firsts.setdefault(entry.picture.sha256, entry), entry) for entry in entries]
    return [(first, entry) for first, entry in pairs if first is not entry]


def say_equal(pairs: Sequence[tuple[Entry, Entry]]) -> None:
    shared = [pair for pair in pairs if pair[0].path == pair[1].path]
    if shared:
        print(
            f"{counted(len(shared), 'photo')} in several annotation files, such as "
            f"{to_terminal(shared[0][0].head.file_name)}: each is there twice, with a part of its garments each time; "
            "pull.annotations: [A.json, B.json], a list without splits, makes one image of them"
        )
    pairs = [pair for pair in pairs if pair not in shared]
    if pairs:
        first, other = (to_terminal(entry.head.file_name) for entry in pairs[0])
        print(
            f"{counted(len(pairs), 'image')} whose file equals another's, byte for byte, such as {other} and {first}: "
            "each keeps its own annotations, and split keeps them together; where they show different garments of one "
            "photo, put all into one"
        )


def reasons(dropped: Mapping[str, int]) -> str:
    """As "20 images: file is missing"."""
    parts = ((count, *reason.partition(": ")) for reason, count in dropped.items())
    return ", ".join(f"{counted(count, noun)}: {what}" for count, noun, _, what in parts)
