"""The evaluate stage's figures against plain pycocotools, and what its folder holds."""

from __future__ import annotations

import csv
import gc
import json
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics.data.utils import polygon2mask
from ultralytics.utils.ops import resample_segments

from seamline.base.errors import SeamlineError
from seamline.evaluation.average_precision import (
    IOU_TYPES,
    METRIC_NAMES,
    average_precision,
    read_ground_truth,
    results_of_kind,
)
from seamline.evaluation.calibration import FLOOR
from seamline.evaluation.explanation import write_evaluation
from seamline.evaluation.measure import (
    evaluate_files,
    groups_beside,
    measure,
    read_results,
    read_results_above,
    without_cycle_search,
)
from seamline.evaluation.mistakes import Judged
from seamline.evaluation.pictures import truth_beside_prediction
from seamline.images.colours import COLOURS, hex_to_bgr
from seamline.masks.rle import mask_to_rle
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import load_params
from tests.conftest import PARAMS, PROJECT, SHARED_DATA, Project, write_dataset
from tests.dataset.test_conversion import loaded_by_ultralytics
from tests.evaluation.test_average_precision import COCO_IOUS, noisy_results
from tests.evaluation.test_calibration import plain_error
from tests.stages.test_stage import run_stage, with_params


@pytest.fixture(scope="module")
def params() -> Evaluate:
    return msgspec.structs.replace(load_params(PARAMS)[Evaluate], overlays=3, bootstrap_samples=100)


@pytest.fixture(scope="module")
def evaluated(params: Evaluate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with split/, predictions/, photos/ and what the stage makes of them in evaluate/."""
    root = tmp_path_factory.mktemp("evaluated")
    photos = write_dataset(root / "data", count=32) / "photos"
    for folder in ("split", "predictions", "evaluate"):
        (root / folder).mkdir()
    (root / "model.pt").write_bytes(b"weights")
    (root / "split" / "groups.json").write_text(json.dumps({str(number): number // 2 for number in range(1, 33)}))
    for split, seed in (("val", 0), ("test", 1)):
        (root / "split" / f"{split}.json").write_bytes((photos.parent / "instances.json").read_bytes())
        results = noisy_results(read_ground_truth(root / "split" / f"{split}.json"), seed)
        for kind in IOU_TYPES:
            path = root / "predictions" / f"{split}_{kind}.json"
            path.write_text(json.dumps(results_of_kind(results, kind)))
    found = evaluate_files(root / "split", root / "predictions", params)
    write_evaluation(found, root / "model.pt", root / "split", root / "predictions", photos, params, root / "evaluate")
    return root


def plain_run(truth_file: Path, results_file: Path, kind: str) -> list[float]:
    """What anybody would write who has pycocotools and two files."""
    truth = COCO(str(truth_file))
    evaluator = COCOeval(truth, truth.loadRes(str(results_file)), IOU_TYPES[kind])
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    numbers: list[float] = evaluator.stats.tolist()
    return numbers


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("kind", ["box", "mask"])
def test_the_numbers_are_plain_pycocotools_over_the_saved_files(
    evaluated: Path, params: Evaluate, split: str, kind: str
) -> None:
    found = evaluate_files(evaluated / "split", evaluated / "predictions", params)[split, kind].summary
    expected = plain_run(
        evaluated / "split" / f"{split}.json", evaluated / "predictions" / f"{split}_{kind}.json", kind
    )
    assert [-1 if found[name] is None else found[name] for name in METRIC_NAMES] == expected


@pytest.mark.slow
def test_of_the_whole_pipeline_as_well(finished: Project) -> None:
    found = json.loads((finished.root / "reports" / "metrics.json").read_text())
    for split in ("val", "test"):
        for kind in IOU_TYPES:
            results = finished.root / "data" / "predictions" / f"{split}_{kind}.json"
            expected = plain_run(finished.root / "data" / "split" / f"{split}.json", results, kind)
            assert [-1 if value is None else value for value in found[split][kind].values()] == expected


def test_the_folder_explains_the_numbers(evaluated: Path) -> None:
    folder = evaluated / "evaluate"
    names = {path.name for path in folder.iterdir()}
    charts = {"precision_recall", "confidence", "reliability", "confusion", "mistakes", "per_class", "slices"}
    assert {f"{name}.png" for name in charts} <= names
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["detections_counted_of_a_class"] == [1, 10, 100]
    assert settings["iou_thresholds"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert settings["confidence"] == 0.001
    assert settings["test"]["images"] == 32
    assert settings["test"]["groups"] == settings["test"]["groups_showing_an_instance"] == 17
    intervals = json.loads((folder / "intervals.json").read_text())
    for split in ("val", "test"):
        for kind in ("box", "mask"):
            found = intervals[split][kind]["mAP50"]
            assert found["interval"][0] <= found["value"] <= found["interval"][1]
    with (folder / "bootstrap.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 100
    means = np.array([float(row["test_mask_mAP50_95"]) for row in rows])
    low, high = intervals["test"]["mask"]["mAP50_95"]["interval"]
    assert high - low == pytest.approx(4 * means.std(), rel=0.5)  # about twice the standard deviation to either side
    classes = json.loads((folder / "per_class.json").read_text())["test"]["mask"]
    assert {name: (row["instances"], row["images"]) for name, row in classes.items()} == {
        "short sleeve top": (32, 32), "trousers": (32, 32),
    }  # fmt: skip
    mistakes = json.loads((folder / "mistakes.json").read_text())
    assert mistakes["all"]["right"] + mistakes["all"]["missed"] == 64
    assert mistakes["threshold"] == json.loads((folder / "operating_point.json").read_text())["threshold"]


def test_what_is_chosen_is_chosen_on_val_and_what_is_measured_on_test(evaluated: Path) -> None:
    """Both counted anew from pycocotools' own matches."""
    judged = {split: scores_and_hits(evaluated, split) for split in ("val", "test")}

    def counts(split: str, threshold: float) -> list[tuple[int, int]]:
        """Right ones and predictions of each class, of 32 instances."""
        return [(int((hit & (score >= threshold)).sum()), int((score >= threshold).sum()))
                for score, hit in judged[split]]  # fmt: skip

    def f1(split: str, threshold: float) -> float:
        return float(np.mean([2 * right / (predicted + 32) for right, predicted in counts(split, threshold)]))

    thresholds = [number / 100 for number in range(101)]
    best = {split: max(thresholds, key=lambda threshold: f1(split, threshold)) for split in ("val", "test")}
    assert best["val"] != best["test"]
    point = json.loads((evaluated / "evaluate" / "operating_point.json").read_text())
    assert point["threshold"] == best["val"]
    for split in ("val", "test"):
        rows = point[split]["classes"].values()
        assert [(row["right"], row["right"] + row["false_alarms"]) for row in rows] == counts(split, best["val"])
        assert point[split]["F1"] == pytest.approx(f1(split, best["val"]), abs=1e-6)
    errors = {}
    for split, classes in judged.items():
        score, hit = (np.concatenate(parts) for parts in zip(*classes, strict=True))
        errors[split] = plain_error(score[score >= FLOOR], hit[score >= FLOOR])
    assert errors["val"] != pytest.approx(errors["test"], abs=1e-3)
    assert point["test_calibration_error"] == pytest.approx(errors["test"], abs=1e-6)
    by_chance = point["test_calibration_error_by_chance"]
    assert 0 < by_chance["mean"] < by_chance["limit"] < 1


def scores_and_hits(root: Path, split: str) -> list[tuple[Any, Any]]:
    """Of each class its masks' scores, and whether pycocotools matches them at IoU 0.5."""
    truth = COCO(str(root / "split" / f"{split}.json"))
    evaluator = COCOeval(truth, truth.loadRes(str(root / "predictions" / f"{split}_mask.json")), "segm")
    evaluator.evaluate()
    whole = [one for one in evaluator.evalImgs if one is not None and one["aRng"] == evaluator.params.areaRng[0]]
    found = []
    for number in sorted(truth.cats):
        own = [one for one in whole if one["category_id"] == number]
        score = np.concatenate([np.array(one["dtScores"], dtype=float) for one in own])
        found.append((score, np.concatenate([one["dtMatches"][0] > 0 for one in own])))
    return found


def test_a_slice_of_everything_has_the_figures_of_everything(evaluated: Path) -> None:
    """All instances have scale 2: the rows repeat what metrics.json says of val and of test."""
    with (evaluated / "evaluate" / "slices.csv").open() as stream:
        rows = {(row["split"], row["field"]): row for row in csv.DictReader(stream)}
    intervals = json.loads((evaluated / "evaluate" / "intervals.json").read_text())
    for split in ("val", "test"):
        value = intervals[split]["mask"]["mAP50_95"]["value"]
        assert float(rows[split, "scale"]["mask_mAP50_95"]) == pytest.approx(value, abs=1e-6)
        assert rows[split, "scale"]["value"] == "modest"
    assert intervals["val"]["mask"] != intervals["test"]["mask"]


def test_truth_is_left_prediction_right(evaluated: Path) -> None:
    truth = read_ground_truth(evaluated / "split" / "test.json")
    whole = {"size": [60, 40], "counts": mask_to_rle(np.ones((60, 40), np.uint8))["counts"]}
    prediction = {"image_id": 1, "category_id": 2, "score": 0.9, "segmentation": whole}
    instances = [record for record in truth.imgToAnns[1] if record["category_id"] == 1]
    judged = Judged(1, instances, [prediction], np.zeros((1, 1)), ["background"], [-1], [0], 0.0)
    grey = np.full((60, 40, 3), 128, np.uint8)
    picture = truth_beside_prediction(judged, truth, "mask", grey).astype(int)
    left, right = picture[:, :256], picture[:, 262:]
    changed = [np.abs(side - 128).max(axis=2) > 20 for side in (left, right)]
    assert 0.1 < changed[0].mean() < 0.3  # the top covers a sixth
    assert changed[1].mean() > 0.95
    assert changed[0][:32].sum() == 0  # nothing of it in the first five of 60 rows
    class_colours = [hex_to_bgr(COLOURS[0]), hex_to_bgr(COLOURS[1])]
    for side, colour, at in ((left, class_colours[0], (60, 70)), (right, class_colours[1], (20, 20))):
        expected = 0.55 * 128 + 0.45 * np.array(colour)
        assert np.abs(side[at] - expected).max() <= 2


def test_pictures_are_of_the_images_they_are_said_to_be(evaluated: Path) -> None:
    for name in ("worst", "sample"):
        records = json.loads((evaluated / "evaluate" / f"{name}.json").read_text())
        pictures = {path.name for path in (evaluated / "evaluate" / name).iterdir()}
        assert {f"{record['image_id']}.jpg" for record in records} == pictures
        assert len(records) == 3
    worst = json.loads((evaluated / "evaluate" / "worst.json").read_text())
    qualities = [record["quality"] for record in worst]
    assert qualities == sorted(qualities)
    picture = cv2.imread(str(evaluated / "evaluate" / "worst" / f"{worst[0]['image_id']}.jpg"))
    assert picture is not None
    assert picture.shape == (384, 2 * 256 + 6, 3)  # of 40 x 60, twice


def test_an_image_in_no_group_is_named(evaluated: Path, params: Evaluate) -> None:
    truth = read_ground_truth(evaluated / "split" / "val.json")
    with pytest.raises(SeamlineError, match=r"groups\.json: lacks image '2'"):
        measure(truth, [], "mask", {"1": 0}, params)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sample", "ccp-mini"])
def test_converting_there_and_back_costs_next_to_nothing(name: str, tmp_path: Path) -> None:
    """What ultralytics fills from the labels, as predictions with score 1, against the masks as they were."""
    source = PROJECT / "samples" / "garments.zip" if name == "sample" else SHARED_DATA / name
    if not source.exists():
        pytest.skip("needs the shared data")
    with_params(tmp_path, {"subset": {"classes": None, "images": None, "background": 0.0, "group_by": None}})
    for stage, folder, out in (
        ("pull", f"--source={source}", "raw"),
        ("subset", "raw", "subset"),
        ("convert", "subset", "yolo"),
    ):
        done = run_stage(stage, tmp_path, folder, out)
        assert done.returncode == 0, done.stderr
    truth = read_ground_truth(tmp_path / "subset" / "annotations.json")
    by_name = {image["file_name"]: image for image in truth.imgs.values()}
    by_class = dict(enumerate(sorted(truth.cats)))
    results = []
    for label in loaded_by_ultralytics(
        tmp_path / "yolo", {index: truth.cats[by_class[index]]["name"] for index in by_class}
    )[0]:
        image = by_name[Path(label["im_file"]).name]
        size = (image["height"], image["width"])
        for index, segment in zip(label["cls"].ravel(), label["segments"], strict=True):
            points = resample_segments([segment], n=len(segment) + 1 if len(segment) > 1000 else 1000)[0]
            mask = polygon2mask(size, [(points * np.array(size[::-1], np.float32)).reshape(-1)])
            results.append(
                {
                    "image_id": image["id"],
                    "category_id": by_class[int(index)],
                    "score": 1.0,
                    "segmentation": mask_to_rle(mask),
                }
            )
    found = average_precision(truth, results, "mask", COCO_IOUS)
    print(name, found.summary)
    assert (found.summary["mAP50_95"] or 0) >= 0.98
    shown = {record["category_id"] for record in truth.dataset["annotations"]}
    nothing = average_precision(truth, [], "mask", COCO_IOUS)
    assert nothing.summary["mAP50_95"] == 0
    for number, category in truth.cats.items():
        # No class without ground truth turns into a number.
        assert (found.per_class[category["name"]]["mAP50_95"] is None) == (number not in shown)
        assert nothing.per_class[category["name"]]["mAP50_95"] == (0 if number in shown else None)


def test_the_search_for_cycles_is_as_before_whatever_happens() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError, match="of the work"), without_cycle_search():
        assert not gc.isenabled()
        raise ValueError("of the work")
    assert gc.isenabled()
    gc.disable()
    try:
        with without_cycle_search():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_files_that_other_stages_make_are_named_where_they_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match=r"results\.json: there is no such file; the evaluate stage makes it\."):
        read_results(tmp_path / "results.json")
    (tmp_path / "results.json").write_text('[{"image_id": 1')
    with pytest.raises(SeamlineError, match=r"results\.json: is not JSON \("):
        read_results(tmp_path / "results.json")
    (tmp_path / "groups.json").write_text("[1, 2]")
    with pytest.raises(SeamlineError, match=r"groups\.json: is not a list of groups; the split stage makes it\."):
        groups_beside(tmp_path / "val.json")


@pytest.mark.parametrize(("kind", "key"), [("box", "bbox"), ("mask", "segmentation")])
def test_results_above_a_score_are_those_of_the_file(tmp_path: Path, kind: str, key: str) -> None:
    shapes = {"box": [1.5, 2, 3, 4], "mask": {"size": [4, 4], "counts": "04L0"}}
    scores = (0.2, 0.5, 0.9)
    records = [{"image_id": 7, "category_id": 2, "score": score, key: shapes[kind]} for score in scores]
    (tmp_path / "results.json").write_text(json.dumps(records))
    assert read_results(tmp_path / "results.json") == records
    assert read_results_above(tmp_path / "results.json", 0.5, kind) == [{"score": 0.2}, *records[1:]]
