"""What all annotations of a source say together, before any of them is judged: ids, extents, conventions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.ingest.canonical.checks import Unusable, is_box, is_number
from seamline.ingest.canonical.contradictions import (
    BOTH_SWAPPED,
    CONVENTIONS,
    FRAMES,
    NUMBER,
    Factors,
    leaves_image,
    looks_like,
    looks_outside,
)
from seamline.ingest.canonical.dress import plain_box, text_to_value
from seamline.ingest.canonical.identities import is_identity, record_of
from seamline.ingest.canonical.images import Entry, canonical_size, record_size
from seamline.ingest.canonical.repair import (
    BEYOND,
    EXCHANGED,
    INVERTED,
    OUTSIDE,
    RESIZED,
    ROWS,
    SCALED,
    SHARES,
    WITHIN_A_PIXEL,
    Contradiction,
    Mended,
    Setting,
    is_readable,
    is_rectangle,
)
from seamline.ingest.canonical.source import Part, Raw

MAX_SHARE = 0.1  # of the records that can be checked: more contradictions are not a few mistakes but a convention
MAX_LOOKED_AT = 300  # contradictions, for what they look like
MIN_RECORDS = 10  # before all coordinates together say something
MAX_REACH = 0.75  # of a photo; where masks of many photos reach no farther, the photos may have been enlarged
LOOKS = {ROWS: "rows", INVERTED: "inverted", EXCHANGED: "swapped", RESIZED: "scaled"}  # of RLE without a box
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
        alike = self.box_end == 0 or 0.8 * self.mask <= self.box_end <= 1.25 * self.mask
        same = 0 < self.mask <= limit * RELATIVE_LIMIT and alike
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
    known = known._replace(convention=convention, at_word=extent.box_end == 0)
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


class Side(msgspec.Struct):
    """Annotations with a box, or those without: how many could be checked, and how many contradict themselves."""

    checked: int = 0
    contradictory: int = 0
    first: str = ""
    looks: Counter[str] = msgspec.field(default_factory=Counter)


class Tally:
    """What the annotations of a source say together, one after the other: which convention they seem to follow."""

    def __init__(self) -> None:
        self.boxed = Side()
        self.boxless = Side()
        self.masks = 0
        self.rectangles = 0
        self.unchecked = 0  # masks without a box, an area, or a shape that says something
        self.sideless = 0  # RLE without a box and an area, and those that cover all corners, as backgrounds do
        self.cornered = 0
        self.leaving = 0  # outlines that leave the image, and those that would not with y before x
        self.leaving_only_unswapped = 0
        self.first_leaving = ""
        self.sizeless = 0  # masks on photos whose records have no size, and how far they reach, from 0 to 1
        self.reach = 0.0
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

    def add(self, mended: Mended, record: Record, setting: Setting, where: str) -> None:
        self.masks += 1
        self.rectangles += is_rectangle(record["segmentation"])
        if mended.has_box:
            self.boxed.checked += 1
        else:
            self.add_boxless(mended)
        if mended.outside:
            self.leaving += 1
            self.leaving_only_unswapped += BOTH_SWAPPED in mended.outside
            self.first_leaving = self.first_leaving or where
        if not setting.has_size:
            left, top, width, height = record["bbox"]
            self.sizeless += 1
            self.reach = max(self.reach, (left + width) / setting.width, (top + height) / setting.height)

    def add_boxless(self, mended: Mended) -> None:
        look = mended.look
        self.boxless.checked += 1
        self.unchecked += not (mended.has_area or (look is not None and look.order))
        if look is not None and look.is_rle and look.side is None:
            self.sideless += 1
            self.cornered += look.covers_corners

    def add_contradiction(self, contradiction: Contradiction, setting: Setting, where: str) -> None:
        side = self.boxless if contradiction.box is None else self.boxed
        side.checked += 1
        side.contradictory += 1
        side.first = side.first or where
        if side.contradictory <= MAX_LOOKED_AT:
            side.looks.update(looks_of(contradiction, setting))

    def say(self, convention: str | float | None) -> None:
        """Prints what may be wrong with the whole source, and is too uncertain to stop for."""
        if self.rectangles > MAX_SHARE * self.masks:
            print(f"{self.rectangles} of {self.masks} masks are upright rectangles; are they boxes, and not outlines?")
        if convention is None and self.sizeless >= MIN_RECORDS and self.reach <= MAX_REACH:
            print(
                f"none of {self.sizeless} masks, on photos whose records have no size, reaches beyond "
                f"{self.reach:.0%} of its photo; if the photos were enlarged after annotation, pull.convention: NUMBER "
                "scales the masks, 2 to twice the size"
            )

    def check(self, convention: str | float | None) -> None:
        """Raises SeamlineError when that many contradict themselves: it has to be a convention."""
        if self.beyond > MAX_SHARE * self.turned:
            raise SeamlineError(
                f"{self.first_beyond}: {self.beyond} of {self.turned} masks on photos that EXIF turns, this one first, "
                "reach beyond the photo as it is stored, whose size its record has, and not beyond it as shown; if "
                "they were drawn on photos as shown, exchange width and height in those records."
            )
        if convention != "drop":
            boxed, boxless = self.boxed, self.boxless
            both = Side(boxed.checked + boxless.checked, boxed.contradictory + boxless.contradictory)
            for counts, side, what in (
                (boxed, boxed, "have a box and a mask that contradict each other"),
                (both, boxless, "have no box, and a mask that cannot be right as it is"),
            ):
                if counts.contradictory > MAX_SHARE * counts.checked:
                    raise SeamlineError(
                        f"{side.first}: {side.contradictory} of {side.checked} annotations {what}, this one first; "
                        f"{guess_of(side.looks)}; pull.convention: drop leaves them out."
                    )
        if convention is not None:
            return
        if self.leaving > MAX_SHARE * self.masks and self.leaving == self.leaving_only_unswapped:
            raise SeamlineError(
                f"{self.first_leaving}: {self.leaving} of {self.masks} masks, this one first, reach beyond their "
                f"photo, and all of them would lie in it with y before x, which pull.convention: {BOTH_SWAPPED} reads; "
                "pull.convention: pixels takes them as they are."
            )
        if self.cornered >= MIN_RECORDS and self.cornered > self.sideless / 2:
            raise SeamlineError(
                f"pull.source: {self.cornered} of {self.sideless} masks without box and area cover all four corners of "
                f"their photo; they look like {CONVENTIONS['inverted']}, which pull.convention: inverted reads; "
                "pull.convention: pixels takes them as they are."
            )


def looks_of(contradiction: Contradiction, setting: Setting) -> list[str]:
    """The conventions by which a contradiction would be none."""
    reason, segmentation, box = str(contradiction), contradiction.segmentation, contradiction.box
    if reason == WITHIN_A_PIXEL:
        return ["relative"]
    if reason in LOOKS:
        return [LOOKS[reason]]
    if box is None or reason in (BEYOND, OUTSIDE):
        return looks_outside(segmentation, setting.height, setting.width)
    return looks_like(segmentation, box, setting.height, setting.width)


def guess_of(looks: Mapping[str, int]) -> str:
    """What to try, by how many records look like each convention."""
    name = max(looks, key=lambda look: looks[look], default=None)
    if name is None:
        return "no convention that pull.convention knows fits most of them"
    if name == BOTH_SWAPPED:
        return f"they look like masks and boxes with y before x, which pull.convention: {BOTH_SWAPPED} reads"
    if name == NUMBER:
        return (
            "they look like masks for larger photos, which pull.convention: NUMBER scales, 0.5 to half the size; "
            "if garments reach beyond their photo, pull.convention: pixels keeps them"
        )
    return f"they look like {CONVENTIONS[name]}, which pull.convention: {name} reads"
