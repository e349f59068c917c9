from __future__ import annotations

import contextlib
import copy
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.base.coco import Record
from seamline.evaluation.average_precision import Curve, Matches, average_precision, read_ground_truth, results_of_kind
from seamline.evaluation.curves import (
    THRESHOLDS,
    best_f1_threshold,
    curves_to_table,
    matches_to_operating,
    operating_to_point,
    operating_to_table,
)
from seamline.masks.rle import mask_to_rle
from tests.conftest import write_dataset
from tests.evaluation.test_average_precision import COCO_IOUS, noisy_results, perfect_results


@pytest.fixture
def truth(tmp_path: Path) -> COCO:
    return read_ground_truth(write_dataset(tmp_path / "in", count=8) / "instances.json")


def matches_of(truth: COCO, results: list[Record]) -> Matches:
    return average_precision(truth, results, "mask", COCO_IOUS).matches


def plain_counts(truth: COCO, results: list[Record], threshold: float) -> dict[str, tuple[int, int]]:
    """Right and predicted of each class, by a pycocotools run over the predictions from the threshold on."""
    kept = [record for record in results_of_kind(results, "mask") if record["score"] >= threshold]
    counts = {}
    for number, category in sorted(truth.cats.items()):
        if not kept:
            counts[category["name"]] = (0, 0)
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(kept)), "segm")
            evaluator.params.catIds = [number]
            evaluator.evaluate()
        images = [one for one in evaluator.evalImgs[: len(truth.imgs)] if one is not None]
        counts[category["name"]] = (
            int(sum((one["dtMatches"][0] > 0).sum() for one in images)),
            sum(len(one["dtIds"]) for one in images),
        )
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_counts_at_a_threshold_are_those_of_pycocotools_on_what_is_above_it(truth: COCO, seed: int) -> None:
    results = noisy_results(truth, seed)
    results[0]["score"] = 0.5  # on a threshold
    operating = matches_to_operating(matches_of(truth, results))
    for at in (0, 13, 50, 77, 100):
        expected = plain_counts(truth, results, THRESHOLDS[at])
        found = zip(operating.right[:, at].tolist(), operating.predicted[:, at].tolist(), strict=True)
        assert dict(zip(operating.names, found, strict=True)) == expected


def test_precision_recall_and_f1_are_what_their_names_say(truth: COCO) -> None:
    operating = matches_to_operating(matches_of(truth, noisy_results(truth, 2)))
    point = operating_to_point(operating, 0.4)
    for name, row in point["classes"].items():
        right, wrong, missed = row["right"], row["false_alarms"], row["missed"]
        assert right + missed == 8, name
        assert row["precision"] == pytest.approx(right / (right + wrong), abs=1e-6)
        assert row["recall"] == pytest.approx(right / 8, abs=1e-6)
        assert row["F1"] == pytest.approx(2 * right / (2 * right + wrong + missed), abs=1e-6)
    for key in ("right", "false_alarms", "missed"):
        assert point[key] == sum(row[key] for row in point["classes"].values())
    for key in ("precision", "recall", "F1"):
        assert point[key] == pytest.approx(np.mean([row[key] for row in point["classes"].values()]), abs=1e-6)


def test_the_best_threshold_leaves_the_false_alarms_out(truth: COCO) -> None:
    results = [{**record, "score": 0.8} for record in perfect_results(truth)]
    alarms = [{**record, "image_id": record["image_id"] % 8 + 1, "score": 0.3} for record in results]
    for record in alarms:
        record["segmentation"] = mask_to_rle(np.eye(60, 40, dtype=np.uint8))
    operating = matches_to_operating(matches_of(truth, results + alarms))
    assert best_f1_threshold(operating) == 0.31  # the lowest that the alarms do not reach
    assert operating_to_point(operating, 0.31)["F1"] == 1
    assert operating_to_point(operating, 0.3)["precision"] == pytest.approx(0.5)
    assert best_f1_threshold(matches_to_operating(matches_of(truth, []))) == 0.25


def test_what_cannot_be_counted_is_none(truth: COCO) -> None:
    truth.dataset["categories"].append({"id": 3, "name": "never shown"})
    truth.createIndex()
    operating = matches_to_operating(matches_of(truth, perfect_results(truth)[:1]))
    point = operating_to_point(operating, 0.5)
    assert point["classes"]["never shown"] == {
        "precision": None, "recall": None, "F1": None, "right": 0, "false_alarms": 0, "missed": 0,
    }  # fmt: skip
    assert point["classes"]["trousers"]["precision"] is None
    assert point["classes"]["trousers"]["recall"] == 0
    header, rows = operating_to_table(operating)
    assert header == ["confidence", "precision", "recall", "F1", "F1 short sleeve top", "F1 trousers"]
    assert [row[0] for row in rows] == THRESHOLDS.tolist()
    assert rows[50][1] == 1


def test_means_are_over_the_classes_that_are_there_in_every_file(truth: COCO) -> None:
    truth.dataset["categories"].append({"id": 3, "name": "never shown"})
    truth.createIndex()
    results = perfect_results(truth)
    alarms = [{**record, "category_id": 3} for record in results]
    operating = matches_to_operating(matches_of(truth, results + alarms))
    point = operating_to_point(operating, 0.5)
    assert point["precision"] == 1
    assert point["classes"]["never shown"]["precision"] == 0
    assert point["false_alarms"] == 16
    header, rows = operating_to_table(operating)
    assert dict(zip(header, rows[50], strict=True))["precision"] == point["precision"]


def test_a_crowd_region_counts_neither_way(truth: COCO) -> None:
    record = truth.dataset["annotations"][0]
    record["iscrowd"] = 1
    perfect = perfect_results(truth)
    operating = matches_to_operating(matches_of(truth, perfect))
    assert operating.instances.tolist() == [7, 8]
    assert operating.predicted[:, 50].tolist() == operating.right[:, 50].tolist() == [7, 8]


def test_the_curve_table_has_the_mean_and_each_class(truth: COCO) -> None:
    header, rows = curves_to_table(average_precision(truth, noisy_results(truth, 1), "mask", COCO_IOUS).curves)
    assert header == ["recall", "precision", "precision short sleeve top", "precision trousers"]
    assert len(rows) == 101
    for recall, mean, *classes in rows:
        assert 0 <= recall <= 1
        assert mean == pytest.approx(np.mean(classes), abs=1e-6)
    assert curves_to_table([]) == (["recall", "precision"], [])


def test_the_table_of_one_curve_and_of_none() -> None:
    curve = Curve("top", [0.0, 1.0], [1.0, 0.5])
    header, rows = curves_to_table([curve])
    assert (header, rows) == (["recall", "precision", "precision top"], [[0.0, 1.0, 1.0], [1.0, 0.5, 0.5]])
    assert curves_to_table([]) == (["recall", "precision"], [])
