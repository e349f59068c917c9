"""COCOeval's arrays by hotcoco, pycocotools' algorithm in Rust."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO

from seamline.base.coco import Record


def installed() -> Any:
    """hotcoco; None where it is not installed, and pycocotools does everything."""
    try:
        import hotcoco
    except ImportError:
        return None
    return hotcoco


hotcoco = installed()

Floats = npt.NDArray[np.float64]
SHAPES = {"bbox": ("bbox",), "segm": ("bbox", "segmentation")}


def hotcoco_arrays(
    truth: COCO, results: list[Record], iou_type: str, thresholds: Floats
) -> tuple[Floats, Floats] | None:
    """COCOeval's precision (IoU, recall, class, size, detections) and recall (without the second axis).

    None where hotcoco is not installed or does not take the records.
    """
    if hotcoco is None:
        return None
    known = [record for record in results if record["category_id"] in truth.cats]  # it warns of others
    if not known:
        return None
    # Only what is evaluated is handed over: other fields, of any type, would be read as well.
    fields = ("id", "image_id", "category_id", "area", "iscrowd", *SHAPES[iou_type])
    try:
        index = hotcoco.COCO(
            {
                "images": only(truth.dataset["images"], ("id", "width", "height")),
                "categories": only(truth.dataset["categories"], ("id", "name")),
                "annotations": only(truth.dataset["annotations"], fields),
            }
        )
        evaluator = hotcoco.COCOeval(index, index.loadRes(known), iou_type)
        evaluator.params.iouThrs = thresholds.tolist()
        evaluator.evaluate()
        evaluator.accumulate()
        found: Record = evaluator.eval
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    return np.asarray(found["precision"], np.float64), np.asarray(found["recall"], np.float64)


def only(records: Iterable[Record], fields: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{field: record[field] for field in fields if field in record} for record in records]
