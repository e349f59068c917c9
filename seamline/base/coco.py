"""COCO annotation files, read and written record by record.

Images and annotations stay raw JSON until they are needed, so that a file of several hundred MB does not become
Python objects all at once, and fields beyond COCO's (pair_id, scale, attributes, ...) pass through untouched.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from seamline.base.errors import SeamlineError
from seamline.base.files import link_or_copy, whole_file

Record = dict[str, Any]
# As pull names them: no character that leads elsewhere or ends a line, and a suffix.
ODD = r"/\\\x00-\x1f\x7f\x85\u2028\u2029"
PLAIN_NAME = re.compile(rf"[^{ODD}]*[^.{ODD}]\.+[^.{ODD}]*")
CACHED = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{30}$")  # what DVC may have replaced a file with a link to
T = TypeVar("T")


class Category(msgspec.Struct):
    id: int
    name: str


class ImageRef(msgspec.Struct, gc=False):
    """What selecting and converting need to know of an image record; its name is a plain file name."""

    id: int
    file_name: str
    width: int
    height: int


class AnnotationRef(msgspec.Struct, gc=False):
    """What selecting and counting need to know of an annotation record."""

    id: int
    image_id: int
    category_id: int
    iscrowd: int = 0
    area: float = 0.0


class Coco(msgspec.Struct):
    """A COCO file whose records are still raw JSON; `attributes` is Fashionpedia's table of them.

    incomplete: ids of images of which pull left an annotation out, so that they show what no annotation says.
    """

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]
    attributes: msgspec.Raw = msgspec.Raw(b"[]")
    incomplete: msgspec.Raw = msgspec.Raw(b"[]")

    def image_refs(self) -> list[ImageRef]:
        """Raises SeamlineError unless each has an id and a plain name of its own; its label file gets that name."""
        refs = list(references(ImageRef, self.images))
        names = [ref.file_name for ref in refs]
        for name, plain in zip(names, map(PLAIN_NAME.fullmatch, names), strict=True):
            if not plain or (len(name) > 60 and len(name.encode()) > 255):
                raise not_canonical(f"the file_name {name[:80]!r} is not a file's plain name, as 0001.jpg is")
        if len({ref.id for ref in refs}) < len(refs):
            raise not_canonical("two images have one id")
        if len({name.rpartition(".")[0] for name in names}) < len(names):
            stem = next(stem for stem, count in Counter(name.rpartition(".")[0] for name in names).items() if count > 1)
            raise not_canonical(f"two images are called {stem!r}, and their labels would be one file")
        return refs

    def incomplete_images(self) -> list[int]:
        """Raises SeamlineError unless they are ids."""
        try:
            return msgspec.json.decode(self.incomplete, type=list[int])
        except msgspec.MsgspecError as error:
            raise not_canonical(str(error)) from None

    def annotation_refs(self, images: Container[int] | None = None) -> Iterator[AnnotationRef]:
        """Raises SeamlineError unless each is of an image (`images`: the ids, if known) and a category of the file."""
        if images is None:
            images = set(self.image_values("id"))
        categories = {category.id for category in self.category_refs()}
        for ref in references(AnnotationRef, self.annotations):
            if ref.image_id not in images or ref.category_id not in categories:
                raise not_canonical(f"annotation {ref.id} is of no image or no category of the file")
            yield ref

    def category_refs(self) -> list[Category]:
        return list(references(Category, self.categories))

    def image_values(self, field: str) -> list[Any]:
        """One field of every image record; None where it is missing."""
        kind = msgspec.defstruct("Field", [("value", Any, None)], rename={"value": field}, gc=False)
        decoder = msgspec.json.Decoder(kind)
        return [decoder.decode(raw).value for raw in self.images]  # type: ignore[attr-defined]


def references(kind: type[T], records: Iterable[msgspec.Raw]) -> Iterator[T]:
    """Records of canonical files as far as `kind` has them.

    Raises:
        SeamlineError: when one has an id of another type, or lacks a field: the file is not canonical.
    """
    try:
        yield from map(msgspec.json.Decoder(kind).decode, records)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise not_canonical(str(error)) from None


def not_canonical(reason: str) -> SeamlineError:
    return SeamlineError(f"the dataset is not canonical ({reason}); the pull stage makes it so.")


def link_image(source: str, target: str, dataset: str) -> None:
    """Link an image of a canonical dataset into another folder.

    Raises:
        SeamlineError: when it is not there, or is a link to what is neither the dataset's nor DVC's.
    """
    # Paths as plain text: with 192,000 files a tenth of the time went into pathlib.
    if os.path.islink(source):  # noqa: PTH114
        place = os.path.realpath(source)
        if place.startswith(f"{os.path.realpath(dataset)}{os.sep}"):
            source = place  # a relative link would lead elsewhere from the other folder
        elif not CACHED.search(place):
            raise SeamlineError(f"{source}: is a link to {place}, outside of the dataset; put the file there itself.")
    try:
        link_or_copy(source, target)
    except FileNotFoundError:
        raise SeamlineError(f"{source}: is not there, and the dataset's annotations.json names it.") from None


def raw_to_record(raw: msgspec.Raw | bytes) -> Record:
    """One record as a dictionary.

    Raises:
        SeamlineError: when it is not an object, is not UTF-8, or has a number beyond the range of floats; reading the
            file as a whole does not look into it.
    """
    try:
        return msgspec.json.decode(raw, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        start = bytes(raw)[:80].decode("utf-8", "replace")
        raise SeamlineError(f"the record {start!r} cannot be read ({error}).") from None


def read_coco(path: Path) -> Coco:
    """Read a COCO file; NaN and Infinity become null.

    Raises:
        SeamlineError: when the file is missing, is not JSON, or lacks images, annotations or categories.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file.") from None
    return data_to_coco(data, path)


def data_to_coco(data: bytes, path: Path) -> Coco:
    """A COCO file's text.

    Args:
        data: UTF-8.
        path: what messages call it.

    Raises:
        SeamlineError: when it is not JSON, or lacks images, annotations or categories.
    """
    try:
        return msgspec.json.decode(data, type=Coco)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        tolerant = tolerant_coco(data)
        if tolerant is not None:
            return tolerant
        damage = json_damage(data)
        if damage is not None:
            raise SeamlineError(f"{path}: {damage}; copy or export it again.") from None
        raise SeamlineError(
            f"{path}: is not a COCO file ({error}); it has to be a JSON object with the lists images, annotations and "
            "categories."
        ) from None


def json_damage(data: bytes) -> str | None:
    """Where a text stops being JSON, as a part of a sentence; None where it is JSON, NaN and the like included."""
    try:
        json.loads(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        read, rest = error.doc[: error.pos], error.doc[error.pos :]
        # An open string is reported where it begins; a number or word may be cut in the middle.
        if error.msg.startswith("Unterminated string") or re.fullmatch(r"\s*[\w.+-]{0,30}", rest):
            return f"is cut short: its JSON ends at byte {len(data):,}, before it is complete"
        mark = 3 if data.startswith(b"\xef\xbb\xbf") else 0
        at = mark + len(read.encode("utf-8", "surrogateescape"))
        return f"is not JSON from byte {at:,} on"
    except (ValueError, RecursionError):  # numbers of thousands of digits, thousands of lists in one another
        return None
    return None


def tolerant_coco(data: bytes) -> Coco | None:
    """What Python's own JSON reader makes of it: it accepts NaN and a byte-order mark, in ten times the time."""
    encode = msgspec.json.encode
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=lambda name: None)
        lists = {
            key: [msgspec.Raw(encode(record)) for record in document[key]]
            for key in ("images", "annotations", "categories")
            if isinstance(document[key], list)
        }
        attributes = msgspec.Raw(encode(document.get("attributes", [])))
        return Coco(lists["images"], lists["annotations"], lists["categories"], attributes)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def images_of_split(split_file: Path, images: Path) -> list[Path]:
    """A split's image files in the order of their ids.

    Raises:
        SeamlineError: when the split is missing or has no image.
    """
    refs = sorted(read_coco(split_file).image_refs(), key=lambda ref: ref.id)
    if not refs:
        raise SeamlineError(f"{split_file}: has no images; give the split a larger share in split.ratios.")
    return [images / ref.file_name for ref in refs]


def write_coco(
    path: Path,
    images: Iterable[Record | msgspec.Raw],
    annotations: Iterable[Record | msgspec.Raw],
    categories: list[Record],
    attributes: msgspec.Raw | None = None,
    incomplete: Collection[int] = (),
) -> None:
    """Write a COCO file with one record a line, so that it can be read and compared, in the order given.

    `incomplete` (see Coco) is read last: it may grow while the annotations are made.
    """
    encode = msgspec.json.encode
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        for opening, records in ((b'{"images": [', images), (b'"annotations": [', annotations)):
            stream.write(opening)
            for index, record in enumerate(records):
                stream.write((b",\n" if index else b"\n") + encode(record))
            stream.write(b"\n],\n")
        if attributes is not None and bytes(attributes) != b"[]":
            stream.write(b'"attributes": ' + encode(attributes) + b",\n")
        if incomplete:
            stream.write(b'"incomplete": ' + encode(sorted(incomplete)) + b",\n")
        stream.write(b'"categories": ' + encode(categories) + b"\n}\n")
