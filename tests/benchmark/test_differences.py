"""One image through all formats: the one where they differ most, and what is drawn of it."""

from __future__ import annotations

import numpy as np
import pytest

from seamline.base.coco import Record
from seamline.benchmark.differences import COLUMNS, HEAD_PX, mean_iou, most_different, side_by_side
from seamline.evaluation.average_precision import read_ground_truth
from seamline.images.overlays import GAP_PX, SIDE_PX
from seamline.masks.rle import mask_to_rle
from tests.untrained import Untrained


def found(image_id: int, score: float, rows: int, category_id: int = 1) -> Record:
    mask = np.zeros((100, 60), np.uint8)
    mask[:rows] = 1
    return {"image_id": image_id, "category_id": category_id, "score": score, "segmentation": mask_to_rle(mask)}


def test_mean_iou_counts_what_either_has() -> None:
    assert mean_iou([], [], "mask") is None
    assert mean_iou([found(1, 0.9, 50)], [], "mask") == 0
    assert mean_iou([found(1, 0.9, 50)], [found(1, 0.3, 40)], "mask") == 0.8
    assert mean_iou([found(1, 0.9, 50)], [found(1, 0.9, 50, 2)], "mask") == 0  # of another class
    assert mean_iou([found(1, 0.9, 50)], [found(1, 0.9, 50), found(1, 0.9, 25)], "mask") == pytest.approx(
        2.5 / 3, abs=1e-5
    )


def test_the_image_on_which_formats_differ_most_is_shown() -> None:
    reference = [found(1, 0.9, 50), found(2, 0.9, 50), found(3, 0.9, 50)]
    same = {"pytorch": reference, "onnx": reference, "int8": reference}
    assert most_different(same, "pytorch", 0.25, [1, 2, 3], "mask") == {
        "image_id": 1,
        "mean_iou": {"onnx": 1.0, "int8": 1.0},
    }
    other = [found(1, 0.9, 49), found(2, 0.9, 40), found(3, 0.9, 50)]
    shown = most_different({**same, "int8": other}, "pytorch", 0.25, [1, 2, 3], "mask")
    assert shown == {"image_id": 2, "mean_iou": {"onnx": 1.0, "int8": 0.8}}
    faint = [*other, found(3, 0.2, 10)]  # below the confidence it is nothing
    assert most_different({**same, "int8": faint}, "pytorch", 0.25, [1, 2, 3], "mask")["image_id"] == 2
    nothing = most_different({"pytorch": [], "onnx": []}, "pytorch", 0.25, [7], "mask")
    assert nothing == {"image_id": 7, "mean_iou": {"onnx": None}}


@pytest.mark.process
def test_each_format_has_a_panel_with_its_own_masks(untrained: Untrained) -> None:
    truth = read_ground_truth(untrained.split / "test.json")
    category_id = min(truth.cats)
    image = np.full((100, 60, 3), 200, np.uint8)
    records = {"pytorch": [found(1, 0.9, 50, category_id)], "onnx": [], "a": [], "b": []}
    picture = side_by_side(image, records, truth, {"pytorch": "PyTorch"})
    width, height = round(0.6 * SIDE_PX), SIDE_PX + HEAD_PX
    assert picture.shape == (2 * height, COLUMNS * width + (COLUMNS - 1) * GAP_PX, 3)
    first, second = picture[HEAD_PX:height, :width], picture[HEAD_PX:height, width + GAP_PX : 2 * width + GAP_PX]
    assert (second == 200).all(), "nothing was found by the second"
    assert (first[-20:] == 200).all()
    assert (first[:20, :20] != 200).any()
    assert (picture[height:, -width:] == 255).all(), "no fifth or sixth format"
    assert picture[:HEAD_PX, :width].min() < 100, "its name"
