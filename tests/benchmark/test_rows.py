"""The benchmark's rows: which there are, how they run, and which cannot be compared."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from seamline.benchmark import rows as rows_module
from seamline.benchmark.rows import (
    Concurrency,
    Row,
    concurrencies_to_try,
    formats_on_gpu,
    not_comparable,
    openable_models,
    rows_to_measure,
    start_row,
    timed_models,
)
from seamline.inference.detector import Detector
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import load_params
from tests.conftest import PARAMS


def test_rows_are_the_models_and_what_the_machine_adds() -> None:
    models = {name: Path(name) for name in ("pytorch", "onnx", "openvino", "openvino_int8")}
    assert [row.name for row in rows_to_measure(models, ["avx2"], [])] == list(models)
    rows = rows_to_measure(models, ["avx2", "amx_bf16"], ["pytorch", "onnx"])
    assert [row.name for row in rows] == [
        "pytorch", "onnx", "openvino", "openvino_bf16", "openvino_int8", "pytorch_cuda",
        "pytorch_cuda_tf32", "pytorch_cuda_f16", "pytorch_cuda_bf16", "onnx_cuda",
    ]  # fmt: skip
    assert {row.name: row.path for row in rows}["openvino_bf16"] == Path("openvino")
    assert [row.precision for row in rows if row.device == "cpu" and row.precision != "f32"] == ["bf16"]
    on_gpu = [(row.path, row.precision) for row in rows if row.device == "cuda"]
    assert on_gpu == [(models["pytorch"], one) for one in ("f32", "tf32", "f16", "bf16")] + [(models["onnx"], "f32")]
    assert len(rows_to_measure(models, [], ["onnx"])) == len(models) + 1


def test_concurrencies_of_a_row() -> None:
    row = Row("onnx", Path("model.onnx"))
    assert concurrencies_to_try(row, 1) == [Concurrency(1)]
    assert concurrencies_to_try(row, 2) == [Concurrency(1), Concurrency(2)]
    assert concurrencies_to_try(row, 16) == [Concurrency(1), Concurrency(8), Concurrency(16)]
    assert concurrencies_to_try(row._replace(device="cuda"), 16) == [
        Concurrency(1, 1), Concurrency(1, 8), Concurrency(1, 32),
    ]  # fmt: skip


def test_what_cannot_be_compared_is_marked_with_the_reason() -> None:
    row = {"device": "cpu", "precision": "f32", "threads": 2, "imgsz": 160}
    assert not_comparable(row, row, stable=True) is None
    assert not_comparable(row | {"precision": "bf16"}, row, stable=True) == "computes in bf16"
    assert not_comparable(row | {"device": "cuda"}, row, stable=True) == "runs on cuda"
    assert not_comparable(row | {"threads": 1}, row, True) == "has 1 threads and an input of 160 px"
    assert not_comparable(row | {"imgsz": 320}, row, True) == "has 2 threads and an input of 320 px"
    assert not_comparable(row, row, stable=False) == "had not become steady when the warm-up ended"
    both = "computes in bf16 and had not become steady when the warm-up ended"
    assert not_comparable(row | {"precision": "bf16"}, row, stable=False) == both


def test_a_row_is_opened_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(rows_module, "EngineProcess", lambda *arguments: started.append(arguments))
    limits = load_params(PARAMS)[Evaluate]
    row = Row("onnx_cuda", Path("model.onnx"), "bf16", "cuda")
    start_row(row, Concurrency(streams=2, batch=16), [0, 1, 2], 0.3, limits, 9.0)
    [(name, opening, cores, timeout_s)] = started
    assert (name, cores, timeout_s) == ("onnx_cuda", [0, 1, 2], 9.0)
    named = inspect.signature(Detector).bind(*opening.args).arguments
    assert named == {
        "model": Path("model.onnx"), "confidence": 0.3, "nms_iou": limits.nms_iou,
        "max_detections": limits.max_detections, "threads": 3, "streams": 2, "batch": 16, "precision": "bf16",
        "device": "cuda",
    }  # fmt: skip


def test_all_but_f16_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {name: Path(name) for name in ("pytorch", "onnx", "openvino", "openvino_f16", "openvino_int8")}
    monkeypatch.setattr(rows_module, "models_made", lambda weights, exported: made)
    assert list(timed_models(Path("w"), Path("e"))) == ["pytorch", "onnx", "openvino", "openvino_int8"]


def test_weights_are_left_out_where_torch_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {name: Path(name) for name in ("pytorch", "onnx")}
    assert openable_models(models) == models
    monkeypatch.setattr(rows_module, "find_spec", lambda name: None)
    assert openable_models(models) == {"onnx": Path("onnx")}


@pytest.mark.parametrize("has_driver", [False, True])
@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_gpu_is_used_where_there_are_a_driver_and_a_program_for_it(
    monkeypatch: pytest.MonkeyPatch, has_driver: bool, has_gpu: bool
) -> None:
    providers = ["CUDAExecutionProvider"] if has_gpu else ["CPUExecutionProvider"]
    onnxruntime = SimpleNamespace(get_available_providers=lambda: providers)
    monkeypatch.setattr(rows_module, "import_onnxruntime", lambda: onnxruntime)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(rows_module, "Path", lambda path: SimpleNamespace(exists=lambda: has_driver))
    usable = has_driver and has_gpu
    assert formats_on_gpu(["pytorch", "onnx", "openvino"]) == (["pytorch", "onnx"] if usable else [])
    assert formats_on_gpu(["onnx"]) == (["onnx"] if usable else [])
    assert formats_on_gpu(["openvino"]) == []
