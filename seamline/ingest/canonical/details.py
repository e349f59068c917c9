"""What a reason alone does not say of an annotation that is left out: the values that it speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seamline.base.coco import Record
from seamline.ingest.canonical.checks import OTHER_SIZE, Unusable
from seamline.ingest.canonical.contradictions import Box, agreement, checked_rle, own_box
from seamline.ingest.canonical.images import Entry, canonical_size
from seamline.ingest.canonical.judging import Contradiction

MAX_LENGTH = 60  # of a value, which may be anything


def detail_of(unusable: Unusable, record: Record | None, entry: Entry | None) -> str:
    """A few words for the list of changes; "" where the reason says all."""
    if record is None:
        return ""
    reason = str(unusable)
    if reason == "annotation: its category is unknown":
        return f"category_id {shown(record.get('category_id'))}"
    if entry is None:
        return ""
    height, width = canonical_size(entry)
    segmentation = record.get("segmentation")
    if reason == OTHER_SIZE and isinstance(segmentation, dict):
        return f"RLE {sides(segmentation.get('size'))}, image {sides((height, width))} (height x width)"
    if isinstance(unusable, Contradiction):
        return boxes_of(unusable, height, width)
    return f"iscrowd {shown(record.get('iscrowd'))}" if "iscrowd" in reason else ""


def boxes_of(contradiction: Contradiction, height: int, width: int) -> str:
    """The box as it is given, the mask's own, and their IoU."""
    rle = checked_rle(contradiction.segmentation, height, width)
    own: Box | None = own_box(rle) if rle is not None else None
    mask = f"box of the mask {numbers(own)}" if own is not None and own[2] * own[3] > 0 else ""
    if contradiction.box is None:
        return mask
    given = f"box {numbers(contradiction.box)}"
    return f"IoU {agreement(contradiction.box, own):.2f}: {given}, {mask}" if mask and own is not None else given


def numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.10g}' for value in (round(value, 1) for value in values))}]"


def sides(size: Any) -> str:
    both = isinstance(size, (list, tuple)) and len(size) == 2
    return f"{shown(size[0])} x {shown(size[1])}" if both else shown(size)


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}..."
