"""What all annotations of a source say together, before any of them is judged: ids, extents, conventions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from seamline.base.errors import SeamlineError
from seamline.ingest.canonical.checks import Unusable, is_box, is_number
from seamline.ingest.canonical.contradictions import CONVENTIONS, FRAMES, Factors
from seamline.ingest.canonical.dress import plain_box, text_to_value
from seamline.ingest.canonical.identities import is_identity, record_of
from seamline.ingest.canonical.images import Entry, canonical_size, record_size
from seamline.ingest.canonical.repair import SCALED, SHARES, Setting
from seamline.ingest.canonical.source import Part, Raw

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
