"""Exports: what the files say, that they are the same every time, and the INT8 gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest

from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.exporting import (
    RUNGS,
    check_drift,
    evenly_spaced,
    ignored_operations,
    image_files,
    largest_differences,
    model_metadata,
    models_made,
    onnx_to_openvino,
    quantise,
    rungs_until_one_holds,
    weights_to_onnx,
    why_no_int8,
)
from seamline.files import sha256_of
from seamline.runtime.engines import NO_MODEL, open_engine
from stages import export
from tests.untrained import IMGSZ, NAMES, Untrained, rounding_of_scores, run_stage


def test_onnx_is_static_and_says_what_it_is(untrained: Untrained) -> None:
    model = onnx.load(untrained.models()["onnx"])
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": [1, 3, IMGSZ, IMGSZ], "output0": [1, 38, 189], "output1": [1, 32, 24, 24]}
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "names": json.dumps(NAMES),
        "imgsz": str(IMGSZ),
        "preprocessing": "letterbox 114, RGB, 0..1",
        "precision": "f32",
        "weights_sha256": sha256_of(untrained.weights),
    }


def test_openvino_says_the_same(untrained: Untrained) -> None:
    model = openvino.Core().read_model(untrained.models()["openvino"] / "model.xml")
    metadata = model_metadata(NAMES, IMGSZ, sha256_of(untrained.weights), "f32")
    assert {key: model.get_rt_info(["seamline", key]).astype(str) for key in metadata} == metadata
    assert list(model.input().shape) == [1, 3, IMGSZ, IMGSZ]
    weights = [node for node in model.get_ops() if node.get_type_name() == "Constant" and len(node.shape) == 4]
    assert {str(node.get_element_type()) for node in weights} == {"<Type: 'float32'>"}


def test_exporting_again_gives_the_same_bytes_and_leaves_the_weights_alone(
    untrained: Untrained, tmp_path: Path
) -> None:
    metadata = model_metadata(NAMES, IMGSZ, sha256_of(untrained.weights), "f32")
    before = sha256_of(untrained.weights)
    weights_to_onnx(untrained.weights, tmp_path / "model.onnx", 20, IMGSZ, metadata)
    (tmp_path / "openvino").mkdir()
    onnx_to_openvino(tmp_path / "model.onnx", tmp_path / "openvino", metadata)
    models = untrained.models()
    assert (tmp_path / "model.onnx").read_bytes() == models["onnx"].read_bytes()
    for name in ("model.xml", "model.bin"):
        assert sha256_of(tmp_path / "openvino" / name) == sha256_of(models["openvino"] / name), name
    assert [file.name for file in untrained.weights.parent.iterdir()] == ["best.pt"]
    assert sha256_of(untrained.weights) == before


def test_ignored_operations_are_the_decoding_or_the_whole_head() -> None:
    names = [
        "/model.9/conv/Conv",
        "/model.22/cv2.0/cv2.0.2/Conv",
        "/model.22/Concat",
        "/model.22/dfl/Softmax",
        "/model.22/Sigmoid",
        "/model.22/proto/cv1/conv/Conv",
        "output0",
        "output1",
    ]
    decoding = ["/model.22/Concat", "/model.22/dfl/Softmax", "/model.22/Sigmoid", "output0", "output1"]
    assert ignored_operations(names, "full") == decoding
    assert ignored_operations(names, "head in f32") == names[1:]


@pytest.mark.parametrize(("drops", "tried"), [([0.005], ["full"]), ([0.2, 0.01], list(RUNGS)), ([-0.1], ["full"])])
def test_first_rung_that_holds_is_taken(drops: list[float], tried: list[str]) -> None:
    made: list[str] = []
    rungs = rungs_until_one_holds(made.append, lambda: 0.5 - drops[len(made) - 1], 0.5, 0.0101)
    assert made == tried == [rung["rung"] for rung in rungs]
    assert [rung["drop"] for rung in rungs] == pytest.approx(drops)
    assert why_no_int8(rungs, 0.0101) is None


def test_where_no_rung_holds_the_reason_gives_each_drop() -> None:
    values = iter((0.47, 0.48))
    rungs = rungs_until_one_holds(lambda rung: None, lambda: next(values), 0.5, 0.01)
    assert len(rungs) == len(RUNGS)
    reason = why_no_int8(rungs, 0.01)
    assert reason is not None
    assert "0.0300 with full, 0.0200 with head in f32" in reason
    assert "export.int8.max_drop (0.01)" in reason
    assert why_no_int8(rungs, 0.03) is None


def test_a_refused_int8_model_leaves_its_reason_and_the_others_are_measured(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a gate that nothing passes: no model in its folder, no row in the benchmark, and everybody is told why."""
    tried = [{"rung": rung, "val_mask_mAP50_95": 0.1, "drop": 2.0} for rung in RUNGS]  # 1.0 is allowed here

    def pretend(quantise_to: Callable[[str], None], *rest: object) -> list[Record]:
        quantise_to(RUNGS[-1])
        return tried

    monkeypatch.setattr(export, "quantise", lambda source, out, *rest: (out / "model.xml").write_text("spoiled"))
    monkeypatch.setattr(export, "rungs_until_one_holds", pretend)
    out = tmp_path / "export"
    arguments = (untrained.weights, untrained.split, untrained.yolo)
    run_stage(monkeypatch, export.main, *arguments, out, "--report", tmp_path / "export.json")
    assert [path.name for path in (out / "openvino_int8").iterdir()] == [NO_MODEL]
    report = json.loads((tmp_path / "export.json").read_text())
    assert "2.0000 with full" in report["int8_refused"]
    assert "openvino_int8" not in report
    assert list(models_made(untrained.weights, out)) == ["pytorch", "onnx", "openvino"]
    with pytest.raises(SeamlineError, match=r"openvino_int8: there is no model; INT8 costs more"):
        open_engine(out / "openvino_int8", 1)


def test_drift_in_either_direction_is_an_error() -> None:
    check_drift("onnx", 0.001, 0.002)
    for drop in (0.003, -0.003):
        with pytest.raises(SeamlineError, match=r"onnx: .*0\.0030 from PyTorch's, more than export\.max_drift"):
            check_drift("onnx", drop, 0.002)


def test_largest_differences_count_boxes_of_detections_only() -> None:
    reference = np.zeros((1, 6, 3), np.float32), np.zeros((1, 2, 2, 2), np.float32)
    reference[0][0, 4, 0] = 0.9
    ours = reference[0].copy(), reference[1] - 0.5
    ours[0][0, 1, :] = [0.2, 70, 80]
    ours[0][0, 5, 2] = 0.1
    assert largest_differences([ours], [reference], 2) == {
        "max_abs_score_difference": 0.1,
        "max_abs_box_difference_px": 0.2,
        "max_abs_prototype_difference": 0.5,
    }


@pytest.mark.parametrize(("count", "expected"), [(None, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]), (2, [0, 2]), (1, [0])])
def test_evenly_spaced(count: int | None, expected: list[int]) -> None:
    assert evenly_spaced(range(5), count) == expected


@pytest.mark.slow
def test_stage_makes_four_models_that_agree_and_a_report_without_dates(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "export", tmp_path / "export.json"
    run_stage(monkeypatch, export.main, untrained.weights, untrained.split, untrained.yolo, out, "--report", report)
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
        "onnx/model.onnx",
        "openvino/model.bin",
        "openvino/model.xml",
        "openvino_int8/model.bin",
        "openvino_int8/model.xml",
    ]
    values = json.loads(report.read_text())
    assert values["weights_sha256"] == sha256_of(untrained.weights)
    assert values["calibration_images"] == 4
    assert [rung["rung"] for rung in values["int8_rungs"]] == ["full"]
    assert values["int8_refused"] is None
    val = image_files(untrained.split / "val.json", untrained.yolo / "images")
    rounding = max(rounding_of_scores(untrained.weights, val))
    for name, precision in {"pytorch": "f32", "onnx": "f32", "openvino": "f32", "openvino_int8": "int8"}.items():
        assert values[name]["precision"] == precision
        assert values[name]["max_abs_score_difference"] < (max(1e-3, 3 * rounding) if precision == "f32" else 1)
    assert values["openvino_int8"]["model_mb"] < values["openvino"]["model_mb"] / 2

    # INT8 again, from the same f32 model: the same bytes.
    metadata = {**model_metadata(NAMES, IMGSZ, sha256_of(untrained.weights), "int8"), "int8": "full"}
    (tmp_path / "again").mkdir()
    images = evenly_spaced(image_files(untrained.split / "train.json", untrained.yolo / "images"), 4)
    quantise(out / "openvino", tmp_path / "again", images, IMGSZ, "full", metadata)
    for name in ("model.xml", "model.bin"):
        assert sha256_of(tmp_path / "again" / name) == sha256_of(out / "openvino_int8" / name), name


def test_a_model_that_drifts_is_not_left_behind(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, drop: float, max_drift: float) -> None:
        raise SeamlineError(f"{name}: drifts")

    monkeypatch.setattr(export, "check_drift", refuse)
    report = tmp_path / "export.json"
    with pytest.raises(SeamlineError, match="onnx: drifts"):
        run_stage(
            monkeypatch, export.main, untrained.weights, untrained.split, untrained.yolo, tmp_path, "--report", report
        )
    assert list(tmp_path.iterdir()) == []
