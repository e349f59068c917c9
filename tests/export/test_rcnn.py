"""Exports of R-CNNs: fixed shapes to the end, the same bytes every time, and the whole stage with INT8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest

from seamline.base.files import sha256_of
from seamline.export.openvino import onnx_to_openvino
from seamline.export.rcnn import ignored_operations, largest_differences, weights_to_onnx
from seamline.inference.detector import Detector
from seamline.models.engines.opening import NO_MODEL
from seamline.models.engines.openvino import rt_info
from seamline.models.model_facts import ModelFacts
from stages import export
from tests.untrained import run_stage
from tests.untrained_rcnn import IMGSZ, NAMES, UntrainedRcnn, metadata_of


@pytest.mark.parametrize("fixture", ["mask_rcnn", "faster_rcnn"])
def test_shapes_are_fixed_to_the_end(fixture: str, request: pytest.FixtureRequest) -> None:
    """All but how many boxes suppression leaves, which is scattered into a fixed number at once."""
    made: UntrainedRcnn = request.getfixturevalue(fixture)
    model = onnx.load(made.models()["onnx"])
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    expected = {"images": [1, 3, IMGSZ, IMGSZ], "boxes": [1, 15, 4], "scores": [1, 15], "labels": [1, 15]}
    assert shapes == expected | ({"masks": [1, 15, 28, 28]} if made.architecture.has_masks else {})
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [20]
    assert {entry.key: entry.value for entry in model.metadata_props} == {**metadata_of(made), "precision": "f32"}
    converted = openvino.Core().read_model(made.models()["openvino"] / "model.xml")
    assert rt_info(converted) == {**metadata_of(made), "precision": "f32"}
    open_kinds = [
        operation.get_type_name()
        for operation in converted.get_ops()
        if any(output.get_partial_shape().is_dynamic for output in operation.outputs())
    ]
    assert sorted(open_kinds) == ["Broadcast", "Broadcast", "NonMaxSuppression", "NonMaxSuppression"]


def test_exporting_again_gives_the_same_bytes_and_leaves_the_weights_alone(
    mask_rcnn: UntrainedRcnn, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    metadata, before = metadata_of(mask_rcnn), sha256_of(mask_rcnn.weights)
    weights_to_onnx(mask_rcnn.weights, tmp_path / "model.onnx", 20, metadata)
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning | FutureWarning)]
    onnx_to_openvino(tmp_path / "model.onnx", tmp_path, metadata, "f32")
    models = mask_rcnn.models()
    assert (tmp_path / "model.onnx").read_bytes() == models["onnx"].read_bytes()
    for name in ("model.xml", "model.bin"):
        assert sha256_of(tmp_path / name) == sha256_of(models["openvino"] / name), name
    assert sha256_of(mask_rcnn.weights) == before
    assert str(Path.cwd()).encode() not in models["onnx"].read_bytes()


def test_ignored_operations_are_those_outside_of_layers_or_all_heads() -> None:
    heads = ["/head/cls_logits/Conv", "/box_head/fc6/Gemm/WithoutBiases", "/mask_predictor/mask_fcn_logits/Conv"]
    backbone, others = (
        ["/backbone/fpn/layer_blocks.0/layer_blocks.0.0/Conv"],
        ["/RoiAlign", "/Mul_3", "boxes", "TopK_9"],
    )
    names = backbone + heads + others
    assert ignored_operations(names, "full") == ignored_operations(names, "accuracy control") == others
    assert ignored_operations(names, "head in f32") == heads + others


def test_largest_differences_are_of_the_same_detections_in_whatever_order() -> None:
    boxes = np.array([[[10, 10, 50, 50], [10, 12, 50, 52], [60, 60, 80, 90], [0, 0, 0, 0]]], np.float32)
    scores = np.array([[0.9, 0.8, 0.4, 0]], np.float32)
    labels, masks = np.array([[0, 1, 1, 0]]), np.zeros((1, 4, 28, 28), np.float32)
    reference = (boxes, scores, labels, masks)
    order = [1, 0, 2, 3]
    ours = tuple(part[:, order].copy() for part in reference)
    facts = ModelFacts(NAMES, IMGSZ, family="rcnn")

    def differences(found: Any) -> list[float]:
        said = largest_differences([found], [reference], facts)
        assert list(said) == ["max_abs_score_difference", "max_abs_box_difference_px", "max_abs_mask_difference"]
        return list(said.values())

    assert differences(ours) == [0, 0, 0]
    ours[0][0, 0, 1] += 0.5
    ours[1][0, 1] -= 0.2
    ours[3][0, 2, 5, 5] = 0.3
    assert differences(ours) == [0.2, 0.5, 0.3]
    ours[2][0, 2] = 0  # of another class: not found, so that it differs by its score
    assert differences(ours) == [0.4, 0.5, 0]
    boxes_only = largest_differences([ours[:3]], [reference[:3]], facts._replace(masks=False))
    assert list(boxes_only) == ["max_abs_score_difference", "max_abs_box_difference_px"]


@pytest.mark.thorough
@pytest.mark.parametrize(("fixture", "kind"), [("mask_rcnn", "mask"), ("faster_rcnn", "box")])
def test_the_stage_makes_every_format(
    fixture: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: UntrainedRcnn = request.getfixturevalue(fixture)
    arguments = (made.weights, made.split, made.images_folder, tmp_path, "--report", tmp_path / "export.json")
    run_stage(monkeypatch, export.main, *arguments)
    report = json.loads((tmp_path / "export.json").read_text())
    reference = report["pytorch"][f"val_{kind}_mAP50_95"]
    for name in ("onnx", "openvino"):
        assert report[name][f"val_{kind}_mAP50_95"] == pytest.approx(reference, abs=2e-3)
        assert report[name]["matched"] is None or report[name]["matched"] >= 0.99
        assert report[name]["max_abs_score_difference"] < 1e-2
    assert {rung["precision"] for rung in report["int8_rungs"]} == {"int8"}
    assert not (tmp_path / "openvino_int8" / NO_MODEL).exists()
    for folder in ("onnx", "openvino_f16", "openvino_int8"):
        with Detector(tmp_path / folder, 0.001, threads=1) as detector:
            limits = (detector.nms_iou, detector.max_detections)  # the network's, whose are below evaluate's
            assert limits == (made.architecture.nms_iou, made.architecture.detections)
            assert detector.has_masks == (kind == "mask")
            assert len(detector.detect(np.full((64, 64, 3), 114, np.uint8))) == 0
            assert sum(len(detector.detect(path)) for path in made.images()) > 5
