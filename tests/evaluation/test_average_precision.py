from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.evaluation.average_precision import (
    METRIC_NAMES,
    average_precision,
    read_ground_truth,
    results_of_kind,
)
from seamline.masks.rle import mask_to_rle
from seamline.params.evaluate import IouThresholds
from tests.conftest import write_dataset

COCO_IOUS = IouThresholds(0.5, 0.95, 0.05)


@pytest.fixture
def truth_file(tmp_path: Path) -> Path:
    folder = write_dataset(tmp_path / "in", count=8)
    coco = json.loads((folder / "instances.json").read_text())
    coco["categories"].append({"id": 3, "name": "never shown"})
    (folder / "instances.json").write_text(json.dumps(coco))
    return folder / "instances.json"


def noisy_results(truth: COCO, seed: int) -> list[Record]:
    """Shifted boxes, wrong classes, misses and false alarms, with random scores."""
    rng = np.random.default_rng(seed)
    results = []
    for record in truth.dataset["annotations"]:
        for _ in range(int(rng.integers(0, 3))):
            x, y = (record["bbox"][:2] + rng.integers(-6, 7, 2)).clip(0)
            mask = np.zeros((60, 40), np.uint8)
            mask[y : y + 20, x : x + 20] = 1
            results.append(
                {
                    "image_id": record["image_id"],
                    "category_id": int(rng.choice([record["category_id"], 1, 2])),
                    "bbox": [float(x), float(y), 20.0, 20.0],
                    "score": float(rng.random()),
                    "segmentation": mask_to_rle(mask),
                }
            )
    return results


def perfect_results(truth: COCO) -> list[Record]:
    return [
        {
            "image_id": record["image_id"],
            "category_id": record["category_id"],
            "bbox": record["bbox"],
            "score": 1.0,
            "segmentation": mask_to_rle(truth.annToMask(record)),
        }
        for record in truth.dataset["annotations"]
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "iou_type"), [("box", "bbox"), ("mask", "segm")])
def test_the_twelve_numbers_are_those_of_a_plain_pycocotools_run(
    truth_file: Path, tmp_path: Path, seed: int, kind: str, iou_type: str
) -> None:
    results = noisy_results(COCO(str(truth_file)), seed)
    found = average_precision(read_ground_truth(truth_file), results, kind, COCO_IOUS)
    saved = results_of_kind(results, kind)  # what the evaluate stage keeps
    (tmp_path / "results.json").write_text(json.dumps(saved))
    plain_truth = COCO(str(truth_file))
    plain = COCOeval(plain_truth, plain_truth.loadRes(str(tmp_path / "results.json")), iou_type)
    plain.evaluate()
    plain.accumulate()
    plain.summarize()
    assert tuple(found.summary) == METRIC_NAMES
    assert [-1 if value is None else value for value in found.summary.values()] == plain.stats.tolist()


def test_perfect_predictions_score_one_and_none_score_zero(truth_file: Path) -> None:
    truth = read_ground_truth(truth_file)
    for kind in ("box", "mask"):
        perfect = average_precision(truth, perfect_results(truth), kind, COCO_IOUS)
        assert perfect.summary["mAP50_95"] == pytest.approx(1)
        assert perfect.per_class["trousers"] == {"mAP50_95": pytest.approx(1), "mAP50": pytest.approx(1)}
        nothing = average_precision(truth, [], kind, COCO_IOUS)
        assert nothing.summary["mAP50_95"] == 0
        # What is not there to be found is no number: no instance is large, no image shows the third class.
        assert perfect.summary["mAP_large"] is None
        assert nothing.per_class["never shown"] == {"mAP50_95": None, "mAP50": None}
        assert [curve.name for curve in perfect.curves] == ["short sleeve top", "trousers"]


def test_a_mask_counts_by_its_own_area_and_not_its_boxs(tmp_path: Path) -> None:
    """A thin diagonal has a large box; with the box in its record pycocotools would call the mask large."""
    folder = write_dataset(tmp_path / "in", count=1, annotations=[])
    mask = np.eye(60, 40, dtype=np.uint8)
    coco = json.loads((folder / "instances.json").read_text())
    coco["annotations"] = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "segmentation": mask_to_rle(mask),
            "area": 40,
            "bbox": [0, 0, 40, 40],
            "iscrowd": 0,
        }
    ]
    (folder / "instances.json").write_text(json.dumps(coco))
    truth = read_ground_truth(folder / "instances.json")
    alarm = {"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 40.0, 40.0], "score": 1.0}
    results = [
        {**alarm, "segmentation": mask_to_rle(mask[::-1].copy())},
        *[{**alarm, "score": 0.5, "segmentation": mask_to_rle(mask)}],
    ]
    assert average_precision(truth, results, "mask", COCO_IOUS).summary["mAP_small"] == pytest.approx(0.5, abs=0.01)


def test_results_are_not_written_into(truth_file: Path) -> None:
    truth = read_ground_truth(truth_file)
    results = perfect_results(truth)
    before = json.dumps(results)
    average_precision(truth, results, "mask", COCO_IOUS)
    assert json.dumps(results) == before


def test_a_tenth_of_the_step_is_plain_pycocotools_at_those_thresholds(truth_file: Path) -> None:
    truth = read_ground_truth(truth_file)
    results = noisy_results(truth, 1)
    fine = IouThresholds(0.5, 0.95, 0.005)
    plain = COCOeval(truth, truth.loadRes(results_of_kind(results, "mask")), "segm")
    plain.params.iouThrs = np.linspace(0.5, 0.95, 91)
    plain.evaluate()
    plain.accumulate()
    plain.summarize()
    assert average_precision(truth, results, "mask", fine).summary["mAP50_95"] == plain.stats[0]
    assert COCO_IOUS.values().tolist() == COCOeval(truth, truth, "bbox").params.iouThrs.tolist()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["box", "mask"])
def test_matches_are_pycocotools_own(truth_file: Path, seed: int, kind: str) -> None:
    truth = read_ground_truth(truth_file)
    truth.dataset["annotations"][4]["iscrowd"] = 1
    results = noisy_results(truth, seed)
    found = average_precision(truth, results, kind, COCO_IOUS).matches
    plain = COCOeval(truth, truth.loadRes(results_of_kind(results, kind)), {"box": "bbox", "mask": "segm"}[kind])
    plain.evaluate()
    expected = {
        (one["category_id"], one["image_id"], number - 1, score): matched.tolist()
        for one in plain.evalImgs
        if one is not None and one["aRng"] == plain.params.areaRng[0]
        for number, score, matched in zip(one["dtIds"], one["dtScores"], one["dtMatches"].T, strict=True)
    }
    assert len(found.score) == len(results) == len(expected)
    with_none = [*found.instance_id.tolist(), 0]
    for row, result in enumerate(found.result.tolist()):
        image, category = int(found.image_ids[found.image[row]]), int(found.class_index[row]) + 1
        matched = [with_none[at] for at in found.instance[:, row]]
        assert expected[category, image, result, found.score[row]] == matched
    for class_index in range(3):  # best first within a class
        scores = found.score[found.class_index == class_index]
        assert (np.diff(scores) <= 0).all()
    assert found.instance_id[found.crowd].tolist() == [truth.dataset["annotations"][4]["id"]]


def test_a_file_that_is_not_ground_truth_is_named(tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text("{")
    for name in ("test.json", "none.json"):
        with pytest.raises(SeamlineError, match=name):
            read_ground_truth(tmp_path / name)


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_predictions_that_overlap_nothing_are_all_wrong(truth_file: Path, kind: str) -> None:
    """Of other classes than their images show, and of images that show nothing: no pair is left to match."""
    truth = read_ground_truth(truth_file)
    results = [{**record, "category_id": 3} for record in perfect_results(truth)]
    found = average_precision(truth, results, kind, COCO_IOUS)
    assert (found.matches.instance == -1).all() and len(found.matches.score) == len(results)
    assert found.summary["mAP50_95"] == 0
