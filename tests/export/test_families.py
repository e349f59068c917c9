"""A family that finds boxes only goes through the whole export: its own ONNX, the common conversion, INT8 and gates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import onnx
import openvino
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.export import comparison
from seamline.export.comparison import compare
from seamline.export.exporters import EXPORTERS
from seamline.inference.detector import Detector
from seamline.inference.predictions import predict_split
from seamline.models.engines.opening import NO_MODEL
from seamline.models.engines.openvino import rt_info
from seamline.params.evaluate import Evaluate
from seamline.params.export import Export
from seamline.params.loading.loader import Params
from stages import export
from tests.tiny_family import NAMES, PREPROCESSING, Tiny
from tests.untrained import run_stage, small_params

ROWS = ("pytorch", "onnx", "openvino", "openvino_f16")


def run_export(monkeypatch: pytest.MonkeyPatch, tiny: Tiny, out: Path) -> Record:
    run_stage(monkeypatch, export.main, tiny.weights, tiny.split, tiny.images, out, "--report", out / "export.json")
    found: Record = json.loads((out / "export.json").read_text())
    return found


@pytest.mark.usefixtures("tiny_family")
def test_every_format_is_made_and_measured_by_its_boxes(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_export(monkeypatch, tiny, tmp_path)
    assert "pytorch: " in (said := capsys.readouterr().out)
    assert "box mAP50-95 on val" in said and "mask" not in said
    assert set(ROWS) <= report.keys()
    settings = small_params()[Evaluate]
    limits = settings.confidence, settings.nms_iou, settings.max_detections
    truth = COCO(str(tiny.split / "val.json"))
    measured = COCOeval(truth, truth.loadRes(predict_split(Detector(tiny.weights, *limits), tiny.split / "val.json",
                                                           tiny.images, "val")), "bbox")  # fmt: skip
    measured.evaluate()
    measured.accumulate()
    measured.summarize()
    assert measured.stats[0] > 0.3
    for name in ROWS:
        row = report[name]
        assert row["val_box_mAP50_95"] == pytest.approx(measured.stats[0], abs=1e-5 if name != "openvino_f16" else 0.01)
        assert row["matched"] == 1
        assert "val_mask_mAP50_95" not in row
    rungs = report["int8_rungs"]
    assert rungs and all("val_box_mAP50_95" in rung for rung in rungs)


@pytest.mark.usefixtures("tiny_family")
def test_the_files_say_their_family_and_open_by_it(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_export(monkeypatch, tiny, tmp_path)
    metadata: list[dict[str, Any]] = [
        {entry.key: entry.value for entry in onnx.load(tmp_path / "onnx" / "model.onnx").metadata_props},
        rt_info(openvino.Core().read_model(tmp_path / "openvino" / "model.xml")),
    ]
    for found in metadata:
        assert (found["family"], found["masks"], found["preprocessing"]) == ("tiny", "false", PREPROCESSING)
        assert json.loads(found["names"]) == NAMES
    for path in (tmp_path / "onnx" / "model.onnx", tmp_path / "openvino_f16"):
        with Detector(path) as detector:
            assert (detector.has_masks, detector.names) == (False, NAMES)


@pytest.mark.usefixtures("tiny_family")
def test_gates_refuse_a_model_of_boxes_in_words_of_boxes(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = small_params()
    int8 = msgspec.structs.replace(params[Export].int8, max_drop=0.0)
    strict = msgspec.structs.replace(params[Export], int8=int8, max_drift=0.0, min_matched=1.0)
    monkeypatch.setattr("tests.untrained.small_params", lambda: Params({**params.by_type, Export: strict}))
    rungs = [{"rung": "full", "val_box_mAP50_95": 0.1, "drop": 0.5, "precision": "int8", "outcome": "refused",
              "said": "with all", "gate_drop": 0.5, "gate_interval": [0.3, 0.7]}]  # fmt: skip
    monkeypatch.setattr(export, "rungs_until_one_holds", lambda *_: rungs)
    run_export(monkeypatch, tiny, tmp_path)
    assert "INT8 costs more box mAP50-95 on val" in (tmp_path / "openvino_int8" / NO_MODEL).read_text()

    def half_found(*arguments: Any) -> Any:
        return compare(*arguments)._replace(matched=0.5)

    monkeypatch.setattr(comparison, "compare", half_found)
    with pytest.raises(SeamlineError, match=r"pytorch: finds only 50\.00% .*boxes of IoU 0\.95\), less than"):
        run_export(monkeypatch, tiny, tmp_path / "again")


def test_a_family_that_cannot_be_exported_is_one_sentence(
    tiny: Tiny, tmp_path: Path, tiny_family: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(EXPORTERS, "tiny")
    with pytest.raises(SeamlineError, match=r"of the family 'tiny'; this version of Seamline exports yolo, rcnn\."):
        run_export(monkeypatch, tiny, tmp_path)
