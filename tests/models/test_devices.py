"""What the names of devices stand for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from seamline.base.errors import SeamlineError
from seamline.models.devices import check_gpu, chosen_device, gpu_count

WEIGHTS, ONNX = Path("best.pt"), Path("model.onnx")


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize("count", [0, 2])
def test_auto_is_a_gpu_for_weights_where_there_is_one(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    with_gpus(monkeypatch, count)
    assert gpu_count() == count
    assert chosen_device(WEIGHTS, "auto") == ("cuda:0" if count else "cpu")
    assert chosen_device(ONNX, "auto") == "cpu"


def test_without_torch_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gpu_count() == 0
    assert chosen_device(WEIGHTS, "auto") == "cpu"


def test_a_name_stands_for_one_device() -> None:
    names = {"cpu": "cpu", "cuda": "cuda:0", "cuda:1": "cuda:1", "tensorrt": "tensorrt:0", "tensorrt:3": "tensorrt:3"}
    assert {name: chosen_device(ONNX, name) for name in names} == names


@pytest.mark.parametrize("name", ["gpu", "", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "0", "auto ", "cuda:100"])
def test_another_name_is_one_sentence(name: str) -> None:
    with pytest.raises(SeamlineError, match=r"best\.pt: device .* was asked for; a device is one of auto, cpu, cuda"):
        chosen_device(WEIGHTS, name)


def test_a_gpu_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 0)
    with pytest.raises(SeamlineError, match=r"best\.pt: device cuda:0 was asked for, and torch .* sees no GPU\.$"):
        check_gpu(WEIGHTS, "cuda:0")
    with_gpus(monkeypatch, 2)
    check_gpu(WEIGHTS, "cuda:1")
    with pytest.raises(SeamlineError, match=r"device cuda:2 was asked for, and torch sees 2 GPUs, from cuda:0 on\.$"):
        check_gpu(WEIGHTS, "cuda:2")
