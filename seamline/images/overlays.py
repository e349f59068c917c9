"""Pictures of single images: the truth on the left, what was predicted on the right, mistakes by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from pycocotools.coco import COCO

from seamline.evaluation.mistakes import Judged, is_false
from seamline.images.drawing import class_colour, drawn, hex_to_bgr
from seamline.images.reading import Image, read_image
from seamline.masks.outlines import Mask, rle_to_mask

SIDE_PX = 384  # the longer side of each of the two
GAP_PX = 6
JPEG_QUALITY = 82


def write_overlays(judged: Sequence[Judged], truth: COCO, images: Path, out: Path) -> None:
    """A JPEG an image, named by the image's id, into `out`, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    for image in judged:
        picture = overlay(image, truth, read_image(images / truth.imgs[image.image_id]["file_name"]))
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        (out / f"{image.image_id}.jpg").write_bytes(data)


def overlay(judged: Judged, truth: COCO, image: Image) -> Image:
    """Truth and prediction side by side; a class has one colour in all pictures."""
    order = sorted(truth.cats)
    colour_of = {number: hex_to_bgr(class_colour(index)) for index, number in enumerate(order)}
    name_of = {number: truth.cats[number]["name"] for number in order}
    actual = [
        (
            truth.annToMask(record),
            colour_of[record["category_id"]],
            name_of[record["category_id"]] + (": missed" if index in judged.missed else ""),
        )
        for index, record in enumerate(judged.instances)
    ]
    found = [
        (
            rle_to_mask(record["segmentation"]),
            colour_of[record["category_id"]],
            f"{name_of[record['category_id']]} {record['score']:.2f}"
            + (f": {verdict}" if is_false(verdict) else ""),
        )
        for record, verdict in zip(judged.predictions, judged.verdicts, strict=True)
    ]
    left, right = (drawn(*resized(image, masks)) for masks in (actual, found))
    gap = np.full((left.shape[0], GAP_PX, 3), 255, np.uint8)
    return np.hstack([left, gap, right])


Labelled = list[tuple[Mask, tuple[int, int, int], str]]


def resized(image: Image, masks: Labelled) -> tuple[Image, Labelled]:
    """To the picture's size before anything is drawn, so that lines and letters stay sharp."""
    scale = SIDE_PX / max(image.shape[:2])
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    smaller = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=smaller), dtype=np.uint8), [
        (np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8), colour, text)
        for mask, colour, text in masks
    ]
