"""Overlays: photos with what was found in them, small enough for a report; the one writer of such pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from seamline.base.coco import Record
from seamline.images.colours import Bgr
from seamline.images.drawing import Shape, drawn
from seamline.images.reading import Image

SIDE_PX = 384  # the longer side of a photo
GAP_PX = 6
JPEG_QUALITY = 82


def record_to_shape(record: Record, colour: Bgr, name: str, note: str = "") -> Shape:
    """A COCO result with its mask as RLE, or with its box alone, as models that find only boxes give it."""
    if "segmentation" in record:
        return Shape(colour, name, note, mask=coco_mask.decode(record["segmentation"]))
    x, y, width, height = record["bbox"]
    return Shape(colour, name, note, box=(x, y, x + width, y + height))


def overlay(image: Image, shapes: Iterable[Shape]) -> Image:
    """The photo with shapes in it.

    Everything is resized before it is drawn, so that lines and letters stay sharp; shapes one by one, since a mask is
    as large as the photo.
    """
    scale = SIDE_PX / max(image.shape[:2])
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = np.asarray(cv2.resize(image, size, interpolation=interpolation), dtype=np.uint8)
    return drawn(picture, (resized(shape, size, scale) for shape in shapes))


def resized(shape: Shape, size: tuple[int, int], scale: float) -> Shape:
    mask, box = shape.mask, shape.box
    if mask is not None:
        mask = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    return shape._replace(mask=mask, box=None if box is None else [scale * side for side in box])


def in_a_row(pictures: Sequence[Image]) -> Image:
    """Pictures of one height side by side, with a white gap between them."""
    gap = np.full((pictures[0].shape[0], GAP_PX, 3), 255, np.uint8)
    return np.hstack([part for picture in pictures for part in (picture, gap)][:-1])


def to_jpeg(picture: Image) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
