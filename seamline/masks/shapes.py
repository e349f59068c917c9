"""Records of COCO as shapes to be drawn."""

from __future__ import annotations

from seamline.base.coco import Record
from seamline.images.colours import Bgr
from seamline.images.drawing import Shape
from seamline.masks.rle import rle_to_mask


def record_to_shape(record: Record, colour: Bgr, name: str, note: str = "") -> Shape:
    """A COCO result with its mask as RLE, or with its box alone, as models that find only boxes give it."""
    if "segmentation" in record:
        return Shape(colour, name, note, mask=rle_to_mask(record["segmentation"]))
    x, y, width, height = record["bbox"]
    return Shape(colour, name, note, box=(x, y, x + width, y + height))
