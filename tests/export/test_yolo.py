"""Exports of YOLO's models: what the files say, and that they are the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from seamline.base.files import sha256_of
from seamline.export.openvino import onnx_to_openvino
from seamline.export.yolo import PREPROCESSING, ignored_operations, largest_differences, weights_to_onnx
from seamline.models.engines.openvino import rt_info
from seamline.models.model_facts import ModelFacts
from seamline.models.yolo import canvases_to_tensor
from tests.untrained import (
    IMGSZ,
    NAMES,
    Untrained,
    canvas_of,
    metadata_of,
)


def test_onnx_is_open_to_any_batch_and_says_what_it_is(untrained: Untrained) -> None:
    model = onnx.load(untrained.models()["onnx"])
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["images"] == ["batch", 3, IMGSZ, IMGSZ]
    assert shapes["output1"] == ["batch", 8, 24, 24]
    assert shapes["output0"][0] == "batch"
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [20]
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "names": json.dumps(NAMES),
        "imgsz": str(IMGSZ),
        "confidence": "0.2",
        "nms_iou": "0.6",
        "max_detections": "50",
        "family": "yolo",
        "masks": "true",
        "preprocessing": PREPROCESSING,
        "precision": "f32",
        "weights_sha256": sha256_of(untrained.weights),
        "training_revision": "0123456789abcdef",
        "data_sha256": "d" * 64,
    }


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_images_is_a_batch_for_onnx(untrained: Untrained, count: int) -> None:
    session = onnxruntime.InferenceSession(untrained.models()["onnx"], providers=["CPUExecutionProvider"])
    tensor = canvases_to_tensor(np.concatenate([canvas_of(image) for image in untrained.images()[:count]]))
    predictions, prototypes = session.run(None, {"images": tensor})
    assert predictions.shape == (count, 4 + 2 + 8, 12 * 12)
    assert prototypes.shape == (count, 8, 24, 24)
    alone = session.run(None, {"images": tensor[-1:]})
    np.testing.assert_allclose(predictions[-1:], alone[0], atol=1e-3)


def test_openvino_says_the_same(untrained: Untrained) -> None:
    model = openvino.Core().read_model(untrained.models()["openvino"] / "model.xml")
    assert rt_info(model) == {**metadata_of(untrained), "precision": "f32"}
    assert list(model.input().shape) == [1, 3, IMGSZ, IMGSZ]
    weights = [node for node in model.get_ops() if node.get_type_name() == "Constant" and len(node.shape) == 4]
    assert {str(node.get_element_type()) for node in weights} == {"<Type: 'float32'>"}


def test_exporting_again_gives_the_same_bytes_and_leaves_the_weights_alone(
    untrained: Untrained, tmp_path: Path
) -> None:
    metadata = metadata_of(untrained)
    before = sha256_of(untrained.weights)
    weights_to_onnx(untrained.weights, tmp_path / "model.onnx", 20, metadata)
    (tmp_path / "openvino").mkdir()
    onnx_to_openvino(tmp_path / "model.onnx", tmp_path / "openvino", metadata, "f32")
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
    assert ignored_operations(names, "accuracy control") == decoding
    assert ignored_operations(names, "head in f32") == names[1:]


def test_largest_differences_count_boxes_of_detections_only() -> None:
    reference = np.zeros((1, 6, 3), np.float32), np.zeros((1, 2, 2, 2), np.float32)
    reference[0][0, 4, 0] = 0.9
    ours = reference[0].copy(), reference[1] - 0.5
    ours[0][0, 1, :] = [0.2, 70, 80]
    ours[0][0, 5, 2] = 0.1
    assert largest_differences([ours], [reference], ModelFacts(NAMES, IMGSZ)) == {
        "max_abs_score_difference": 0.1,
        "max_abs_box_difference_px": 0.2,
        "max_abs_prototype_difference": 0.5,
    }
