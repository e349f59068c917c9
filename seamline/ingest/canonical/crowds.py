"""Crowds that look like a tool's habit: it gave iscrowd 1 to every mask of one form, and to no other."""

from __future__ import annotations

from collections import Counter
from typing import Any

RLE, PARTS, POLYGON = "RLE", "several polygons", "one polygon"
FORMS = (RLE, PARTS, POLYGON)
MIN_CROWDS = 5  # beside other masks: a crowd or two may well be crowds
MOST = 0.9  # of the masks of a form; a few may have been drawn by another hand


class Crowds:
    """How many masks of each form came with iscrowd 0 and 1."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int]] = Counter()

    def count(self, form: str, iscrowd: int) -> None:
        self.counts[form, iscrowd] += 1

    def habit(self) -> str | None:
        """A sentence where almost every mask of a form is a crowd and almost none of the others is, else None.

        Nor is it said where crowds are too few to be a habit.

        COCO's own files are so too, and mean it: nothing but a look at the photos shows which it is.
        """
        totals = {form: self.counts[form, 0] + self.counts[form, 1] for form in FORMS}
        crowds = [form for form in FORMS if totals[form] and self.counts[form, 1] >= MOST * totals[form]]
        others = [form for form in FORMS if totals[form] and form not in crowds]
        odd, total = sum(self.counts[form, 1] for form in others), sum(totals[form] for form in others)
        if not crowds or total - odd < MOST * total:
            return None
        if others and sum(self.counts[form, 1] for form in crowds) < MIN_CROWDS:
            return None
        counts = " and ".join(f"{amount(self.counts[form, 1], totals[form])} of {form}" for form in crowds)
        which = f"{counts}, {odd or 'none'} of the {total} others" if others else f"{counts}, no others"
        return (
            f"iscrowd is 1 for masks by their form ({which}): COCO's own crowds, which are not trained on, or a tool's "
            "habit; then subset.crowd: instances takes them for instances"
        )


def amount(count: int, of: int) -> str:
    return f"all {count}" if count == of else f"{count} of {of}"


def mask_form(segmentation: Any) -> str:
    """The form of a mask as it came, valid or not."""
    if isinstance(segmentation, dict | str):
        return RLE
    parts = [part for part in segmentation if isinstance(part, list)] if isinstance(segmentation, list) else []
    return PARTS if len(parts) > 1 else POLYGON
