"""Where people are in a photo, and what is cut out of it for each of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from seamline.base.errors import SeamlineError
from seamline.images.cutouts import Place, box_to_place
from seamline.models.arrays import Floats
from seamline.models.detections import Detections

PERSON = "person"
# A part of a photo that the model would see hardly larger than in the whole photo is not looked at: on the sample,
# whose people fill their photos, that cost 0.026 of the mask mAP50-95 on val, and the time.
LEAST_GAIN = 1.25


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


def boxes_to_cutouts(boxes: Floats, margin: float, most: int, height: int, width: int) -> dict[int, Place]:
    """What is cut out for whom, by the index of the box: the first `most` for whom it pays; see box_to_place."""
    every = {index: box_to_place(box, margin, height, width) for index, box in enumerate(boxes)}
    worth = (
        (index, place)
        for index, place in every.items()
        if LEAST_GAIN * max(place.right - place.left, place.bottom - place.top) <= max(height, width)
    )
    return dict(itertools.islice(worth, most))
