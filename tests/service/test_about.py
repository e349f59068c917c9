"""What /v1/about says of a model, however its path is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from seamline.inference.detector import Detector
from seamline.service.about import about
from seamline.service.schemas import ModelAbout
from seamline.service.settings import Settings
from tests.untrained import Untrained


def about_model(path: Path) -> ModelAbout:
    with Detector(path, threads=1) as detector:
        return about(detector, path, Settings(), None).model


def test_a_folder_with_an_onnx_file_is_that_file(untrained: Untrained) -> None:
    """It was said to be OpenVINO, and to have another revision."""
    path = untrained.models()["onnx"]
    by_folder = about_model(path.parent)
    assert by_folder == about_model(path)
    assert (by_folder.format, by_folder.name) == ("onnx", "onnx")


def test_the_folder_that_one_is_in_has_its_name(untrained: Untrained, monkeypatch: pytest.MonkeyPatch) -> None:
    path = untrained.models()["openvino"]
    monkeypatch.chdir(path)
    here = about_model(Path())
    assert here == about_model(path)
    assert (here.format, here.name) == ("openvino", "openvino")
