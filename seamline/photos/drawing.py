"""Pictures of what was found in a photo: drawn into it, and each instance cut out of it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import cv2
import numpy as np

from seamline.base.coco import Record
from seamline.base.files import folded
from seamline.images.colours import class_colour, hex_to_bgr
from seamline.images.lettering import shortened
from seamline.images.overlays import overlay, record_to_shape, to_jpeg
from seamline.images.reading import Image
from seamline.models.detections import Detections

# Photos of a shop are some 300 kB as cut-outs at either; the higher levels take up to ten times as long.
PNG_COMPRESSION = 1
WHITE = 255


def overlay_jpeg(image: Image, records: Sequence[Record], names: Sequence[str]) -> bytes:
    return to_jpeg(found_in(image, records, names))


def found_in(image: Image, records: Sequence[Record], names: Sequence[str]) -> Image:
    """The photo with what was found in it; a class has one colour in all pictures."""
    numbered = ((record["category_id"] - 1, record) for record in records)
    return overlay(
        image,
        (
            record_to_shape(record, hex_to_bgr(class_colour(index)), names[index], record_to_note(record))
            for index, record in numbered
        ),
    )


def record_to_note(record: Record) -> str:
    """What stands behind the name: the score, and the values of attributes that the model is sure of."""
    values = [one["value"] for one in record.get("attributes", {}).values() if one["value"] is not None]
    return f" {record['score']:.2f}" + (f" ({', '.join(map(shortened, values))})" if values else "")


def crop_png(image: Image, found: Detections, index: int) -> bytes:
    """An instance cut out by its mask, or by its box where there is none; of its box's size; b"" without a pixel.

    What does not belong to the instance is transparent, and white for programs that ignore transparency.
    """
    x1, y1, x2, y2 = (float(side) for side in found.boxes[index])
    part = (slice(math.floor(y1), math.ceil(y2)), slice(math.floor(x1), math.ceil(x2)))
    mask = found.mask(index)[part] if found.has_masks else np.ones(image[part].shape[:2], np.uint8)
    if not mask.any():
        return b""
    cut_out = np.full((*mask.shape, 4), WHITE, np.uint8)
    np.copyto(cut_out[..., :3], image[part], where=mask[..., None] > 0)
    cut_out[..., 3] = mask * np.uint8(255)
    return cv2.imencode(".png", cut_out, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])[1].tobytes()


def picture_name(number: int, photo: str) -> str:
    """Without a suffix. Ids keep photos of one name in two folders apart."""
    stem = re.sub(r"[^\w.-]+", "_", PurePosixPath(photo.partition("?")[0]).stem)
    return f"{number:04d}_{stem[:60]}"


def class_folders(names: Sequence[str]) -> list[str]:
    """A folder's name for each class; two classes never share one, whatever is in their names."""
    folders: list[str] = []
    for index, name in enumerate(names):
        folder = re.sub(r"[^\w-]+", "_", name)[:60] or "_"
        taken = {folded(other) for other in folders}
        others = (f"{folder}_{number}" for number in itertools.count(index))
        folders.append(next(one for one in itertools.chain([folder], others) if folded(one) not in taken))
    return folders
