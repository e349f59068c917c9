"""Where people are in a photo, and what is cut out of it for each of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seamline.base.errors import SeamlineError
from seamline.images.files import MIN_SIDE_PX
from seamline.images.reading import Image
from seamline.models.arrays import Floats
from seamline.models.detections import Detections

PERSON = "person"
# A part of a photo that the model would see hardly larger than in the whole photo is not looked at: on the sample,
# whose people fill their photos, that cost 0.026 of the mask mAP50-95 on val, and the time.
LEAST_GAIN = 1.25


class Place(NamedTuple):
    """A part of a photo, in whole pixels; right and bottom are the first that are outside."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, image: Image) -> Image:
        """That part of the photo's pixels, which are not copied."""
        return image[self.top : self.bottom, self.left : self.right]


def person_class(names: Sequence[str], wanted: str | None, model: str) -> int:
    """The index of the class that is people.

    Args:
        names: the person model's classes.
        wanted: the class's name; None: person. Capitals do not matter, unless two names differ in nothing else.
        model: what the error calls the model.

    Raises:
        SeamlineError: when the model has no such class.
    """
    name = wanted or PERSON
    same = [index for index, one in enumerate(names) if one.casefold() == name.casefold()]
    exact = [index for index in same if names[index] == name]
    if not same:
        hint = "" if wanted else "; people.person_class or --person-class names the one that people are of"
        raise SeamlineError(f"{model}: the model has no class {name!r}; it has {', '.join(names)}{hint}.")
    return (exact or same)[0]


def most_prominent_first(found: Detections, of_class: int) -> Detections:
    """The people among what was found: large ones that the model is sure of first, by box area times score."""
    order = np.argsort(-areas(found.boxes) * found.scores, kind="stable")
    return found.chosen(order[found.classes[order] == of_class])


def areas(boxes: Floats) -> Floats:
    """(n,), in pixels, of x1, y1, x2, y2."""
    x1, y1, x2, y2 = boxes.T
    found: Floats = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    return found


def box_to_place(box: Floats, margin: float, height: int, width: int) -> Place:
    """What is cut out for a person: the box and a margin around it, inside the photo.

    Args:
        box: x1, y1, x2, y2 in pixels of the photo.
        margin: on each side, as a share of the box's width or height.
        height, width: of the photo, in pixels.
    """
    x1, y1, x2, y2 = (float(side) for side in box)
    left, right = widened(x1, x2, margin, width)
    top, bottom = widened(y1, y2, margin, height)
    return Place(left, top, right, bottom)


def boxes_to_places(boxes: Floats, margin: float, most: int, height: int, width: int) -> dict[int, Place]:
    """What is cut out for whom, by the index of the box: the first `most` for whom it pays; see box_to_place."""
    every = {index: box_to_place(box, margin, height, width) for index, box in enumerate(boxes)}
    worth = (
        (index, place)
        for index, place in every.items()
        if LEAST_GAIN * max(place.right - place.left, place.bottom - place.top) <= max(height, width)
    )
    return dict(itertools.islice(worth, most))


def widened(low: float, high: float, margin: float, side: int) -> tuple[int, int]:
    """A range of pixels with a margin at both ends, inside 0 to side, and long enough to be an image's side."""
    extra = margin * (high - low)
    first, last = max(math.floor(low - extra), 0), min(math.ceil(high + extra), side)
    missing = MIN_SIDE_PX - (last - first)
    if missing > 0:
        first = min(max(first - missing // 2, 0), side - MIN_SIDE_PX)
        last = first + MIN_SIDE_PX
    return first, last
