"""What an f32 model has to reach."""

from __future__ import annotations

import numpy as np
import pytest

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.export.gates import check_drift, matched_share
from seamline.masks.rle import mask_to_rle


def test_drift_in_either_direction_is_an_error() -> None:
    check_drift("onnx", "mask", 0.001, 0.002, 1.0, 0.99)
    check_drift("onnx", "mask", 0.001, 0.002, None, 0.99)
    for drop in (0.003, -0.003):
        with pytest.raises(SeamlineError, match=r"onnx: .*0\.0030 from PyTorch's, more than export\.max_drift"):
            check_drift("onnx", "mask", drop, 0.002, 1.0, 0.99)
    with pytest.raises(SeamlineError, match=r"onnx: finds only 98\.50% of what PyTorch finds .* export\.min_matched"):
        check_drift("onnx", "mask", 0.0, 0.002, 0.985, 0.99)


def detection(image_id: int, score: float, side: int, category_id: int = 1) -> Record:
    mask = np.zeros((100, 100), np.uint8)
    mask[:side, :100] = 1
    return {"image_id": image_id, "category_id": category_id, "score": score, "segmentation": mask_to_rle(mask)}


def test_a_detection_is_matched_once_by_one_of_its_class_image_and_shape() -> None:
    reference = [detection(1, 0.9, 50), detection(1, 0.8, 20), detection(2, 0.5, 60), detection(2, 0.2, 30)]
    others = reference[1:]
    assert matched_share(reference, reference) == 1
    assert matched_share([detection(1, 0.1, 48), *others], reference) == 1  # whatever its score
    assert matched_share([detection(1, 0.9, 47), *others], reference) == 2 / 3  # 47 of 50 rows: IoU 0.94
    assert matched_share([detection(2, 0.9, 50), *others], reference) == 2 / 3  # on another image
    assert matched_share([detection(1, 0.9, 50, 2), *others], reference) == 2 / 3  # of another class
    assert matched_share([detection(1, 0.9, 50)], [detection(1, 0.9, 50), detection(1, 0.8, 50)]) == 1 / 2
    assert matched_share([], reference) == 0
    assert matched_share([*reference, detection(3, 0.9, 0)], [*reference, detection(3, 0.9, 0)]) == 1  # without a pixel
    assert matched_share(reference, [detection(1, 0.2, 50)]) is None


def box(image_id: int, score: float, side: float, category_id: int = 1) -> Record:
    return {"image_id": image_id, "category_id": category_id, "score": score, "bbox": [10.0, 10.0, 100.0, side]}


def test_where_there_are_no_masks_boxes_are_matched() -> None:
    reference = [box(1, 0.9, 50), box(1, 0.8, 20), box(2, 0.5, 60), box(2, 0.2, 30)]
    others = reference[1:]
    assert matched_share(reference, reference) == 1
    assert matched_share([box(1, 0.1, 48), *others], reference) == 1
    assert matched_share([box(1, 0.9, 47), *others], reference) == 2 / 3  # IoU 0.94
    assert matched_share([box(2, 0.9, 50), *others], reference) == 2 / 3
    assert matched_share([box(1, 0.9, 50, 2), *others], reference) == 2 / 3
    assert matched_share([box(1, 0.9, 50)], [box(1, 0.9, 50), box(1, 0.8, 50)]) == 1 / 2
    assert matched_share([], reference) == 0
    assert matched_share([*reference, box(3, 0.9, 0)], [*reference, box(3, 0.9, 0)]) == 1  # without an area
    assert matched_share(reference, [box(1, 0.2, 50)]) is None


def test_masks_are_matched_by_their_masks_though_they_have_boxes_too() -> None:
    boxed = {"bbox": [0.0, 0.0, 100.0, 100.0]}
    assert matched_share([{**detection(1, 0.9, 20), **boxed}], [{**detection(1, 0.9, 50), **boxed}]) == 0


def test_the_words_are_those_of_what_is_compared() -> None:
    with pytest.raises(SeamlineError, match=r"onnx: its box mAP50-95 on val differs by 0\.0030"):
        check_drift("onnx", "box", 0.003, 0.002, 1.0, 0.99)
    with pytest.raises(SeamlineError, match=r"boxes of IoU 0\.95"):
        check_drift("onnx", "box", 0.0, 0.002, 0.5, 0.99)


def test_what_lies_exactly_on_a_limit() -> None:
    """A score of DETECTED_SCORE does not count as detected; a share and a drop of exactly the limit are allowed."""
    assert matched_share([], [box(1, 0.25, 50)]) is None
    check_drift("onnx", "mask", 0.002, 0.002, 0.99, 0.99)


def test_the_best_detections_are_matched_first() -> None:
    """The second of the reference fits both that were found, the first only one of them."""
    reference = [box(1, 0.3, 100), box(1, 0.9, 103)]
    assert matched_share([box(1, 0.9, 102), box(1, 0.9, 107)], reference) == 1 / 2
    assert matched_share([box(1, 0.9, 98), box(1, 0.9, 102)], reference) == 1


def test_the_smallest_mask_and_a_box_without_a_width_are_judged() -> None:
    """A mask of one pixel is one; a box has an area only with both sides."""
    pixel = np.zeros((100, 100), np.uint8)
    pixel[3, 4] = 1
    small = {"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": mask_to_rle(pixel)}
    assert matched_share([small], [small]) == 1
    assert matched_share([], [small]) == 0
    line = {"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [10.0, 10.0, 0.0, 20.0]}
    assert matched_share([line], [line]) is None
