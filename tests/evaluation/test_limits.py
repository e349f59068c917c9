"""What lies exactly on a limit of average precision: the first threshold, the hundredth detection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.base.coco import Record
from seamline.evaluation.average_precision import average_precision, read_ground_truth
from seamline.params.evaluate import IouThresholds

COCO_IOUS = IouThresholds(0.5, 0.95, 0.05)


def truth_of(tmp_path: Path, boxes: list[tuple[int, list[float]]]) -> COCO:
    """Images 1 and 2 of 100 x 100; an instance of a class for each box, on image 1."""
    coco = {
        "images": [{"id": number, "file_name": f"{number}.png", "width": 100, "height": 100} for number in (1, 2)],
        "annotations": [
            {"id": index, "image_id": 1, "category_id": number, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
            for index, (number, bbox) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 1, "name": "top"}, {"id": 2, "name": "hat"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(coco))
    return read_ground_truth(tmp_path / "truth.json")


def found(number: int, bbox: list[float], score: float) -> Record:
    return {"image_id": 1, "category_id": number, "bbox": bbox, "score": score}


def test_a_classes_map50_is_at_one_half_and_its_map_over_all_thresholds(tmp_path: Path) -> None:
    """A box of IoU 0.52 counts for mAP50 and for none of the nine other thresholds; one of 0.8 for seven of ten."""
    truth = truth_of(tmp_path, [(1, [0, 0, 100, 50]), (2, [0, 0, 100, 50])])
    results = [found(1, [0, 0, 100, 26], 0.9), found(2, [0, 0, 100, 40], 0.9)]
    evaluated = average_precision(truth, results, "box", COCO_IOUS)
    assert evaluated.per_class["top"] == {"mAP50": pytest.approx(1), "mAP50_95": pytest.approx(0.1)}
    assert evaluated.per_class["hat"] == {"mAP50": pytest.approx(1), "mAP50_95": pytest.approx(0.7)}
    for curve in evaluated.curves:
        assert len(curve.recall) == len(curve.precision) == 101
        assert curve.precision == pytest.approx([1.0] * 101)
    for number, name in ((1, "top"), (2, "hat")):
        plain = COCOeval(truth, truth.loadRes([dict(record) for record in results]), "bbox")
        plain.params.catIds, plain.params.iouThrs = [number], plain.params.iouThrs[:1]
        plain.evaluate()
        plain.accumulate()
        assert evaluated.per_class[name]["mAP50"] == pytest.approx(plain.eval["precision"][0, :, 0, 0, 2].mean())


@pytest.mark.parametrize(("alarms", "recall"), [(99, 1.0), (100, 0.0)])
def test_the_hundredth_detection_of_an_image_and_class_is_the_last(tmp_path: Path, alarms: int, recall: float) -> None:
    truth = truth_of(tmp_path, [(1, [0, 0, 100, 50]), (2, [0, 0, 10, 10])])
    results = [found(1, [80, 80, 9, 9], 0.9 - index / 1000) for index in range(alarms)]
    results += [found(1, [0, 0, 100, 50], 0.1), found(2, [0, 0, 10, 10], 0.05)]  # each class has its own hundred
    evaluated = average_precision(truth, results, "box", COCO_IOUS)
    assert evaluated.summary["AR100"] == pytest.approx((recall + 1) / 2)
    assert evaluated.summary["AR10"] == evaluated.summary["AR1"] == pytest.approx(0.5)
    assert (evaluated.matches.class_index == 0).sum() == 100
    assert (evaluated.matches.class_index == 1).sum() == 1
    assert evaluated.per_class["hat"]["mAP50"] == pytest.approx(1)
    assert (evaluated.per_class["top"]["mAP50"] or 0) == pytest.approx(recall / 100, abs=1e-9)


def test_areas_are_small_medium_and_large_as_cocos(tmp_path: Path) -> None:
    """Up to 32 x 32 pixels, up to 96 x 96, and from there on; the medium one is not found."""
    truth = truth_of(tmp_path, [(1, [0, 0, 31, 31]), (1, [40, 0, 33, 33]), (2, [0, 0, 97, 97])])
    results = [found(1, [0, 0, 31, 31], 0.9), found(2, [0, 0, 97, 97], 0.8)]
    summary = average_precision(truth, results, "box", COCO_IOUS).summary
    assert (summary["AR_small"], summary["AR_medium"], summary["AR_large"]) == (1, 0, 1)
