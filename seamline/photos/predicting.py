"""Photos through a detector into the journal: those that it does not have yet, as they come."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import os
from array import array
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of, whole_file
from seamline.base.progress import CountProgress
from seamline.base.urls import is_remote
from seamline.images.budget import PixelBudget
from seamline.images.reading import Image, ImageError, read_within_budget
from seamline.inference.detector import in_order
from seamline.ingest.archives import files_below
from seamline.models.detections import Detections
from seamline.photos.journal import Done, Journal
from seamline.photos.listing import Photo, PhotoList
from seamline.photos.records import found_to_instances, found_to_persons
from seamline.photos.remote import Remote, Unread

if TYPE_CHECKING:
    from seamline.photos.describing import Describer

READERS = 8  # of remote photos, at once
MOST_WRITERS = 4
MOST_CROPPERS = 2  # each has a photo in memory, and what is cut out of it
MISSING = -1


class Wanted(NamedTuple):
    """What is asked for of a photo."""

    names: Sequence[str]  # of the model's classes
    classes: frozenset[int]  # indices of those that are looked for
    polygons: bool
    crops: bool
    max_pixels: int  # of a photo
    people: bool = False  # whether instances are tied to people
    attributes: Sequence[str] = ()  # that are asked for of each instance
    dimension: int = 0  # numbers of the vectors that are asked for; 0: none are


class Finder(Protocol):
    """A detector, or what finds something else in photos."""

    threads: int
    budget: PixelBudget

    def detect_all(self, sources: Iterable[Path | bytes]) -> Iterator[Detections | ImageError]: ...


class Read(NamedTuple):
    """A photo on its way to the model."""

    number: int  # in the list
    photo: Photo
    source: Path | bytes
    unread: Unread | None = None


def model_sha256(model: Path) -> str:
    """Of a model's content, wherever it lies."""
    if model.is_file():
        return sha256_of(model)
    digest = hashlib.sha256()
    for path in files_below(model):
        digest.update(f"{path.relative_to(model).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def done_before(photos: PhotoList, journal: Journal, batch: int, remote: Remote) -> array[int]:
    """For each photo where its line is in the journal, or MISSING.

    A batch that lacks one photo is missing as a whole: in another batch an image's results may differ in their last
    bits.
    """
    known = journal.known()

    def position(photo: Photo) -> int:
        at, stamp = known.get(photo.key, (MISSING, ""))
        if at == MISSING:
            return MISSING
        now = remote.stamp(photo) if photo.place.startswith(("https://", "http://")) else photo.stamp
        return at if now and now == stamp else MISSING

    if not known:
        return array("q", [MISSING]) * len(photos)
    with ThreadPoolExecutor(READERS, thread_name_prefix="look") as pool:
        positions = array("q", in_order(lambda photo: pool.submit(position, photo), photos, 8 * READERS))
    for start in range(0, len(positions), batch):
        group = positions[start : start + batch]
        if MISSING in group:
            positions[start : start + batch] = array("q", [MISSING]) * len(group)
    return positions


def predict_missing(
    detector: Finder,
    photos: PhotoList,
    positions: array[int],
    journal: Journal,
    wanted: Wanted,
    remote: Remote,
    describer: Describer | None = None,
) -> None:
    """Predict the photos that the journal does not have, and set their positions.

    Args:
        describer: of each instance; None: nothing more than the detector finds is asked for.

    Raises:
        SeamlineError: when the model itself fails, or the journal cannot be written.
    """
    missing = ((number, photo) for number, photo in enumerate(photos) if positions[number] == MISSING)
    before = len(positions) - positions.count(MISSING)
    to_done = functools.partial(
        found_to_done, wanted=wanted, journal=journal, budget=detector.budget, describer=describer
    )
    writers = min(max(detector.threads // 2, 1), MOST_CROPPERS if wanted.crops else MOST_WRITERS)
    with (
        contextlib.closing(CountProgress("predicted", "images", len(positions), before)) as progress,
        ThreadPoolExecutor(writers, thread_name_prefix="write") as pool,
        contextlib.closing(predicted(detector, missing, remote)) as found,
    ):
        for number, done in in_order(functools.partial(pool.submit, to_done), found, writers):
            positions[number] = journal.add(done)
            progress.add(bad=bool(done.reason))


def predicted(
    detector: Finder, numbered: Iterator[tuple[int, Photo]], remote: Remote
) -> Generator[tuple[Read, Detections | ImageError], None, None]:
    """Each photo with its instances, or with the error; few are held at a time.

    Raises:
        SeamlineError: when the model itself fails.
    """
    waiting: deque[Read] = deque()

    def read(one: tuple[int, Photo]) -> Read:
        number, photo = one
        if not is_remote(photo.place):
            return Read(number, photo, Path(photo.place))
        try:
            data, stamp = remote.read(photo)
        except Unread as error:
            return Read(number, photo, b"", error)
        return Read(number, photo._replace(stamp=stamp), data)

    def sources() -> Iterator[Path | bytes]:
        for one in in_order(lambda one: pool.submit(read, one), numbered, 2 * READERS):
            waiting.append(one)
            yield one.source

    pool = ThreadPoolExecutor(READERS, thread_name_prefix="read")
    try:
        for count, found in enumerate(detector.detect_all(sources()), 1):
            one = waiting.popleft()
            if isinstance(found, ImageError):
                name = one.photo.place if isinstance(one.source, Path) else f"image {count}"
                found = ImageError(str(found).removeprefix(f"{name}: "))
            yield one, found
    except SeamlineError:
        raise
    except Exception as error:  # every engine has its own, as where a model does not segment
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise SeamlineError(f"the model was opened, and cannot be run on these images ({reason}).") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        remote.close()  # nobody waits for what was read ahead


def found_to_done(
    item: tuple[Read, Detections | ImageError],
    wanted: Wanted,
    journal: Journal,
    budget: PixelBudget,
    describer: Describer | None = None,
) -> tuple[int, Done]:
    """A photo's number and line; its crops are written before."""
    read, found = item
    photo = read.photo
    done = Done(photo.key, photo.stamp, photo.name)
    if read.unread is not None:
        done.reason, done.again = read.unread.reason, read.unread.again
    elif isinstance(found, ImageError):
        done.reason, done.again = text_of(found), is_unreadable(read.source)
    else:
        found = found.chosen(np.flatnonzero(np.isin(found.classes, [*wanted.classes])))
        done.height, done.width = found.height, found.width
        done.persons = found_to_persons(found)
        look = functools.partial(look_again, photo=photo, found=found, wanted=wanted, journal=journal)
        try:
            if len(found) and (wanted.crops or describer is not None):
                done.instances = read_within_budget(
                    read.source, "image", wanted.max_pixels, budget, lambda image: look(image, describer=describer)
                )
            else:
                done.instances = found_to_instances(found, wanted.classes, wanted.polygons)
        except ImageError as error:
            return read.number, Done(photo.key, photo.stamp, photo.name, reason=text_of(error), again=True)
    return read.number, done


def look_again(
    image: Image, photo: Photo, found: Detections, wanted: Wanted, journal: Journal, describer: Describer | None
) -> list[Record]:
    """The instances with all that needs the photo's pixels: what describes them, and their crops."""
    if image.shape[:2] != (found.height, found.width):
        raise ImageError("has changed while it was read.")
    if describer is not None:
        found = describer.describe(image, found).found
    instances = found_to_instances(found, wanted.classes, wanted.polygons)
    if found.vectors is not None:
        for instance, vector in zip(instances, found.vectors, strict=True):
            instance["vector"] = base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    if wanted.crops:
        write_crops(image, photo, found, instances, journal)
    return instances


def write_crops(image: Image, photo: Photo, found: Detections, instances: Sequence[Record], journal: Journal) -> None:
    """A PNG for each instance that has a pixel, which its line then says."""
    from seamline.photos.drawing import crop_png  # brings matplotlib: 15 MB that the service does without

    for index, instance in enumerate(instances):
        png = crop_png(image, found, index)
        instance["crop"] = index + 1 if png else 0
        if png:
            path = crop_path(journal.folder, photo.key, index + 1)
            path.parent.mkdir(exist_ok=True)
            with whole_file(path, flushed=False) as temporary:
                temporary.write_bytes(png)


def crop_path(folder: Path, key: str, order: int) -> Path:
    """In one of 256 folders: a million files in one are slow on some disks."""
    return folder / "crops" / key[:2] / f"{key}-{order}.png"


def text_of(error: Exception) -> str:
    """On a line, and with nothing in it that cannot be written down."""
    return " ".join(str(error).split()).encode("utf-8", "replace").decode()


def is_unreadable(source: Path | bytes) -> bool:
    """Whether it is the file that cannot be read, as over a network, and not the image in it that is bad."""
    if isinstance(source, bytes):
        return False
    try:
        with source.open("rb") as stream:
            os.read(stream.fileno(), 1)
    except OSError:
        return True
    return False
