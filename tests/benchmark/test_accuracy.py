"""The benchmark of models that find boxes only: measured through stubs, accuracy held to pycocotools' bbox."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.benchmark.accuracy import accuracy_figures
from seamline.benchmark.differences import mean_iou, most_different
from seamline.benchmark.rows import Row
from seamline.export.drops import FEWEST, Gate, measure_drop
from seamline.images.reading import read_image
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import load_params
from stages import benchmark
from tests.boxes import BoxDetector
from tests.conftest import PARAMS, write_dataset
from tests.evaluation.test_average_precision import noisy_results
from tests.untrained import run_stage


class StubProcess:
    """Stands in for an engine's process: answers in this one."""

    id, left_s = 0, 0.0

    def __init__(self, name: str, detector: Any) -> None:
        self.name, self.detector = name, detector

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(self.detector, *arguments)

    def stop(self) -> None: ...


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A folder with test.json and groups.json; the images are in data/photos."""
    return split_of(tmp_path, 16)


def split_of(folder: Path, count: int) -> Path:
    photos = write_dataset(folder / "data", count=count) / "photos"
    (folder / "split").mkdir()
    (folder / "split" / "test.json").write_bytes((photos.parent / "instances.json").read_bytes())
    (folder / "split" / "groups.json").write_text(json.dumps({str(number): number for number in range(1, count + 1)}))
    return folder / "split"


def plain_box_map(test: Path, results: list[Record]) -> float:
    truth = COCO(str(test))
    evaluator = COCOeval(truth, truth.loadRes([dict(record) for record in results]), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return float(evaluator.stats[0])


def test_boxes_are_compared_by_their_iou() -> None:
    def found(image_id: int, width: float) -> Record:
        return {"image_id": image_id, "category_id": 1, "score": 0.9, "bbox": [0, 0, width, 10]}

    assert mean_iou([found(1, 10)], [found(1, 8)], "box") == 0.8
    assert mean_iou([found(1, 10)], [], "box") == 0
    other = [found(1, 10), found(2, 4)]
    shown = most_different({"pytorch": [found(1, 10), found(2, 10)], "onnx": other}, "pytorch", 0.25, [1, 2], "box")
    assert shown == {"image_id": 2, "mean_iou": {"onnx": 0.4}}
    empty = [found(1, 0)]
    assert most_different({"pytorch": empty, "onnx": []}, "pytorch", 0.25, [1], "box")["mean_iou"] == {"onnx": None}


def test_accuracy_is_that_of_the_kinds_found(tmp_path: Path) -> None:
    split = split_of(tmp_path, FEWEST)
    truth, limits = COCO(str(split / "test.json")), load_params(PARAMS)[Evaluate]
    found = {name: noisy_results(truth, seed) for seed, name in enumerate(("pytorch", "onnx"))}
    boxes = {name: [{**one} for one in records] for name, records in found.items()}
    for records in boxes.values():
        for one in records:
            del one["segmentation"]
    rows = accuracy_figures(split / "test.json", boxes, "pytorch", ("box",), limits)
    expected = {name: plain_box_map(split / "test.json", records) for name, records in boxes.items()}
    for name, row in rows.items():
        assert list(row) == ["box_mAP50_95", "box_mAP50_95_delta", "box_mAP50_95_delta_interval"]
        assert row["box_mAP50_95"] == expected[name]
        assert row["box_mAP50_95_delta"] == expected[name] - expected["pytorch"]
    low, high = rows["onnx"]["box_mAP50_95_delta_interval"]
    assert low < rows["onnx"]["box_mAP50_95_delta"] < high
    both = accuracy_figures(split / "test.json", found, "pytorch", ("box", "mask"), limits)
    assert list(both["onnx"]) == [
        "mask_mAP50_95", "mask_mAP50_95_delta", "mask_mAP50_95_delta_interval", "box_mAP50_95",
    ]  # fmt: skip
    assert both["onnx"]["box_mAP50_95"] == expected["onnx"]
    # The same bounds as INT8's gate has on these photos, and with one group fewer none.
    gate = Gate("val", truth, np.arange(FEWEST), None, 0)
    drop = measure_drop(gate, found["pytorch"], found["onnx"], "mask", limits.iou_thresholds)
    assert drop.interval is not None
    assert both["onnx"]["mask_mAP50_95_delta_interval"] == [-drop.interval[1], -drop.interval[0]]
    assert both["pytorch"]["mask_mAP50_95_delta_interval"] is None
    groups = {str(number): max(number, 2) for number in range(1, FEWEST + 1)}
    (split / "groups.json").write_text(json.dumps(groups))
    few = accuracy_figures(split / "test.json", found, "pytorch", ("mask",), limits)
    assert few["onnx"]["mask_mAP50_95_delta_interval"] is None


def test_a_worse_row_has_its_whole_interval_below_zero(tmp_path: Path) -> None:
    split = split_of(tmp_path, FEWEST)
    limits = load_params(PARAMS)[Evaluate]
    truth = COCO(str(split / "test.json"))
    keys = ("image_id", "category_id", "bbox")
    right = [{key: one[key] for key in keys} | {"score": 0.9} for one in truth.dataset["annotations"]]
    found = {"pytorch": right, "onnx": noisy_results(truth, 0)}
    rows = accuracy_figures(split / "test.json", found, "pytorch", ("box",), limits)
    assert rows["pytorch"]["box_mAP50_95"] == 1
    assert rows["onnx"]["box_mAP50_95_delta_interval"][1] < 0
    rows = accuracy_figures(split / "test.json", found, "onnx", ("box",), limits)
    assert rows["pytorch"]["box_mAP50_95_delta_interval"][0] > 0


def test_a_test_split_without_instances_is_one_sentence(split: Path) -> None:
    content = json.loads((split / "test.json").read_text())
    (split / "test.json").write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(SeamlineError, match=r"test\.json: has no instances to measure with"):
        accuracy_figures(split / "test.json", {"pytorch": []}, "pytorch", ("box",), load_params(PARAMS)[Evaluate])


def test_the_stage_measures_boxes_alone(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, exported, reports = tmp_path / "best.pt", tmp_path / "export", tmp_path / "reports"
    for path in (weights, exported / "onnx" / "model.onnx", exported / "openvino" / "model.xml"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    (exported / "openvino_int8").mkdir()
    (exported / "openvino_int8" / "model.xml").write_bytes(bytes(1000))

    def start(row: Row, *arguments: Any, **options: Any) -> StubProcess:
        return StubProcess(row.name, BoxDetector(split / "test.json", seed=row.name == "openvino_int8"))

    monkeypatch.setattr(benchmark, "start_row", start)
    monkeypatch.setattr(benchmark, "measure_layers", lambda *arguments: [])  # stubs have no layers
    monkeypatch.setattr(benchmark, "int8_gate", lambda path: None)  # there is no model to read it from
    run_stage(monkeypatch, benchmark.main, weights, exported, split, tmp_path / "data" / "photos", reports)
    rows = json.loads((reports / "benchmark.json").read_text())
    assert not [key for row in rows.values() for key in row if "mask" in key]
    assert rows["onnx"]["box_mAP50_95_delta"] == 0
    assert rows["openvino_int8"]["box_mAP50_95_delta"] != 0
    with (reports / "benchmark.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [float(row["box_mAP50_95"]) for row in table] == pytest.approx(
        [row["box_mAP50_95"] for row in rows.values()]
    )
    assert "| box mAP | delta |" in (reports / "benchmark.md").read_text()
    printed = capsys.readouterr().out
    assert "box mAP" in printed
    assert "mask" not in printed + (reports / "benchmark.md").read_text()
    shown = json.loads((reports / "formats.json").read_text())
    assert shown["mean_iou"]["onnx"] in (1, None)
    assert read_image(reports / "formats.jpg").shape[1] > 3 * 200
    assert (reports / "benchmark.png").stat().st_size > 10_000
