"""The two kinds of shapes that a model may find, and which one its primary metric is about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seamline.base.coco import Record

KINDS = ("box", "mask")
PLURALS = {"box": "boxes", "mask": "masks"}
COCO_KEYS = {"box": "bbox", "mask": "segmentation"}  # of annotations and results


def kinds_of(has_masks: bool) -> tuple[str, ...]:
    """What a model that finds masks, or boxes only, is measured on."""
    return KINDS if has_masks else ("box",)


def primary_kind(names: Iterable[str]) -> str:
    """Return "mask" where one of the names is about masks, else "box".

    Args:
        names: kinds, or what is named after them: a record's keys, a table's columns ("val_mask_mAP50_95").
    """
    return "mask" if any("mask" in name.split("_") for name in names) else "box"


def kinds_of_predictions(folder: Path) -> tuple[str, ...]:
    """The kinds that the evaluate stage has written predictions of."""
    return kinds_of((folder / "test_mask.json").exists())


def shape_of(record: Record, kind: str) -> Any:
    """The box or the mask of a COCO result, as pycocotools takes it."""
    return record[COCO_KEYS[kind]]
