from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.coco import Record
from seamline.masks import mask_to_rle
from seamline.metrics import (
    METRIC_NAMES,
    average_precision,
    best_f1_score,
    confusion_matrix,
    confusion_to_rows,
    curves_to_table,
    read_ground_truth,
    results_of_kind,
)
from tests.conftest import write_dataset


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
    found = average_precision(read_ground_truth(truth_file), results, kind)
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
        perfect = average_precision(truth, perfect_results(truth), kind)
        assert perfect.summary["mAP50_95"] == pytest.approx(1)
        assert perfect.per_class["trousers"] == {"mAP50_95": pytest.approx(1), "mAP50": pytest.approx(1)}
        nothing = average_precision(truth, [], kind)
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
    assert average_precision(truth, results, "mask").summary["mAP_small"] == pytest.approx(0.5, abs=0.01)


def test_results_are_not_written_into(truth_file: Path) -> None:
    truth = read_ground_truth(truth_file)
    results = perfect_results(truth)
    before = json.dumps(results)
    average_precision(truth, results, "mask")
    assert json.dumps(results) == before


def test_best_f1_threshold_leaves_the_false_alarms_out(truth_file: Path) -> None:
    truth = read_ground_truth(truth_file)
    results = [{**record, "score": 0.8} for record in perfect_results(truth)]
    alarms = [{**record, "image_id": record["image_id"] % 8 + 1, "score": 0.3} for record in results]
    for record in alarms:
        record["segmentation"] = mask_to_rle(np.eye(60, 40, dtype=np.uint8))
    found = average_precision(truth, results + alarms, "mask")
    assert best_f1_score(found.curves) == pytest.approx(0.8)
    assert best_f1_score([]) == 0


def test_confusion_counts_every_instance_once(truth_file: Path) -> None:
    truth = read_ground_truth(truth_file)
    results = perfect_results(truth)
    results[0]["category_id"] = 2  # a top taken for trousers
    del results[3]  # trousers missed
    results.append({**results[5], "segmentation": mask_to_rle(np.eye(60, 40, dtype=np.uint8)), "score": 0.9})
    results.append({**results[5], "score": 0.1})  # below the threshold
    names, matrix = confusion_matrix(truth, results, 0.5)
    assert names == ["short sleeve top", "trousers", "never shown", "background"]
    assert matrix.tolist() == [[7, 1, 0, 0], [0, 7, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    rows = confusion_to_rows(names, matrix)
    assert len(rows) == matrix.sum()
    assert rows.count(("short sleeve top", "trousers")) == 1


def test_the_curve_table_has_the_mean_and_each_class(truth_file: Path) -> None:
    truth = read_ground_truth(truth_file)
    header, rows = curves_to_table(average_precision(truth, noisy_results(truth, 1), "mask").curves)
    assert header == ["recall", "precision", "short sleeve top", "trousers"]
    assert len(rows) == 101
    for recall, mean, *classes in rows:
        assert 0 <= recall <= 1
        assert mean == pytest.approx(np.mean(classes), abs=1e-6)
    assert curves_to_table([]) == (["recall", "precision"], [])
