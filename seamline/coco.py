"""COCO annotation files, read and written record by record.

Images and annotations stay raw JSON until they are needed, so that a file of several hundred MB does not become
Python objects all at once, and fields beyond COCO's (pair_id, scale, attributes, ...) pass through untouched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from seamline.errors import SeamlineError
from seamline.files import whole_file

Record = dict[str, Any]
T = TypeVar("T")


class Category(msgspec.Struct):
    id: int
    name: str


class ImageRef(msgspec.Struct, gc=False):
    """What selecting and converting need to know of an image record."""

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
    """A COCO file whose records are still raw JSON; `attributes` is Fashionpedia's table of them."""

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]
    attributes: msgspec.Raw = msgspec.Raw(b"[]")

    def image_refs(self) -> Iterator[ImageRef]:
        return references(ImageRef, self.images)

    def annotation_refs(self) -> Iterator[AnnotationRef]:
        return references(AnnotationRef, self.annotations)

    def category_refs(self) -> list[Category]:
        return [msgspec.json.decode(raw, type=Category) for raw in self.categories]

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
        raise SeamlineError(f"the dataset is not canonical ({error}); the pull stage makes it so.") from None


def raw_to_record(raw: msgspec.Raw | bytes) -> Record:
    """One record as a dictionary.

    Raises:
        SeamlineError: when it is no object, is not UTF-8, or has a number beyond the range of floats; reading the
            file as a whole does not look into it.
    """
    try:
        return msgspec.json.decode(raw, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SeamlineError(f"the record {bytes(raw)[:80]!r} cannot be read ({error}).") from None


def read_coco(path: Path) -> Coco:
    """Read a COCO file; numbers that are none (NaN, Infinity) become null.

    Raises:
        SeamlineError: when the file is missing, is not JSON, or lacks images, annotations or categories.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file.") from None
    try:
        return msgspec.json.decode(data, type=Coco)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        tolerant = tolerant_coco(data)
        if tolerant is None:
            raise SeamlineError(
                f"{path}: is not a COCO file ({error}); it has to be a JSON object with the lists images, "
                "annotations and categories."
            ) from None
        return tolerant


def tolerant_coco(data: bytes) -> Coco | None:
    """What Python's own JSON reader makes of it: it takes NaN and a byte-order mark, for ten times time and memory."""
    encode = msgspec.json.encode
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=lambda name: None)
        lists = {
            key: [msgspec.Raw(encode(record)) for record in document[key]]
            for key in ("images", "annotations", "categories")
            if isinstance(document[key], list)
        }
        return Coco(**lists, attributes=msgspec.Raw(encode(document.get("attributes", []))))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def write_coco(
    path: Path,
    images: Iterable[Record | msgspec.Raw],
    annotations: Iterable[Record | msgspec.Raw],
    categories: list[Record],
    attributes: msgspec.Raw | None = None,
) -> None:
    """Write a COCO file, a record a line so that it can be read and compared, records in the order given."""
    encode = msgspec.json.encode
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        for opening, records in ((b'{"images": [', images), (b'"annotations": [', annotations)):
            stream.write(opening)
            for index, record in enumerate(records):
                stream.write((b",\n" if index else b"\n") + encode(record))
            stream.write(b"\n],\n")
        if attributes is not None and bytes(attributes) != b"[]":
            stream.write(b'"attributes": ' + encode(attributes) + b",\n")
        stream.write(b'"categories": ' + encode(categories) + b"\n}\n")
