"""Detections as an answer: the records that `seamline predict` writes, as text, and what each step took."""

from __future__ import annotations

import base64
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from seamline.base.coco import Record
from seamline.models.detections import Detections
from seamline.photos.records import found_to_instances, found_to_persons, instance_to_record, to_text

PNG_COMPRESSION = 1
PARTS = ("queue", "decode", "inference", "masks", "encode")  # of the time that a photo takes


class Answer(NamedTuple):
    """What was found in a photo."""

    height: int
    width: int
    records: list[str]  # JSON of each instance, without its image_id
    persons: list[Record] | None  # the people; None where nobody looked for them
    found: list[tuple[int, float]]  # class index and score of each
    parts_ms: tuple[float, ...]  # as PARTS


def found_to_answer(found: Detections, classes: Collection[int], masks: str, waited_ms: float) -> Answer:
    """
    Args:
        classes: indices of those that were asked for.
        masks: one of schemas.MASKS.
        waited_ms: that the photo waited for its turn.
    """
    begun = time.perf_counter()
    chosen = [index for index, number in enumerate(found.classes) if int(number) in classes]
    records = [
        instance_to_record(0, instance, masks == "polygon")
        for instance in found_to_instances(found, classes, masks == "polygon")
    ]
    for record, index in zip(records, chosen, strict=True):
        del record["image_id"]  # known once the photos before it are
        if masks == "none":
            record.pop("segmentation", None)
        elif masks == "png" and found.has_masks:
            record["segmentation"] = {"png": mask_to_png(found, index)}
    texts = [to_text(record) for record in records]
    scores = [(int(found.classes[index]), float(found.scores[index])) for index in chosen]
    encode_ms = 1000 * (time.perf_counter() - begun)
    parts_ms = (waited_ms, *found.timings_ms, encode_ms)
    return Answer(found.height, found.width, texts, found_to_persons(found), scores, parts_ms)


def records_to_json(records: Sequence[str], number: int) -> str:
    """The array of a photo's records, each with the photo's number, which results.json has first."""
    return "[" + ", ".join(f'{{"image_id": {number}, {record[1:]}' for record in records) + "]"


def mask_to_png(found: Detections, index: int) -> str:
    """A picture of the photo's size, 0 or 255, in base64."""
    mask = found.mask(index) * np.uint8(255)
    png = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])[1].tobytes()
    return base64.b64encode(png).decode("ascii")
