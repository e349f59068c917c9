"""Crowds that look like a tool's habit: it gave iscrowd 1 to every mask of one form, and to no other."""

from __future__ import annotations

from collections import Counter
from typing import Any

RLE, PARTS, POLYGON = "RLE", "several polygons", "one polygon"
MIN_CROWDS = 5  # beside other masks: a crowd or two may well be crowds


class Crowds:
    """How many masks of each form came with iscrowd 0 and 1."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int]] = Counter()

    def count(self, form: str, iscrowd: int) -> None:
        self.counts[form, iscrowd] += 1

    def habit(self) -> str | None:
        """A sentence where every mask of a form is a crowd and none of the others is; None where that is not so.

        Nor where crowds are too few to be a habit.

        COCO's own files are so too, and mean it: nothing but a look at the photos shows which it is.
        """
        forms = {form for form, _ in self.counts}
        crowds = [form for form in (RLE, PARTS, POLYGON) if self.counts[form, 1]]
        if not crowds or any(self.counts[form, 0] for form in crowds):
            return None
        if sum(self.counts[form, 1] for form in crowds) < MIN_CROWDS and len(crowds) < len(forms):
            return None
        counts = " and ".join(f"all {self.counts[form, 1]} of {form}" for form in crowds)
        others = sum(self.counts[form, 0] for form in forms)
        which = f"{counts}, none of the {others} others" if others else f"{counts}, no others"
        return (
            f"iscrowd is 1 for masks by their form ({which}): COCO's own crowds, which are not trained on, or a tool's "
            "habit; then subset.crowd: instances takes them for instances"
        )


def mask_form(segmentation: Any) -> str:
    """The form of a mask as it came, valid or not."""
    if isinstance(segmentation, dict | str):
        return RLE
    parts = [part for part in segmentation if isinstance(part, list)] if isinstance(segmentation, list) else []
    return PARTS if len(parts) > 1 else POLYGON
