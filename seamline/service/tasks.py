"""What a request asks for of each of its photos, from its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from seamline.base.coco import Record
from seamline.base.escaping import to_terminal
from seamline.models.arrays import Floats
from seamline.service.problems import Problem

# For each vector, (n, numbers of the embedder), the records of what is near it in the catalogue.
Search = Callable[[Floats], list[list[Record]]]


class Task(NamedTuple):
    classes: frozenset[int]  # indices of those that are looked for
    masks: str = "none"  # one of schemas.Masks
    confidence: float | None = None  # None: the detector's own
    attributes: bool = False
    embed: bool = False  # whether vectors are written into the answer
    whole: bool = False  # the photo is embedded as it is, and no garments are looked for
    garment: int | None = None  # the only one that is asked about, by its place among the photo's instances, from 1
    search: Search | None = None  # of what is like each garment, or like the whole photo

    @property
    def needs_pixels(self) -> bool:
        """Whether more is asked for than the detector finds."""
        return self.attributes or self.needs_vectors

    @property
    def needs_vectors(self) -> bool:
        return self.embed or self.search is not None


def names_to_classes(asked: Sequence[str] | None, names: Sequence[str]) -> frozenset[int]:
    """Indices of the classes that are asked for; text of a query may name several, with commas."""
    if asked is None:
        return frozenset(range(len(names)))
    chosen = []
    for text in asked:
        chosen += [text] if text in names else [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in names]
    if unknown or not chosen:
        shown = to_terminal(repr((unknown or [""])[0][:100]))
        raise Problem(422, f"The model has no class {shown}; it has {', '.join(names)}.")
    return frozenset(index for index, name in enumerate(names) if name in chosen)


def check_served(what: str, is_served: bool, option: str) -> None:
    """Raise Problem for what this service was not started with; `option` is that of seamline serve."""
    if not is_served:
        raise Problem(422, f"{what}: this service was started without it; seamline serve {option} brings it.")
