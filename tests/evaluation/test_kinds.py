"""A model that finds boxes only is measured by its boxes: the same files, held to pycocotools' bbox."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.evaluation.average_precision import METRIC_NAMES, average_precision, read_ground_truth, results_of_kind
from seamline.evaluation.explanation import write_evaluation
from seamline.evaluation.kinds import kinds_of, kinds_of_predictions, primary_kind
from seamline.evaluation.measure import evaluate_files
from seamline.evaluation.mistakes import RIGHT, Judged, judge, mistakes_of
from seamline.evaluation.pictures import truth_beside_prediction
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import load_params
from stages import evaluate
from tests.boxes import BoxDetector
from tests.conftest import PARAMS, write_dataset
from tests.evaluation.test_average_precision import COCO_IOUS, noisy_results
from tests.untrained import run_stage

COUNT = 32


@pytest.fixture(scope="module")
def boxes_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """split/, predictions/ of boxes alone, photos, and what the stage makes of them in evaluate/."""
    root = tmp_path_factory.mktemp("boxes")
    photos = write_dataset(root / "data", count=COUNT) / "photos"
    for folder in ("split", "predictions", "evaluate"):
        (root / folder).mkdir()
    (root / "model.onnx").write_bytes(b"weights")
    (root / "split" / "groups.json").write_text(
        json.dumps({str(number): number // 2 for number in range(1, COUNT + 1)})
    )
    for split, seed in (("val", 0), ("test", 1)):
        (root / "split" / f"{split}.json").write_bytes((photos.parent / "instances.json").read_bytes())
        results = noisy_results(read_ground_truth(root / "split" / f"{split}.json"), seed)
        (root / "predictions" / f"{split}_box.json").write_text(json.dumps(results_of_kind(results, "box")))
    params = msgspec.structs.replace(load_params(PARAMS)[Evaluate], overlays=3, bootstrap_samples=100)
    found = evaluate_files(root / "split", root / "predictions", params)
    arguments = (root / "model.onnx", root / "split", root / "predictions", photos, params, root / "evaluate")
    write_evaluation(found, *arguments)
    return root


def plain(root: Path, split: str = "test", least_score: float = 0.0, **settings: Any) -> COCOeval:
    """pycocotools' own run over the saved boxes."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(root / "split" / f"{split}.json"))
        results = json.loads((root / "predictions" / f"{split}_box.json").read_text())
        found = truth.loadRes([record for record in results if record["score"] >= least_score])
        evaluator = COCOeval(truth, found, "bbox")
        for key, value in settings.items():
            setattr(evaluator.params, key, value)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def test_masks_are_primary_where_there_are_any(tmp_path: Path) -> None:
    assert primary_kind(kinds_of(has_masks=True)) == "mask"
    assert primary_kind(kinds_of(has_masks=False)) == "box"
    assert primary_kind({"box_mAP50_95": 0.5, "imgsz": 640}) == "box"
    assert primary_kind({"val_box_mAP50": 0, "val_mask_mAP50": 0}) == "mask"
    assert primary_kind(["unmasked", "epoch"]) == "box"
    assert kinds_of_predictions(tmp_path) == ("box",)
    (tmp_path / "test_mask.json").touch()
    assert kinds_of_predictions(tmp_path) == ("box", "mask")


def test_figures_and_intervals_are_those_of_boxes(boxes_only: Path) -> None:
    params = load_params(PARAMS)[Evaluate]
    found = evaluate_files(boxes_only / "split", boxes_only / "predictions", params)
    assert set(found) == {("val", "box"), ("test", "box")}
    for split in ("val", "test"):
        summary = found[split, "box"].summary
        assert [-1 if summary[name] is None else summary[name] for name in METRIC_NAMES] == plain(
            boxes_only, split
        ).stats.tolist()
    folder = boxes_only / "evaluate"
    intervals = json.loads((folder / "intervals.json").read_text())
    assert {split: list(kinds) for split, kinds in intervals.items()} == {"val": ["box"], "test": ["box"]}
    low, high = intervals["test"]["box"]["mAP50_95"]["interval"]
    assert low < plain(boxes_only).stats[0] < high
    header = (folder / "bootstrap.csv").read_text().splitlines()[0].split(",")
    assert header == ["val_box_mAP50_95", "val_box_mAP50", "test_box_mAP50_95", "test_box_mAP50"]


def test_classes_slices_and_curves_are_those_of_boxes(boxes_only: Path) -> None:
    folder = boxes_only / "evaluate"
    classes = json.loads((folder / "per_class.json").read_text())["test"]["box"]
    for number, row in enumerate(classes.values(), start=1):
        assert row["mAP50_95"] == pytest.approx(plain(boxes_only, catIds=[number]).stats[0])
    with (folder / "slices.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if (row["split"], row["field"]) == ("test", "scale")]
    assert float(rows[0]["box_mAP50_95"]) == pytest.approx(plain(boxes_only).stats[0], abs=1e-6)  # all have one scale
    precision = plain(boxes_only).eval["precision"][0, :, :, 0, 2]
    with (folder / "precision_recall.csv").open() as stream:
        found = [float(row["precision"]) for row in csv.DictReader(stream)]
    assert found == pytest.approx(precision.mean(axis=1).tolist(), abs=1e-6)


def test_the_operating_point_counts_boxes(boxes_only: Path) -> None:
    point = json.loads((boxes_only / "evaluate" / "operating_point.json").read_text())
    assert point["chosen_by"].startswith("best F1 of boxes on val")
    evaluator = plain(boxes_only, least_score=point["threshold"], iouThrs=np.array([0.5]))
    whole = evaluator.params.areaRng[0]
    matched = [one["dtMatches"][0] > 0 for one in evaluator.evalImgs if one is not None and one["aRng"] == whole]
    right = int(sum(row.sum() for row in matched))
    assert point["test"]["right"] == right
    assert point["test"]["false_alarms"] == sum(map(len, matched)) - right
    assert point["test"]["missed"] == 2 * COUNT - right
    mistakes = json.loads((boxes_only / "evaluate" / "mistakes.json").read_text())["all"]
    assert list(mistakes) == [RIGHT, *mistakes_of("box")]
    assert mistakes[RIGHT] == right
    assert sum(mistakes.values()) - right - mistakes["missed"] == point["test"]["false_alarms"]


@pytest.mark.parametrize(
    ("bbox", "category_id", "verdict"),
    [
        ([8, 5, 20, 20], 1, RIGHT),
        ([8, 5, 20, 19], 2, "wrong class"),
        ([8, 5, 20, 9], 1, "poor box"),
        ([8, 5, 20, 9], 2, "wrong class and poor box"),
        ([30, 50, 5, 5], 1, "background"),
    ],
)
def test_a_box_is_judged_by_what_it_overlaps(boxes_only: Path, bbox: list[int], category_id: int, verdict: str) -> None:
    truth = read_ground_truth(boxes_only / "split" / "test.json")
    results = [{"image_id": 3, "category_id": category_id, "bbox": bbox, "score": 0.9}]
    matches = average_precision(truth, results, "box", COCO_IOUS).matches
    assert judge(truth, results, matches, 0.5, "box")[2].verdicts == [verdict]


def test_pictures_show_outlines_of_boxes(boxes_only: Path) -> None:
    sample = json.loads((boxes_only / "evaluate" / "sample.json").read_text())
    assert {path.stem for path in (boxes_only / "evaluate" / "sample").iterdir()} == {
        str(record["image_id"]) for record in sample
    }
    truth = read_ground_truth(boxes_only / "split" / "test.json")
    prediction = {"image_id": 1, "category_id": 2, "score": 0.9, "bbox": [4, 40, 32, 16]}
    judged = Judged(1, truth.imgToAnns[1][:1], [prediction], np.zeros((1, 1)), ["background"], [-1], [0], 0.0)
    picture = truth_beside_prediction(judged, truth, "box", np.full((60, 40, 3), 128, np.uint8))
    for side, (x, y, width, height) in ((picture[:, :256], (8, 5, 20, 20)), (picture[:, 262:], (4, 40, 32, 16))):
        changed = (side != 128).any(axis=2)
        left, top, right, bottom = (round(384 / 60 * value) for value in (x, y, x + width, y + height))
        assert changed[top - 3 : top + 4, left:right].any(axis=0).all()
        assert changed[top:bottom, left - 3 : left + 4].any(axis=1).all()
        assert not changed[top + 5 : top + 20, left + 5 : right - 5].any(), "a box is not filled"
        assert not changed[: top - 5].any()


def test_nothing_written_is_about_masks(boxes_only: Path) -> None:
    texts = [path for path in (boxes_only / "evaluate").rglob("*") if path.suffix in (".json", ".csv")]
    assert len(texts) > 12
    assert [path.name for path in texts if "mask" in path.read_text()] == []


def test_the_stage_writes_boxes_alone(boxes_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = BoxDetector(boxes_only / "split" / "test.json")
    monkeypatch.setattr("seamline.inference.detector.Detector", lambda *arguments, device: detector)
    out, report = tmp_path / "predictions", tmp_path / "reports"
    arguments = (
        boxes_only / "model.onnx",
        boxes_only / "split",
        boxes_only / "data" / "photos",
        out,
        "--report",
        report,
    )
    run_stage(monkeypatch, evaluate.main, *arguments)
    assert sorted(path.name for path in out.iterdir()) == ["test_box.json", "val_box.json"]
    metrics = json.loads((report / "metrics.json").read_text())
    assert {split: list(kinds) for split, kinds in metrics.items()} == {"val": ["box"], "test": ["box"]}
    accuracy = json.loads((report / "accuracy.json").read_text())
    assert accuracy["test"] == {f"box_{key}": metrics["test"]["box"][key] for key in ("mAP50_95", "mAP50")}
    assert 0 < accuracy["test"]["box_mAP50"] < 1
