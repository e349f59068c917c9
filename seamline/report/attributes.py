"""Pictures of what attributes are learned from, for the page."""

from __future__ import annotations

from pathlib import Path

from seamline.base.coco import Record
from seamline.report.page import picture_to_data

SHEET_PX = 1200
CHARTS = {
    "counts.png": "Garments with each value of each attribute, by split",
    "cooccurrence.png": "Values that garments have together, shaded by their share of the row's",
}


def attribute_pictures(data: Record, folder: Path) -> list[tuple[str, str, str]]:
    """What each shows, its file's name and its data: address; none where no attributes are learned.

    Args:
        data: data.json of the attributes stage.
        folder: where it lies.
    """
    if not data["attributes"]:
        return []
    sheets = {
        name: f"Some garments with each value of {attribute}" for attribute, name in data["contact_sheets"].items()
    }
    return [
        (label, name, picture_to_data(folder / name, SHEET_PX))
        for name, label in {**CHARTS, **sheets}.items()
        if (folder / name).is_file()
    ]
