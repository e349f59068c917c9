"""From photos to entries: garments are found and embedded, photo by photo, into a journal that survives a kill.

A line of the journal has all that a catalogue gets of a photo. Each photo is looked at by itself, so that what is
written is the same in whatever order and after however many kills.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from seamline.base.files import sha256_of
from seamline.base.progress import CountProgress
from seamline.base.urls import is_remote
from seamline.images.budget import PixelBudget
from seamline.images.cutouts import cut_out
from seamline.images.reading import Image, ImageError, read_within_budget
from seamline.inference.classifier import AttributeClassifier
from seamline.inference.detector import in_order
from seamline.models.attribute_facts import AttributeFacts
from seamline.models.detections import Attribute, Detections
from seamline.people.detector import AnyDetector, PeopleDetector
from seamline.photos.journal import Journal, locked
from seamline.photos.predicting import is_unreadable, model_sha256, text_of
from seamline.photos.remote import Remote, Unread
from seamline.search.entries import PRECISION_PX, PRECISION_SCORE, Entry, Garment
from seamline.search.sources import Listed
from seamline.search.vectors import checked

CROP_MARGIN = 0.05
CROP_QUALITY = 85
DONE = "done.jsonl"


class Embeds(Protocol):
    """What is needed of an Embedder."""

    @property
    def facts(self) -> Any: ...
    @property
    def identity(self) -> str: ...
    def embed(self, image: Image, found: Detections) -> npt.NDArray[np.float32]: ...
    def embed_photo(self, source: Image) -> npt.NDArray[np.float32]: ...


class Tools(NamedTuple):
    """What looks at a photo."""

    detector: AnyDetector
    embedder: Embeds
    crop_px: int | None  # longest side of the crops that the catalogue gets; None: none
    whole_photos: bool  # whether photos are embedded as a whole, too
    remote: Remote
    classifier: AttributeClassifier | None = None  # of attributes, by which answers can be filtered

    @property
    def attributes_revision(self) -> str | None:
        """The same for models that name attributes alike; None without one."""
        return None if self.classifier is None else attributes_revision(self.classifier.facts)

    @property
    def dimension(self) -> int:
        return int(self.embedder.facts.dimension)


def run_key(tools: Tools, detector_sha256: str) -> str:
    """Of a run: another one for all that changes its entries, but for the photos, each of which has its stamp."""
    detector = tools.detector
    facts = {
        "version": 1,
        "embedder": tools.embedder.identity,
        "detector": detector_sha256,
        "limits": [detector.confidence, detector.nms_iou, detector.max_detections, detector.max_pixels],
        "people": people_facts(detector),
        "precision": detector.precision,
        "crop_px": tools.crop_px,
        "whole_photos": tools.whole_photos,
    }
    if tools.classifier is not None:
        facts["attributes"] = tools.attributes_revision
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def people_facts(detector: AnyDetector) -> list[Any] | None:
    """What finds people first, and how; None where nothing does."""
    if not isinstance(detector, PeopleDetector):
        return None
    settings = {**msgspec.to_builtins(detector.settings), "model": None}  # where it lies
    return [settings, model_sha256(detector.people_model)]


@contextlib.contextmanager
def open_journal(scratch: Path, out: Path, key: str) -> Iterator[Journal]:
    """The journal of a run; nobody else works on the same catalogue meanwhile. It goes when the block ends well.

    Raises:
        SeamlineError: while another process is at work on it.
    """
    with locked(scratch, out, "process", remedy=""):
        folder = scratch / key
        folder.mkdir(exist_ok=True)
        try:
            with (folder / DONE).open("a+b") as lines:
                journal = Journal(folder, lines)
                journal.cut_torn()
                yield journal
        except BaseException:
            if not (folder / DONE).stat().st_size:  # nothing to resume
                clear(scratch, folder)
            raise
        clear(scratch, folder)


def clear(scratch: Path, folder: Path) -> None:
    """Delete a run's folder; what another run was cut in stays, so that it can resume."""
    shutil.rmtree(folder)
    if not any(path.is_dir() for path in scratch.iterdir()):
        shutil.rmtree(scratch)


def listed_to_entries(photos: Sequence[Listed], tools: Tools, journal: Journal) -> Iterator[Entry]:
    """The photos' entries in their order; what the journal lacks is looked at first.

    Raises:
        SeamlineError: when a model fails.
    """
    known = journal.known()
    missing = [one for one in photos if not one.reason and not is_known(one, known)]
    budget = PixelBudget(tools.detector.budget.limit)
    look = functools.partial(photo_to_entry, tools=tools, budget=budget)
    with (
        contextlib.closing(CountProgress("embedded", "photos", len(photos), len(photos) - len(missing))) as progress,
        ThreadPoolExecutor(tools.detector.threads, thread_name_prefix="embed") as pool,
    ):
        for entry in in_order(functools.partial(pool.submit, look), missing, 2 * tools.detector.threads):
            known[entry.photo] = journal.add(entry), entry.stamp
            progress.add(bad=bool(entry.reason))
    for one in photos:
        if one.reason:
            entry = Entry(one.photo.key, "", one.photo.name, reason=one.reason)
        else:
            entry = msgspec.json.decode(journal.line_at(known[one.photo.key][0]), type=Entry)
        entry.name, entry.split, entry.values = one.photo.name, one.split, one.values
        yield entry


def is_known(one: Listed, known: Mapping[str, tuple[int, str]]) -> bool:
    _, stamp = known.get(one.photo.key, (0, ""))
    return bool(stamp) and stamp == one.photo.stamp


def photo_to_entry(one: Listed, tools: Tools, budget: PixelBudget) -> Entry:
    """What is found in one photo, or why it cannot be used."""
    photo = one.photo
    entry = Entry(photo.key, photo.stamp, photo.name)
    source: Path | bytes = Path(photo.place)
    try:
        if is_remote(photo.place):
            source, entry.stamp = tools.remote.read(photo)
        entry.sha256 = hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else sha256_of(source)
        use = functools.partial(fill, entry=entry, tools=tools)
        read_within_budget(source, "image", tools.detector.max_pixels, budget, use)
    except Unread as error:
        entry.reason, entry.again = error.reason, error.again
    except ImageError as error:
        entry.reason, entry.again = text_of(error).removeprefix(f"{photo.place}: "), is_unreadable(source)
    except OSError as error:
        entry.reason, entry.again = f"cannot be read ({error.strerror}).", True
    return entry


def fill(image: Image, entry: Entry, tools: Tools) -> None:
    found = tools.detector.detect_beside(image)
    entry.height, entry.width = image.shape[:2]
    vectors = to_stored(tools.embedder.embed(image, found), tools.dimension) if len(found) else []
    classifier = tools.classifier
    named = [{}] * len(found) if classifier is None else classifier.classify(image, found, tools.detector.names)
    entry.garments = [
        instance_to_garment(image, found, index, vectors[index], named[index], tools) for index in range(len(found))
    ]
    if tools.whole_photos:
        vector = np.atleast_2d(tools.embedder.embed_photo(image))
        entry.vector = to_stored(vector, tools.dimension)[0]


def to_stored(vectors: npt.NDArray[np.float32], dimension: int) -> list[bytes]:
    """
    Raises:
        ImageError: when one is all zeros: nothing can be compared with it, and only this photo's is like that.
        SeamlineError: when one is not of finite numbers: the embedder is broken, and its catalogue would be too.
    """
    if not vectors.any(axis=1).all():
        raise ImageError("the embedding of it, or of a garment in it, is all zeros, so nothing is like it.")
    return [row.tobytes() for row in checked(vectors, dimension, "the embedder's output").astype(np.float16)]


def instance_to_garment(
    image: Image, found: Detections, index: int, vector: bytes, named: Mapping[str, Attribute], tools: Tools
) -> Garment:
    box = tuple(round(float(side), PRECISION_PX) for side in found.boxes[index])
    return Garment(
        index + 1,
        tools.detector.names[int(found.classes[index])],
        (box[0], box[1], box[2], box[3]),
        round(float(found.scores[index]), PRECISION_SCORE),
        vector,
        found.rle(index)["counts"] if found.has_masks else None,
        None if found.persons is None else found.persons.owner(index),
        {name: one.value for name, one in named.items() if one.value is not None},
        crop=b"" if tools.crop_px is None else crop_jpeg(image, box, tools.crop_px),
    )


def crop_jpeg(image: Image, box: Sequence[float], side_px: int) -> bytes:
    """A garment with a little of what is around it, at most `side_px` long, for people to look at."""
    part = cut_out(image, box, margin=CROP_MARGIN)
    ratio = side_px / max(part.shape[:2])
    if ratio < 1:
        height, width = (max(round(side * ratio), 1) for side in part.shape[:2])
        part = np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, CROP_QUALITY])[1].tobytes()


def attributes_revision(facts: AttributeFacts) -> str:
    return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()[:16]
