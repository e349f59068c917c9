"""Photos of one garment each, and the table of their attributes in the form of the CSV that the model learned from."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from seamline.base.errors import SeamlineError
from seamline.base.escaping import to_spreadsheet
from seamline.base.files import whole_file
from seamline.images.budget import PixelBudget
from seamline.images.reading import Image, ImageError, Source, read_within_budget
from seamline.inference.classifier import AttributeClassifier
from seamline.inference.detector import in_order
from seamline.ingest.archives import is_archive, unpacked
from seamline.models.attribute_facts import AttributeFacts
from seamline.models.detections import Attribute, Detections
from seamline.photos.finding import Word, find_photos, photos_below, shown_path
from seamline.photos.journal import Journal
from seamline.photos.listing import Photo, PhotoList, key_of
from seamline.photos.remote import Remote
from seamline.photos.writing import Summary, usable_photos

TABLE, CONFIDENCES, ERRORS = "Output.csv", "confidences.csv", "errors.csv"
UNPACKED = ".unpacked"  # in OUT, while archives are read
GARMENT = "garment"


class TableForm(NamedTuple):
    """What the CSV that a model learned from calls things."""

    file_column: str
    columns: Mapping[str, str]  # of each attribute
    codes: Mapping[str, Mapping[str, str]]  # of each attribute's values


def facts_to_form(facts: AttributeFacts) -> TableForm:
    """Where the model learned from annotations, its own names."""
    names = facts.names
    columns = names.get("columns") or {}
    return TableForm(
        names.get("file") or "filename",
        {attribute: columns.get(attribute, attribute) for attribute in facts.attributes},
        names.get("codes") or {},
    )


class WholePhotos:
    """Has what predicts in a detector's place where all of a photo is the garment."""

    def __init__(self, classifier: AttributeClassifier, threads: int, max_pixels: int, likeliest: bool) -> None:
        """
        Args:
            likeliest: name the likeliest value, also where the model is not sure enough.
        """
        self.classifier, self.threads, self.max_pixels, self.likeliest = classifier, threads, max_pixels, likeliest
        self.budget = PixelBudget()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="describe")

    def detect_all(self, sources: Iterable[Source]) -> Iterator[Detections | ImageError]:
        """Each photo as one garment with its attributes, in their order; the error of one that cannot be used."""

        def begin(numbered: tuple[int, Source]) -> Future[Detections | ImageError]:
            return self._pool.submit(self._described, numbered[1], f"image {numbered[0]}")

        return in_order(begin, enumerate(sources, 1), 2 * self.threads)

    def _described(self, source: Source, name: str) -> Detections | ImageError:
        try:
            return read_within_budget(source, name, self.max_pixels, self.budget, self._found)
        except ImageError as error:
            return error

    def _found(self, image: Image) -> Detections:
        height, width = image.shape[:2]
        named = self.classifier.classify_photo(image)
        if self.likeliest:
            named = {name: Attribute(one.best, one.confidence, one.best) for name, one in named.items()}
        box, score, garment = np.array([[0, 0, width, height]]), np.ones(1), np.zeros(1, np.int64)
        return Detections(
            box.astype(np.float32), score.astype(np.float32), garment, None, height, width, attributes=[named]
        )

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self.classifier.close()


@contextlib.contextmanager
def photos_and_archives(named: Iterable[Word], out: Path, remote: Remote) -> Iterator[PhotoList]:
    """What the words name, as find_photos, and the photos in archives, which lie unpacked in OUT during the block.

    Raises:
        SeamlineError: when one names nothing, or cannot be read.
    """
    scratch = out / UNPACKED
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    photos = PhotoList()
    try:
        for number, word in enumerate(named):
            if is_archive(Path(word.text)):
                for photo in photos_in_archive(Path(word.text), scratch / str(number), photos):
                    photos.add(photo)
            else:
                found = find_photos([word], out, remote)
                photos.passed_over += found.passed_over
                for photo in found:
                    photos.add(photo)
        yield photos
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def photos_in_archive(archive: Path, scratch: Path, counted: PhotoList) -> Iterator[Photo]:
    """By names that begin with the archive's, and the same however often it is unpacked.

    Args:
        counted: counts what looks like a photo and cannot be read.

    Raises:
        SeamlineError: when there is no photo in it, or it cannot be unpacked.
    """
    scratch.mkdir(parents=True)
    folder = unpacked(archive, scratch)
    status = archive.stat()
    anything = False
    for photo in photos_below(folder, [], counted):
        anything = True
        inside = Path(photo.place).relative_to(folder)
        yield photo._replace(
            name=f"{shown_path(archive)}/{shown_path(inside)}",
            stamp=f"{status.st_size}-{status.st_mtime_ns}",
            key=key_of(f"{os.path.realpath(archive)}/{inside}"),
        )
    if not anything:
        raise SeamlineError(f"{shown_path(archive)}: there is no image in it.")


def write_tables(out: Path, journal: Journal, photos: PhotoList, positions: array[int], form: TableForm) -> Summary:
    """Output.csv, confidences.csv beside it with the same rows and columns, and errors.csv."""
    summary = Summary()
    shared = Counter(base_name(photo) for photo in photos)
    with contextlib.ExitStack() as open_until_whole:
        table, confidences, errors = (csv_writer(out / name, open_until_whole) for name in (TABLE, CONFIDENCES, ERRORS))
        for writer in (table, confidences):
            writer.writerow(map(to_spreadsheet, [form.file_column, *form.columns.values()]))
        errors.writerow((form.file_column, "reason"))

        def fail(done: Any) -> None:
            errors.writerow(map(to_spreadsheet, summary.fail(done.name, done.reason, done.again)))

        for one in usable_photos(journal, photos, positions, fail):
            [garment] = one.done.instances
            name, own = base_name(one.photo), garment["attributes"]
            name = name if shared[name] == 1 else one.photo.name
            values = [own[attribute]["value"] for attribute in form.columns]
            codes = [
                "" if value is None else form.codes.get(attribute, {}).get(value, value)
                for attribute, value in zip(form.columns, values, strict=True)
            ]
            table.writerow(map(to_spreadsheet, [name, *codes]))
            confidences.writerow(
                map(to_spreadsheet, [name, *(own[attribute]["confidence"] for attribute in form.columns)])
            )
            summary.images += 1
            summary.instances += sum(value is not None for value in values)
    return summary


def check_tables(out: Path) -> None:
    """Raises SeamlineError where a table of somebody's would be lost: those of an earlier run lie beside each other."""
    if (out / TABLE).exists() and not (out / CONFIDENCES).exists():
        raise SeamlineError(
            f"{shown_path(out / TABLE)}: was not made by seamline describe, and would be lost; --out names "
            "another folder."
        )


def base_name(photo: Photo) -> str:
    return PurePosixPath(photo.name.partition("?")[0]).name


def csv_writer(path: Path, open_until_whole: contextlib.ExitStack) -> Any:
    temporary = open_until_whole.enter_context(whole_file(path))
    stream = open_until_whole.enter_context(temporary.open("w", newline="", encoding="utf-8"))
    return csv.writer(stream, lineterminator="\n")
