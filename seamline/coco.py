"""COCO annotation files, read and written record by record.

Images and annotations stay raw JSON until they are needed, so that a file of several hundred MB does not become
Python objects all at once, and fields beyond COCO's (pair_id, scale, attributes, ...) pass through untouched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from seamline.errors import SeamlineError
from seamline.files import whole_file

Record = dict[str, Any]


class Category(msgspec.Struct):
    id: int
    name: str


class ImageRef(msgspec.Struct):
    """What selecting and grouping need to know of an image record."""

    id: int
    file_name: str
    width: int
    height: int


class AnnotationRef(msgspec.Struct):
    """What selecting and counting need to know of an annotation record."""

    id: int
    image_id: int
    category_id: int
    iscrowd: int = 0


class Coco(msgspec.Struct):
    """A COCO file whose records are still raw JSON."""

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]

    def image_refs(self) -> list[ImageRef]:
        decoder = msgspec.json.Decoder(ImageRef)
        return [decoder.decode(raw) for raw in self.images]

    def annotation_refs(self) -> list[AnnotationRef]:
        decoder = msgspec.json.Decoder(AnnotationRef)
        return [decoder.decode(raw) for raw in self.annotations]

    def category_refs(self) -> list[Category]:
        return [msgspec.json.decode(raw, type=Category) for raw in self.categories]


def raw_to_record(raw: msgspec.Raw) -> Record:
    record: Record = msgspec.json.decode(raw)
    return record


def read_coco(path: Path) -> Coco:
    """Read a COCO file.

    Raises:
        SeamlineError: when the file is missing, is not JSON, or lacks images, annotations or categories.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Coco)
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SeamlineError(
            f"{path}: is not a COCO file ({error}); it has to be a JSON object with the lists images, "
            "annotations and categories."
        ) from None


def write_coco(path: Path, images: list[Record], annotations: list[Record], categories: list[Record]) -> None:
    """Write a COCO file, a record a line so that it can be read and compared, records in the order given."""
    encode = msgspec.json.encode
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        for opening, records in ((b'{"images": [', images), (b'"annotations": [', annotations)):
            stream.write(opening)
            for index, record in enumerate(records):
                stream.write((b",\n" if index else b"\n") + encode(record))
            stream.write(b"\n],\n")
        stream.write(b'"categories": ' + encode(categories) + b"\n}\n")
