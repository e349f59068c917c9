"""Photos as a user names them, through a detector, into files: COCO results, a table, and pictures of some."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from seamline.addresses import client_reason, is_remote, shown
from seamline.archives import files_below, is_junk
from seamline.coco import Record
from seamline.drawing import class_colour, drawn, hex_to_bgr
from seamline.errors import SeamlineError, not_installed
from seamline.escaping import to_spreadsheet
from seamline.files import make_parent, mode_of
from seamline.masks import rle_to_mask
from seamline.overlays import JPEG_QUALITY, resized
from seamline.pictures import SUFFIXES
from seamline.runtime.detector import Detector, in_order
from seamline.runtime.images import Image, ImageError, read_image
from seamline.runtime.instances import Instances

OVERLAYS = "overlays"
READERS = 8  # of remote photos, at once
COLUMNS = ("image_id", "file_name", "class", "score", "x", "y", "width", "height", "mask_area_px")


class Photo(NamedTuple):
    name: str  # as it is shown and written down
    place: str  # its path, or its name in the file system
    filesystem: Any = None  # fsspec's, where it is remote


def find_photos(arguments: Sequence[str], out: Path) -> list[Photo]:
    """What the arguments name: files, folders, globs and URLs, in their order, sorted within each, none twice.

    What an earlier run drew below `out` is found only by its name.

    Raises:
        SeamlineError: when an argument names nothing, or cannot be read.
    """
    photos: dict[tuple[str, str], Photo] = {}
    for argument in arguments:
        found = remote_photos(argument) if is_remote(argument) else local_photos(argument, out / OVERLAYS)
        if not found:
            raise SeamlineError(f"{shown(argument)}: there is no image there ({', '.join(sorted(SUFFIXES))}).")
        for photo in found:
            photos.setdefault(identity(photo), photo)
    return list(photos.values())


def identity(photo: Photo) -> tuple[str, str]:
    """Equal for one photo that is named in two ways.

    Links to folders are followed and those to files are not: DVC may have linked two photos to one cached file.
    """
    if photo.filesystem is not None:
        return photo.name, photo.place
    path = Path(photo.place)
    return "", str(path.parent.resolve() / path.name)


def local_photos(argument: str, drawn_before: Path) -> list[Photo]:
    path = Path(argument)
    try:
        mode = mode_of(path) if argument else 0
        if stat.S_ISREG(mode):
            return [path_to_photo(path)]
        if stat.S_ISDIR(mode):
            found, suffixes = files_below(path), SUFFIXES
        elif glob.has_magic(argument):
            # Path.glob takes no absolute pattern, and finds no files for one that ends in **.
            matches = (Path(match) for match in glob.glob(argument, recursive=True))  # noqa: PTH207
            found = sorted(match for match in matches if match.is_file())
            suffixes = SUFFIXES | {path.suffix.lower() or ".jpg"}  # *.jfif names them, and * does not
        else:
            what = "is no file and no folder" if mode else "there is no such file or folder"
            raise SeamlineError(f"{shown_path(path) if argument else repr(argument)}: {what}.")
        skipped = drawn_before.resolve()
        return [
            path_to_photo(file)
            for file in found
            if file.suffix.lower() in suffixes and file.parent.resolve() != skipped
        ]
    except OSError as error:
        raise SeamlineError(f"{shown_path(path)}: cannot be read ({error.strerror}).") from None


def path_to_photo(path: Path) -> Photo:
    return Photo(shown_path(path), str(path))


def shown_path(path: Path) -> str:
    """A path as text that can be written down, also where its name is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def remote_photos(url: str) -> list[Photo]:
    """A file, what lies below a prefix, or what a pattern with * matches; credentials are the AWS configuration's."""
    try:
        import fsspec  # takes a while, and local photos do not need it
    except ModuleNotFoundError as error:
        raise not_installed(shown(url), error) from None
    scheme, _, rest = url.partition("://")
    try:
        filesystem, path = fsspec.core.url_to_fs(f"{scheme.lower()}://{rest}")
        if filesystem.isfile(path):
            below = filesystem.find(path) if scheme.lower() == "s3" else []  # where a key may be others' prefix as well
            names = sorted({path, *filter(is_image_name, below)})
        else:
            found = filesystem.glob(path) if "*" in path else filesystem.find(path)
            names = [name for name in sorted(found) if is_image_name(name)]
            if not names and "*" not in path:
                filesystem.info(path)  # says what is wrong, where finding files swallows it
        # Names in a file system hold no secret, but for those that are whole addresses.
        return [
            Photo(shown(name) if "://" in name else filesystem.unstrip_protocol(name), name, filesystem)
            for name in names
        ]
    except Exception as error:  # whatever a file system's client raises: re-raised as the user's sentence
        raise SeamlineError(f"{shown(url)}: cannot be read ({client_reason(error)}).") from None


def is_image_name(name: str) -> bool:
    path = PurePosixPath(name.partition("?")[0] if name.startswith("http") else name)
    return path.suffix.lower() in SUFFIXES and not is_junk(path.name)


def contents(photo: Photo) -> Path | bytes:
    """What the runtime reads a photo from; remote ones are never written to disk.

    Raises:
        ImageError: when a remote one cannot be read.
    """
    if photo.filesystem is None:
        return Path(photo.place)
    try:
        data: bytes = photo.filesystem.cat_file(photo.place)
    except Exception as error:  # whatever the file system's client raises
        raise ImageError(f"{photo.name}: cannot be read ({client_reason(error)}).") from None
    return data


def predicted(detector: Detector, photos: Sequence[Photo]) -> Iterator[tuple[Photo, Instances | str]]:
    """Each photo with its instances, or with the reason why it cannot be used; few are held at a time.

    Raises:
        SeamlineError: when the model itself fails.
    """
    unread: dict[int, str] = {}

    def source(numbered: tuple[int, Photo]) -> Path | bytes:
        number, photo = numbered
        try:
            return contents(photo)
        except ImageError as error:
            unread[number] = without_name(error, photo.name)
            return b""

    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
        sources = in_order(pool, source, enumerate(photos, 1), 2 * READERS)
        try:
            for number, (photo, found) in enumerate(zip(photos, detector.detect_all(sources), strict=True), 1):
                if isinstance(found, ImageError):
                    name = f"image {number}" if photo.filesystem is not None else photo.place
                    yield photo, unread.get(number) or without_name(found, name)
                else:
                    yield photo, found
        except SeamlineError:
            raise
        except Exception as error:  # every engine has its own, as where a model does not segment
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise SeamlineError(f"the model was opened, and cannot be run on these images ({reason}).") from None


def without_name(error: ImageError, name: str) -> str:
    return str(error).removeprefix(f"{name}: ")


def image_record(number: int, photo: Photo, found: Instances) -> Record:
    return {"id": number, "file_name": photo.name, "height": found.height, "width": found.width}


def table_rows(images: Sequence[Record], results: Sequence[Record], names: Sequence[str]) -> Iterator[list[object]]:
    """The rows of predictions.csv, an instance each."""
    name_of = {image["id"]: image["file_name"] for image in images}
    for record in results:
        number = record["image_id"]
        area = int(coco_mask.area(record["segmentation"]))
        named = map(to_spreadsheet, (name_of[number], names[record["category_id"] - 1]))
        yield [number, *named, record["score"], *record["bbox"], area]


def overlay(image: Image, records: Sequence[Record], names: Sequence[str]) -> Image:
    """The photo with what was found in it; a class has one colour in all pictures."""
    picture, _ = resized(image, [])
    size = (picture.shape[1], picture.shape[0])
    masks = []
    for record in records:  # one mask at a time is as large as the photo
        index = record["category_id"] - 1
        small = cv2.resize(rle_to_mask(record["segmentation"]), size, interpolation=cv2.INTER_NEAREST)
        colour = hex_to_bgr(class_colour(index))
        masks.append((np.asarray(small, dtype=np.uint8), colour, f"{names[index]} {record['score']:.2f}"))
    return drawn(picture, masks)


def write_overlays(
    folder: Path, chosen: Sequence[tuple[int, Photo]], of_image: Mapping[int, list[Record]], names: Sequence[str]
) -> list[tuple[str, str]]:
    """A JPEG an image, named by the image's id and the photo; those that could not be read again, with the reasons."""
    failures = []
    for number, photo in tqdm(chosen, "draw", unit="image", disable=None):
        try:
            picture = overlay(read_image(contents(photo), photo.name), of_image.get(number, []), names)
        except ImageError as error:  # gone, or not what it was when it was predicted
            failures.append((photo.name, f"was predicted, but cannot be drawn: {error}"))
            continue
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        (folder / overlay_name(number, photo.name)).write_bytes(data)
    return failures


def overlay_name(number: int, photo: str) -> str:
    """Ids keep photos of one name in two folders apart."""
    stem = re.sub(r"[^\w.-]+", "_", PurePosixPath(photo.partition("?")[0]).stem)
    return f"{number:04d}_{stem[:60]}.jpg"


def check_out(out: Path) -> None:
    """Make the folder for the results, before anything is predicted in vain.

    Raises:
        SeamlineError: when it cannot be written to, or holds pictures that are no earlier run's and would be lost.
    """
    with writing_to(out):
        make_parent(out / OVERLAYS)
        if not os.access(out, os.W_OK):
            raise SeamlineError(f"{out}: cannot be written to; --out names another folder.")
        before = sorted((out / OVERLAYS).iterdir()) if (out / OVERLAYS).exists() else []
    foreign = [path for path in before if not re.fullmatch(r"\d+(_.*)?\.jpg", path.name)]
    if foreign:
        raise SeamlineError(f"{foreign[0]}: is no overlay, and would be lost; --out names another folder.")


@contextlib.contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Errors of the file system, such as a full disk, as a sentence."""
    try:
        yield
    except OSError as error:
        raise SeamlineError(f"{out}: cannot be written to ({error.strerror}).") from None
