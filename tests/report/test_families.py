"""The tests' own family, which finds boxes only, through evaluate, export, benchmark and report by their commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.conftest import PROJECT, REPORTS
from tests.stages.test_stage import with_params
from tests.tiny_family import Tiny

SMALL = {
    "subset": {"classes": ["red", "blue"]},
    "evaluate": {"overlays": 2, "bootstrap_samples": 100},
    "export": {"int8": {"calibration_images": 4, "max_drop": 1.0}},
    "benchmark": {"threads": 1, "rounds": 2, "images": 4, "timeout_s": 120},
}


def run(folder: Path, stage: str, *arguments: Path | str) -> str:
    """A stage that knows the family, in a folder with a project's parameters and reports."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.tiny_family", stage, *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
def test_a_family_without_masks_is_measured_exported_timed_and_reported(tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(REPORTS, tmp_path / "reports")
    with_params(tmp_path, SMALL)
    reports, exported = tmp_path / "reports", tmp_path / "export"
    images = tiny.images
    run(tmp_path, "evaluate", tiny.weights, tiny.split, images, "predictions", "--report", "reports")
    run(tmp_path, "export", tiny.weights, tiny.split, images, exported, "--report", "reports/export.json")
    printed = run(tmp_path, "benchmark", tiny.weights, exported, tiny.split, images, "reports")
    assert "box mAP" in printed
    run(tmp_path, "report", "reports")

    def read(name: str) -> Any:
        return json.loads((reports / name).read_text())

    truth = COCO(str(tiny.split / "test.json"))
    plain = COCOeval(truth, truth.loadRes(str(tmp_path / "predictions" / "test_box.json")), "bbox")
    plain.evaluate()
    plain.accumulate()
    plain.summarize()
    value = float(plain.stats[0])
    assert value > 0.3
    assert list(read("metrics.json")["test"]) == ["box"]
    assert read("metrics.json")["test"]["box"]["mAP50_95"] == read("accuracy.json")["test"]["box_mAP50_95"] == value
    rows = read("benchmark.json")
    for name in ("pytorch", "onnx", "openvino"):
        assert rows[name]["box_mAP50_95"] == pytest.approx(value, abs=1e-5)
    assert not [key for row in rows.values() for key in row if "mask" in key]
    for name in ("index.html", "MODEL_CARD.md"):
        text = (reports / name).read_text()
        assert f"{value:.3f}" in text
        assert "box mAP50-95" in text
        assert "mask mAP" not in text
        assert "ultralytics" not in text[: text.index("What it was made of")]
