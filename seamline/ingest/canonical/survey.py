"""What all annotations of a source say together, before any of them is judged: ids, extents, conventions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.escaping import to_terminal
from seamline.ingest.canonical.checks import Unusable, is_box, is_number
from seamline.ingest.canonical.contradictions import (
    CONVENTIONS,
    FRAMES,
    GOOD_IOU,
    Box,
    Factors,
    agreement,
    best_reading,
    fit_of,
    outline_bounds,
)
from seamline.ingest.canonical.dress import plain_box, plain_segmentation, text_to_value
from seamline.ingest.canonical.extents import Extent, Reach
from seamline.ingest.canonical.identities import is_identity, record_of
from seamline.ingest.canonical.images import Entry, canonical_size, record_size
from seamline.ingest.canonical.judging import Contradiction, Setting, is_readable
from seamline.ingest.canonical.repair import SCALED, SHARES, mend_annotation
from seamline.ingest.canonical.runs import looks_like_runs
from seamline.ingest.canonical.source import Part, Raw

MAX_SAMPLE = 200  # annotations of a file that say whether its boxes bear pull.convention out
UNDECIDED = 0.05  # of IoU, between a mask as it is and by a convention
MIN_DECIDED = 3  # of them, and of those that many:
MOST = 0.95

Sizes = Callable[[Any], tuple[int, int] | None]  # an image_id -> height and width of the image, if it is known


def surveyed(raws: Sequence[tuple[int, Raw]], sizes: Sequence[Sizes]) -> tuple[list[Any], list[Extent]]:
    """Every annotation's id, None where it cannot be read, and the extent of each part, whose images have `sizes`."""
    ids, extents = [], [Extent() for _ in sizes]
    for part, raw in raws:
        record = record_of(raw) or {}
        ids.append(record.get("id"))
        extent = extents[part]
        category = record.get("category_id")
        if is_identity(category):
            extent.categories[category] += 1
        box = record.get("bbox")
        box = box if is_box(box) else plain_box(box)
        if box is not None:
            extent.box = max(extent.box, *map(abs, box))
            extent.box_end = max(extent.box_end, box[0] + box[2], box[1] + box[3])
        area: Any = record.get("area")
        if is_number(area) and area > 0:
            extent.areas.append(area)
        add_outline(extent, record, box, sizes[part])
    return ids, extents


def add_outline(extent: Extent, record: Record, box: Box | None, size_of: Sizes) -> None:
    bounds = mask_bounds(record.get("segmentation"))
    if bounds is None:
        return
    reach = max(abs(bounds[0]), abs(bounds[1]), bounds[0] + bounds[2], bounds[1] + bounds[3])
    extent.mask = max(extent.mask, reach)
    extent.reaches.append(reach)
    size = size_of(record.get("image_id"))
    if size is not None and (box is None or agreement(box, bounds) >= GOOD_IOU):
        left, top, width, height = bounds
        if left + width > size[1] and looks_like_runs(record.get("segmentation"), math.prod(size)):
            return
        extent.bounds.extend((left, top, left + width, top + height, size[1], size[0]))


def mask_bounds(segmentation: Any) -> Box | None:
    """The box of polygons, whatever their dress; None where there are none."""
    if not isinstance(segmentation, (list, dict, str)) or "counts" in segmentation:
        return None
    try:
        bounds = outline_bounds(segmentation)  # type: ignore[arg-type]  # almost always it is that
        if all(type(value) in (int, float) for value in bounds) and is_number(sum(bounds)):
            return bounds
    except (TypeError, ValueError, KeyError, IndexError):
        pass
    values = list(coordinates(segmentation))
    return outline_bounds([values]) if len(values) > 1 else None


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


def find_followers(
    raws: Sequence[tuple[int, Raw]], extents: Sequence[Extent], sizes: Sequence[Sizes], convention: str | float | None
) -> None:
    """Notes in each extent whether almost all of a sample of its boxes agree better by pull.convention.

    With `drop`, whether most of the sample contradict themselves.
    """
    if convention not in (*CONVENTIONS, "drop"):
        return
    for index, extent in enumerate(extents):
        own = [raw for part, raw in raws if part == index]
        sample = [record_of(raw) or {} for raw in own[:: 1 + len(own) // MAX_SAMPLE]]
        if convention == "drop":
            judged = [verdict for record in sample if (verdict := contradicts(record, sizes[index])) is not None]
            extent.contradicts = sum(judged) > len(judged) / 2
            continue
        verdicts = [
            verdict for record in sample if (verdict := follows(record, sizes[index], str(convention))) is not None
        ]
        extent.follows = len(verdicts) >= MIN_DECIDED and sum(verdicts) >= MOST * len(verdicts)


def contradicts(record: Record, size_of: Sizes) -> bool | None:
    """Whether an annotation contradicts itself; None where it cannot be used at all."""
    size = size_of(record.get("image_id"))
    if size is None:
        return None
    try:
        mend_annotation(record, Setting(*size))
    except Contradiction:
        return True
    except Unusable:
        return None
    return False


def follows(record: Record, size_of: Sizes, convention: str) -> bool | None:
    """Whether an annotation's box agrees better with its mask by a convention; None where nothing says it."""
    size, box = size_of(record.get("image_id")), plain_box(record.get("bbox"))
    if size is None or box is None:
        return None
    try:
        segmentation = plain_segmentation(record.get("segmentation"), *size, [])
    except Unusable:
        return None
    if not is_readable(segmentation):
        return None
    best = best_reading(convention, segmentation, box, *size)
    gain = (best[0] if best is not None else 0.0) - fit_of("", segmentation, box, *size)
    return gain > 0 if abs(gain) > UNDECIDED else None


class Plan(NamedTuple):
    """How pull.convention is applied to an annotation file."""

    masks: bool = False  # whether its coordinates are shares of the image, and those of boxes
    boxes: bool = False
    at_word: bool = False  # no annotation has a box
    follows: bool = False  # almost all boxes bear the convention out
    scales: bool = True  # whether a number is applied
    areas_tell: bool = True
    strict: bool = False  # most of its annotations contradict themselves


def plan_of(extent: Extent, convention: str | float | None) -> Plan:
    limit = FRAMES.get(convention, 1) if isinstance(convention, str) else 1
    masks, boxes = extent.lie_in(limit) if convention != "pixels" else (False, False)
    scales = not isinstance(convention, float) or extent.allows(convention)
    return Plan(masks, boxes, extent.box_end == 0, extent.follows, scales, extent.areas_tell(), extent.contradicts)


def setting_of(entry: Entry, plan: Plan, convention: str | float | None) -> Setting:
    """How the annotations of an image are read."""
    height, width = canonical_size(entry)
    size = record_size(entry.head)
    known: Setting = Setting(height, width, has_size=size is not None, areas_tell=plan.areas_tell, strict=plan.strict)
    if isinstance(convention, float):
        if not plan.scales:
            return known
        factors: Factors = (convention, convention)
        return known._replace(mask_factors=factors, box_factors=factors, scale_reason=SCALED)
    known = known._replace(convention=convention, at_word=plan.at_word, follows=plan.follows)
    if convention == "scaled" and size not in (None, (height, width)):
        factors = (width / size[1], height / size[0])
        return known._replace(mask_factors=factors, box_factors=factors, scale_reason=SCALED)
    if not (plan.masks or plan.boxes):
        return known
    limit = FRAMES.get(convention or "", 1)
    factors = (width / limit, height / limit)
    return known._replace(
        mask_factors=factors if plan.masks else None,
        box_factors=factors if plan.boxes else None,
        scale_reason=SHARES,
    )


def check_extents(parts: Sequence[Part], extents: Sequence[Extent], convention: str | float | None) -> None:
    """Says where pull.convention is not applied to a whole file.

    Raises:
        SeamlineError: when coordinates look like percent or thousandths, or like those of larger photos.
    """
    for part, extent in zip(parts, extents, strict=True):
        reach = extent.reach()
        if convention is None:
            refuse_frames(part, extent, reach)
        elif isinstance(convention, float):
            say_number(part, extent, reach, convention)
        elif FRAMES.get(convention, 1) > 1 and not any(extent.lie_in(FRAMES[convention])) and extent.look_like_pixels():
            print(
                f"{to_terminal(part.title)}: its masks lie in their photos as pixels do, so that pull.convention: "
                f"{convention} is not applied to all of them"
            )


def refuse_frames(part: Part, extent: Extent, reach: Reach) -> None:
    name = extent.frame()
    if name is not None:
        raise SeamlineError(
            f"{part.title}: its masks reach as far as {FRAMES[name]} along both sides, and not as far as their photos; "
            f"they look like {CONVENTIONS[name]}, which pull.convention: {name} reads; if the photos were enlarged or "
            "shrunk since, pull.convention: NUMBER scales the masks; pull.convention: pixels takes them as they are."
        )
    if extent.are_of_larger_photos(reach):
        raise SeamlineError(
            f"{part.title}: {reach.right_or_below} of {reach.outlines} outlines reach beyond the right or lower edge "
            f"of their photo, and {reach.left_or_above} beyond another; they look like masks for larger photos, which "
            f"pull.convention: NUMBER scales, 0.5 to half the size, here {1 / reach.farthest:.2g} at most; if garments "
            "reach beyond their photo, pull.convention: pixels keeps them."
        )


def say_number(part: Part, extent: Extent, reach: Reach, factor: float) -> None:
    if not extent.allows(factor):
        where = (
            "none of its outlines reaches beyond its photo" if factor < 1 else "its outlines would leave their photos"
        )
        print(f"{to_terminal(part.title)}: {where}, so that pull.convention: {factor:g} is not applied")
    elif factor < 1 and reach.outlines > 2 * reach.right_or_below:
        print(
            f"{to_terminal(part.title)}: pull.convention: {factor:g} scales all masks, of which only "
            f"{reach.right_or_below} of {reach.outlines} reached beyond their photo; are some right as they were?"
        )
