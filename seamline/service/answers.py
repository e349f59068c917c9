"""Detections as an answer: the records that `seamline predict` writes, as text, and what each step took."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from seamline.base.coco import Record
from seamline.images.reading import Image
from seamline.models.arrays import Floats
from seamline.models.detections import Detections
from seamline.photos.records import found_to_instances, found_to_persons, instance_to_record, to_text
from seamline.service.bodies import Photo
from seamline.service.tasks import Task

if TYPE_CHECKING:
    from seamline.photos.describing import Describer

PNG_COMPRESSION = 1
# Of the time that a photo takes, those that every photo goes through; others are there where they are asked for.
PARTS = ("queue", "decode", "inference", "masks", "encode")
ORDER = ("queue", "decode", "inference", "masks", "attributes", "embedding", "search", "encode")


class Answer(NamedTuple):
    """What was found in a photo."""

    height: int
    width: int
    records: list[str] | None  # JSON of each instance, without its image_id; None where none were looked for
    persons: list[Record] | None  # the people; None where nobody looked for them
    found: list[tuple[int, float]]  # class index and score of each
    parts_ms: Mapping[str, float]  # by ORDER
    whole: str = ""  # JSON of what was asked of the photo as it is, between the braces


def found_to_answer(
    found: Detections, task: Task, waited_ms: float, parts_ms: Mapping[str, float] | None = None
) -> Answer:
    """
    Args:
        waited_ms: that the photo waited for its turn.
        parts_ms: what steps have taken that not every photo goes through.
    """
    begun = time.perf_counter()
    chosen = [index for index, number in enumerate(found.classes) if int(number) in task.classes]
    polygons = task.masks == "polygon"
    records = [
        instance_to_record(0, instance, polygons) for instance in found_to_instances(found, task.classes, polygons)
    ]
    for record, index in zip(records, chosen, strict=True):
        del record["image_id"]  # known once the photos before it are
        if task.masks == "none":
            record.pop("segmentation", None)
        elif task.masks == "png" and found.has_masks:
            record["segmentation"] = {"png": mask_to_png(found, index)}
    texts = [to_text(record) for record in records]
    searched_ms = 0.0
    if found.vectors is not None:
        members, searched_ms = vectors_to_members(found.vectors[chosen], task)
        texts = [f"{text[:-1]}, {more}}}" for text, more in zip(texts, members, strict=True)]
    scores = [(int(found.classes[index]), float(found.scores[index])) for index in chosen]
    parts = dict(zip(("queue", "decode", "inference", "masks"), (waited_ms, *found.timings_ms), strict=True))
    parts |= parts_ms or {}
    if task.search is not None:
        parts["search"] = searched_ms
    parts["encode"] = 1000 * (time.perf_counter() - begun) - searched_ms
    return Answer(found.height, found.width, texts, found_to_persons(found), scores, parts)


def photo_to_answer(image: Image, describer: Describer, task: Task, waited_ms: float, decode_ms: float) -> Answer:
    """The vector of a photo as it is, or what is like it."""
    begun = time.perf_counter()
    vectors = describer.embed_photo(image)[None]
    parts = {"queue": waited_ms, "decode": decode_ms, "embedding": 1000 * (time.perf_counter() - begun)}
    [whole], searched_ms = vectors_to_members(vectors, task)
    if task.search is not None:
        parts["search"] = searched_ms
    return Answer(image.shape[0], image.shape[1], None, None, [], parts, whole)


def vectors_to_members(vectors: Floats, task: Task) -> tuple[list[str], float]:
    """For each vector what a record says of it, as JSON: itself or what is like it; and the search's milliseconds."""
    if task.search is None or not len(vectors):
        return [f'"embedding": {vector_to_json(vector)}' for vector in vectors], 0.0
    begun = time.perf_counter()
    near = task.search(vectors)
    searched_ms = 1000 * (time.perf_counter() - begun)
    return [f'"matches": {to_text(matches)}' for matches in near], searched_ms


def vector_to_json(vector: Floats) -> str:
    """A JSON array, with nine digits a number: they tell any two f32 apart.

    json would write seventeen, and take three times as long.
    """
    return f"[{', '.join(map('{:.9g}'.format, vector.tolist()))}]"


def records_to_json(records: Sequence[str], number: int) -> str:
    """The array of a photo's records, each with the photo's number, which results.json has first."""
    return "[" + ", ".join(f'{{"image_id": {number}, {record[1:]}' for record in records) + "]"


def images_to_text(photos: Sequence[Photo], answers: Sequence[Answer | str]) -> list[str]:
    """JSON of each photo. Those that can be used are numbered from 1, as `seamline predict` does."""
    texts, number = [], 0
    for photo, answer in zip(photos, answers, strict=True):
        if isinstance(answer, str):
            texts.append(to_text({"file_name": photo.name, "error": f"{photo.name}: {answer}"}))
            continue
        number += 1
        image: dict[str, Any] = {"image_id": number, "file_name": photo.name}
        image |= {"height": answer.height, "width": answer.width}
        if answer.persons is not None:
            image["persons"] = answer.persons
        inside = answer.whole if answer.records is None else f'"instances": {records_to_json(answer.records, number)}'
        texts.append(f"{to_text(image)[:-1]}, {inside}}}")
    return texts


def answers_to_timing(answers: Sequence[Answer | str], total_ms: float) -> str:
    """Server-Timing; of several photos the longest of each part."""
    parts = [answer.parts_ms for answer in answers if isinstance(answer, Answer)] or [dict.fromkeys(PARTS, 0.0)]
    longest = {name: max(own.get(name, 0.0) for own in parts) for name in ORDER if any(name in own for own in parts)}
    named = (longest | {"total": total_ms}).items()
    return ", ".join(f"{name};dur={milliseconds:.2f}" for name, milliseconds in named)


def mask_to_png(found: Detections, index: int) -> str:
    """A picture of the photo's size, 0 or 255, in base64."""
    mask = found.mask(index) * np.uint8(255)
    png = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])[1].tobytes()
    return base64.b64encode(png).decode("ascii")
