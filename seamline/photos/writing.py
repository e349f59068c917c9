"""What a run leaves in OUT, written from its journal, photo by photo: whole or not at all, however much it is."""

from __future__ import annotations

import base64
import contextlib
import csv
import functools
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import numpy as np

from seamline.base.errors import SeamlineError
from seamline.base.escaping import to_spreadsheet
from seamline.base.files import link_or_copy, make_parent, whole_file, whole_folder
from seamline.base.parallel import usable_cores
from seamline.base.progress import CountProgress
from seamline.base.spacing import evenly_spaced
from seamline.base.urls import is_remote
from seamline.images.budget import PixelBudget
from seamline.images.reading import ImageError, read_within_budget
from seamline.inference.detector import in_order
from seamline.photos.drawing import class_folders, overlay_jpeg, picture_name
from seamline.photos.journal import Done, Journal
from seamline.photos.listing import Photo, PhotoList, key_of
from seamline.photos.predicting import Wanted, crop_path, text_of
from seamline.photos.records import instance_to_record, to_text
from seamline.photos.remote import Remote, Unread

OVERLAYS, CROPS, VECTORS = "overlays", "crops", "embeddings.npy"
COLUMNS = ("image_id", "file_name", "class", "score", "x", "y", "width", "height", "mask_area_px")
SHOWN_FAILURES = 100  # in the terminal; errors.csv has all
MOST_DRAWN = 4  # at once: each is a photo in memory


class Summary(msgspec.Struct):
    images: int = 0
    instances: int = 0
    pictures: int = 0
    failed: int = 0
    again: int = 0  # of the failed ones, those that may succeed another time
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    failures: list[tuple[str, str]] = []  # the first of them

    def fail(self, name: str, reason: str, again: bool = False) -> tuple[str, str]:
        self.failed += 1
        self.again += again
        if len(self.failures) < SHOWN_FAILURES:
            self.failures.append((name, reason))
        return name, reason


class Usable(NamedTuple):
    number: int  # the image's id
    photo: Photo
    done: Done


def write_results(
    out: Path,
    journal: Journal,
    photos: PhotoList,
    positions: array[int],
    wanted: Wanted,
    overlays: int | None,
    remote: Remote,
) -> Summary:
    """Write all that OUT gets, and say what it is."""
    summary = Summary()
    usable = sum(not journal.at(position).reason for position in positions)
    drawn = frozenset(evenly_spaced(range(1, usable + 1), overlays))
    summary.pictures = len(drawn)
    undrawn = draw_overlays(journal, photos, positions, drawn, wanted, remote)
    folders = class_folders(wanted.names)
    with contextlib.ExitStack() as open_until_whole:
        tables = Tables(out, open_until_whole, wanted)
        pictures = open_until_whole.enter_context(whole_folder(out / OVERLAYS))
        crops = open_until_whole.enter_context(whole_folder(out / CROPS)) if wanted.crops else None
        for one in usable_photos(journal, photos, positions, lambda done: tables.fail(summary, done)):
            name = picture_name(one.number, one.photo.name)
            if one.number in drawn and one.photo.key not in undrawn:
                link_or_copy(overlay_path(journal, one), pictures / f"{name}.jpg")
            paths = link_crops(crops, journal, one, name, folders) if crops is not None else []
            tables.add(one, paths)
            summary.images += 1
            summary.instances += len(one.done.instances)
            summary.counts.update(wanted.names[record["category_id"] - 1] for record in one.done.instances)
        for name, reason in undrawn.values():
            tables.add_error(summary.fail(name, reason))
        tables.end()
    return summary


def usable_photos(
    journal: Journal, photos: PhotoList, positions: array[int], fail: Any = lambda done: None
) -> Iterator[Usable]:
    """With their ids, which count from 1; the others are handed to `fail`."""
    number = 0
    for photo, position in zip(photos, positions, strict=True):
        done = journal.at(position)
        if done.reason:
            fail(done)
        else:
            number += 1
            yield Usable(number, photo, done)


class Tables:
    """results.json, images.json, predictions.csv, errors.csv and embeddings.npy, a line at a time."""

    def __init__(self, out: Path, open_until_whole: contextlib.ExitStack, wanted: Wanted) -> None:
        def opened(name: str) -> Any:
            path = open_until_whole.enter_context(whole_file(out / name))
            return open_until_whole.enter_context(path.open("w", newline="", encoding="utf-8"))

        self.wanted = wanted
        self.vectors = open_until_whole.enter_context(vector_file(out / VECTORS, wanted.dimension))
        self.results, self.images = opened("results.json"), opened("images.json")
        self.predictions = csv.writer(opened("predictions.csv"), lineterminator="\n")
        self.errors = csv.writer(opened("errors.csv"), lineterminator="\n")
        described = [column for name in wanted.attributes for column in (name, f"{name}_confidence")]
        people, crops = ["person"] if wanted.people else [], ["crop"] if wanted.crops else []
        self.predictions.writerow(map(to_spreadsheet, [*COLUMNS, *people, *described, *crops]))
        self.errors.writerow(("file_name", "reason"))
        self.before_result, self.before_image = "[\n", '{"images": [\n'

    def fail(self, summary: Summary, done: Done) -> None:
        self.add_error(summary.fail(done.name, done.reason, done.again))

    def add_error(self, name_and_reason: tuple[str, str]) -> None:
        self.errors.writerow(map(to_spreadsheet, name_and_reason))

    def add(self, one: Usable, crops: Sequence[str]) -> None:
        done = one.done
        image = {"id": one.number, "file_name": one.photo.name, "height": done.height, "width": done.width}
        if done.persons is not None:
            image["persons"] = done.persons
        self.images.write(self.before_image + to_text(image))
        self.before_image = ",\n"
        for index, instance in enumerate(done.instances):
            record = instance_to_record(one.number, instance, self.wanted.polygons)
            self.results.write(self.before_result + to_text(record))
            self.before_result = ",\n"
            name = self.wanted.names[record["category_id"] - 1]
            row = [one.number, one.photo.name, name, record["score"], *record["bbox"], instance.get("area", "")]
            if self.wanted.people:
                row.append("" if record["person"] is None else record["person"])
            for attribute in self.wanted.attributes:
                said = record["attributes"].get(attribute)  # none for a class that the model does not know
                row += ["", ""] if said is None else [said["value"] or "", said["confidence"]]
            if self.vectors is not None:
                self.vectors.add(base64.b64decode(instance["vector"]))
            self.predictions.writerow(map(to_spreadsheet, [*row, *crops[index : index + 1]]))

    def end(self) -> None:
        categories = [{"id": number, "name": name} for number, name in enumerate(self.wanted.names, 1)]
        self.results.write("[]\n" if self.before_result != ",\n" else "\n]\n")
        start = self.before_image if self.before_image != ",\n" else "\n"
        self.images.write(f'{start}], "annotations": [], "categories": {to_text(categories)}}}\n')


class VectorFile:
    """embeddings.npy, a row at a time: f32, and row i belongs to the i-th record of results.json."""

    def __init__(self, stream: IO[bytes], dimension: int) -> None:
        self._stream, self._dimension, self._rows = stream, dimension, 0
        self.write_header()

    def add(self, row: bytes) -> None:
        self._stream.write(row)
        self._rows += 1

    def write_header(self) -> None:
        """numpy leaves room in it for the number of rows, which is known at the end."""
        self._stream.seek(0)
        header = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._dimension)}
        np.lib.format.write_array_header_1_0(self._stream, header)


@contextlib.contextmanager
def vector_file(path: Path, dimension: int) -> Iterator[VectorFile | None]:
    """None where no vectors were asked for; then those of an earlier run are deleted, as they are of other records."""
    if not dimension:
        path.unlink(missing_ok=True)
        yield None
        return
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        made = VectorFile(stream, dimension)
        yield made
        made.write_header()


def link_crops(crops: Path, journal: Journal, one: Usable, name: str, folders: Sequence[str]) -> list[str]:
    """Put a photo's crops into the folders of their classes; for each instance the path in OUT, or ""."""
    paths = []
    for instance in one.done.instances:
        order = instance["crop"]
        path = f"{folders[instance['category_id'] - 1]}/{name}_{order}.png"
        if order:
            link_or_copy(crop_path(journal.folder, one.photo.key, order), crops / path)
        paths.append(f"{CROPS}/{path}" if order else "")
    return paths


def overlay_path(journal: Journal, one: Usable) -> Path:
    """Another one for a photo that has changed."""
    return journal.folder / OVERLAYS / f"{one.photo.key}-{key_of(one.done.stamp)}.jpg"


def draw_overlays(
    journal: Journal,
    photos: PhotoList,
    positions: array[int],
    chosen: frozenset[int],
    wanted: Wanted,
    remote: Remote,
) -> dict[str, tuple[str, str]]:
    """Draw those that are not there yet; returns those that could not be read again, and why, by their keys."""
    missing = (
        one
        for one in usable_photos(journal, photos, positions)
        if one.number in chosen and not overlay_path(journal, one).exists()
    )
    draw = functools.partial(draw_overlay, journal=journal, wanted=wanted, remote=remote, budget=PixelBudget())
    undrawn = {}
    with (
        contextlib.closing(CountProgress("drawn", "pictures", len(chosen))) as progress,
        ThreadPoolExecutor(min(usable_cores(), MOST_DRAWN), thread_name_prefix="draw") as pool,
    ):
        for photo, reason in in_order(functools.partial(pool.submit, draw), missing, MOST_DRAWN):
            progress.add(bad=bool(reason))
            if reason:
                undrawn[photo.key] = photo.name, f"was predicted, but cannot be drawn: {reason}"
    return undrawn


def draw_overlay(
    one: Usable, journal: Journal, wanted: Wanted, remote: Remote, budget: PixelBudget
) -> tuple[Photo, str]:
    try:
        source = remote.read(one.photo)[0] if is_remote(one.photo.place) else Path(one.photo.place)
        data = read_within_budget(
            source,
            one.photo.name,
            wanted.max_pixels,
            budget,
            lambda image: overlay_jpeg(image, one.done.instances, wanted.names),
        )
    except (ImageError, Unread) as error:  # gone, or not what it was when it was predicted
        return one.photo, text_of(error)
    with whole_file(overlay_path(journal, one)) as temporary:
        temporary.write_bytes(data)
    return one.photo, ""


def check_out(out: Path, crops: bool) -> None:
    """Checked before anything is predicted.

    Raises:
        SeamlineError: when OUT cannot be written to, or holds pictures that no earlier run has made and would be lost.
    """
    made = {OVERLAYS: r"\d+(_.*)?\.jpg", **({CROPS: r"\d+_.*_\d+\.png"} if crops else {})}
    with writing_to(out):
        make_parent(out / OVERLAYS)
        if not os.access(out, os.W_OK):
            raise SeamlineError(f"{out}: cannot be written to; --out names another folder.")
        for name, pattern in made.items():
            for _, _, files in os.walk(out / name):
                for file in files:
                    if not re.fullmatch(pattern, file):
                        kind = "an overlay" if name == OVERLAYS else "a crop"
                        raise SeamlineError(
                            f"{out / name / file}: is not {kind}, and would be lost; --out names another folder."
                        )


@contextlib.contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Errors of the file system, such as a full disk, as a sentence."""
    try:
        yield
    except BrokenPipeError:  # of the output, not of the disk
        raise
    except OSError as error:
        raise SeamlineError(
            f"{out}: cannot be written to ({error.strerror}); the same command resumes after what is done."
        ) from None
