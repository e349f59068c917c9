"""What all annotations of a source say together, before any of them is judged: ids, extents, conventions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from seamline.base.errors import SeamlineError
from seamline.ingest.canonical.checks import Unusable, is_box, is_number
from seamline.ingest.canonical.contradictions import CONVENTIONS, FRAMES, NUMBER, Factors, leaves_image, looks_like
from seamline.ingest.canonical.dress import plain_box, text_to_value
from seamline.ingest.canonical.identities import is_identity, record_of
from seamline.ingest.canonical.images import Entry, canonical_size, record_size
from seamline.ingest.canonical.repair import (
    BEYOND,
    SCALED,
    SHARES,
    WITHIN_A_PIXEL,
    Contradiction,
    Mended,
    Setting,
    is_readable,
)
from seamline.ingest.canonical.source import Part, Raw

MAX_SHARE = 0.1  # of the records that can be checked: more contradictions are not a few mistakes but a convention
MAX_LOOKED_AT = 300  # contradictions, for what they look like
MIN_RECORDS = 10  # before all coordinates together say something
RELATIVE_LIMIT = 1.1  # coordinates in shares of the image may lie a little beyond it


class Extent(msgspec.Struct):
    """How far the coordinates of a part's masks and boxes reach from zero; 0 where there are none."""

    categories: Counter[Any] = msgspec.field(default_factory=Counter)  # how often each id is used
    polygons: int = 0
    mask: float = 0.0
    box: float = 0.0
    box_end: float = 0.0  # right or bottom

    def lie_in(self, limit: float) -> tuple[bool, bool]:
        """Whether all masks, and all boxes, are in shares of the image: up to `limit` for a whole side.

        Pixels lie below 100 and 1000 too: there masks and boxes have to reach equally far.
        """
        if limit == 1:
            return 0 < self.mask <= RELATIVE_LIMIT, 0 < self.box <= RELATIVE_LIMIT
        same = self.mask <= limit * RELATIVE_LIMIT and 0.8 * self.mask <= self.box_end <= 1.25 * self.mask
        return same, same


def surveyed(raws: Sequence[tuple[int, Raw]], count: int) -> tuple[list[Any], list[Extent]]:
    """Every annotation's id, None where it cannot be read, and the extent of each of `count` parts."""
    ids, extents = [], [Extent() for _ in range(count)]
    for part, raw in raws:
        record = record_of(raw) or {}
        ids.append(record.get("id"))
        extent = extents[part]
        category = record.get("category_id")
        if is_identity(category):
            extent.categories[category] += 1
        reach = mask_reach(record.get("segmentation"))
        if reach is not None:
            extent.polygons += 1
            extent.mask = max(extent.mask, reach)
        box = record.get("bbox")
        box = box if is_box(box) else plain_box(box)
        if box is not None:
            extent.box = max(extent.box, *map(abs, box))
            extent.box_end = max(extent.box_end, box[0] + box[2], box[1] + box[3])
    return ids, extents


def mask_reach(segmentation: Any) -> float | None:
    """The polygons' coordinate that is farthest from zero; None where there are no polygons."""
    if not isinstance(segmentation, (list, dict, str)) or "counts" in segmentation:
        return None
    try:
        reach: Any = max(map(max, segmentation))
        if type(reach) in (int, float) and reach > RELATIVE_LIMIT:  # almost always
            return float(reach)
    except (TypeError, ValueError):
        pass
    return max(map(abs, coordinates(segmentation)), default=None)


def coordinates(value: Any, depth: int = 0) -> Iterator[float]:
    """All numbers of polygons, whatever their dress."""
    if isinstance(value, str):
        try:
            value = text_to_value(value)
        except Unusable:
            return
    if is_number(value):
        yield float(value)
    elif depth < 8 and isinstance(value, (list, dict)) and "counts" not in value:
        for part in value.values() if isinstance(value, dict) else value:
            yield from coordinates(part, depth + 1)


def setting_of(entry: Entry, extent: Extent, convention: str | float | None) -> Setting:
    """How the annotations of an image are read."""
    height, width = canonical_size(entry)
    size = record_size(entry.head)
    known: Setting = Setting(height, width, has_size=size is not None)
    if isinstance(convention, float):
        factors: Factors = (convention, convention)
        return known._replace(mask_factors=factors, box_factors=factors, scale_reason=SCALED)
    known = known._replace(convention=convention)
    if convention == "scaled" and size not in (None, (height, width)):
        factors = (width / size[1], height / size[0])
        return known._replace(mask_factors=factors, box_factors=factors, scale_reason=SCALED)
    limit = FRAMES.get(convention or "", 1)
    factors = (width / limit, height / limit)
    masks, boxes = extent.lie_in(limit)
    if convention == "pixels" or not (masks or boxes):
        return known
    return known._replace(
        mask_factors=factors if masks else None,
        box_factors=factors if boxes else None,
        scale_reason=SHARES,
    )


def check_extents(
    parts: Sequence[Part], entries: Sequence[Entry], extents: Sequence[Extent], convention: str | float | None
) -> None:
    """Raises SeamlineError when coordinates look like percent or thousandths of photos that are much larger."""
    if convention is not None:
        return
    for index, (part, extent) in enumerate(zip(parts, extents, strict=True)):
        smallest = min((side for entry in entries if entry.part == index for side in canonical_size(entry)), default=0)
        for name in ("percent", "thousandths"):
            limit = FRAMES[name]
            if extent.polygons >= MIN_RECORDS and 0.9 * limit <= extent.mask <= 1.005 * limit and smallest >= 2 * limit:
                raise SeamlineError(
                    f"{part.title}: no mask reaches beyond {limit} pixels, and every photo has at least {smallest}; "
                    f"they look like {CONVENTIONS[name]}, which pull.convention: {name} reads; pull.convention: pixels "
                    "takes them as they are."
                )


class Tally:
    """How many annotations could be checked, how many contradict themselves, and what those look like."""

    def __init__(self) -> None:
        self.checked = 0
        self.contradictory = 0
        self.looks: Counter[str] = Counter()
        self.first = ""
        self.rectangles = 0
        self.masks = 0
        self.turned = 0  # outlines on photos that EXIF turns, whose records have the size as stored
        self.beyond = 0  # those of them that fit the photo only as shown
        self.first_beyond = ""

    def add_turned(self, segmentation: Any, setting: Setting, where: str) -> None:
        """Counts an annotation of a photo that is taken as it is stored; its outline as it came."""
        if setting.mask_factors or not is_readable(segmentation) or isinstance(segmentation, dict):
            return
        self.turned += 1
        as_stored, as_shown = (setting.height, setting.width), (setting.width, setting.height)
        if leaves_image(segmentation, *as_stored) and not leaves_image(segmentation, *as_shown):
            self.beyond += 1
            self.first_beyond = self.first_beyond or where

    def add(self, mended: Mended, is_rectangle: bool) -> None:
        self.checked += mended.has_box
        self.masks += 1
        self.rectangles += is_rectangle

    def add_contradiction(self, contradiction: Contradiction, setting: Setting, where: str) -> None:
        self.checked += 1
        self.contradictory += 1
        self.first = self.first or where
        if self.contradictory <= MAX_LOOKED_AT:
            self.looks.update(self.looks_of(contradiction, setting))

    def looks_of(self, contradiction: Contradiction, setting: Setting) -> list[str]:
        if str(contradiction) in (BEYOND, WITHIN_A_PIXEL):
            return [NUMBER if str(contradiction) == BEYOND else "relative"]
        box = contradiction.box
        return [] if box is None else looks_like(contradiction.segmentation, box, setting.height, setting.width)

    def say_rectangles(self) -> None:
        if self.rectangles > MAX_SHARE * self.masks:
            print(f"{self.rectangles} of {self.masks} masks are upright rectangles; are they boxes, and not outlines?")

    def check(self, convention: str | float | None) -> None:
        """Raises SeamlineError when that many contradict themselves: it has to be a convention."""
        if self.beyond > MAX_SHARE * self.turned:
            raise SeamlineError(
                f"{self.first_beyond}: {self.beyond} of {self.turned} masks on photos that EXIF turns, this one first, "
                "reach beyond the photo as it is stored, whose size its record has, and not beyond it as shown; if "
                "they were drawn on photos as shown, exchange width and height in those records."
            )
        if convention == "drop" or self.contradictory <= MAX_SHARE * self.checked:
            return
        name = max(self.looks, key=lambda look: self.looks[look], default=None)
        if name is None:
            guess = "no convention that pull.convention knows fits most of them"
        elif name == NUMBER:
            guess = (
                "they look like masks for larger photos, which pull.convention: NUMBER scales, 0.5 to half the size; "
                "if garments reach beyond their photo, pull.convention: pixels keeps them"
            )
        else:
            guess = f"they look like {CONVENTIONS[name]}, which pull.convention: {name} reads"
        raise SeamlineError(
            f"{self.first}: {self.contradictory} of {self.checked} annotations have a box and a mask that contradict "
            f"each other, this one first; {guess}; pull.convention: drop leaves them out."
        )
