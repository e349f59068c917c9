"""What Seamline promises of its own sample: as the committed results and README.md have it.

Only with SEAMLINE_RELEASE=1, as .ci/run calls it: whoever runs the pipeline on a processor of their own comes to other
figures than README.md has, and has nothing to mend.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from docs.make_picture import PICTURE, shown_figures
from seamline.base.files import read_json

PROJECT = Path(__file__).resolve().parent.parent
OWN, OF_TESTS = PROJECT / "params.yaml", PROJECT / "tests" / "workspace" / "params.yaml"
RELEASE = "SEAMLINE_RELEASE" in os.environ
pytestmark = pytest.mark.skipif(not RELEASE, reason="promises of Seamline's own release: SEAMLINE_RELEASE=1")


def test_tests_take_the_parameters_of_the_project() -> None:
    assert OF_TESTS.read_text() == OWN.read_text(), "cp params.yaml tests/workspace/"


@pytest.fixture
def params() -> Any:
    return yaml.safe_load(OWN.read_text())


def report(name: str) -> Any:
    return read_json(PROJECT / "reports" / name)


def test_the_default_model_is_no_toy() -> None:
    found = report("accuracy.json")["test"]
    assert found["mask_mAP50"] >= 0.85
    assert found["mask_mAP50_95"] >= 0.60


def test_masks_survived_and_nothing_leaks(params: Any) -> None:
    fidelity, split = report("fidelity.json"), report("split.json")
    assert fidelity["mean_iou"] >= 0.99
    assert fidelity["below_0_5"] == []
    assert split["leaked_groups"] == split["near_duplicates_across_splits"] == 0
    for name, ratio in params["split"]["ratios"].items():
        assert split[name]["share"] == pytest.approx(ratio, abs=0.02)


def test_every_export_predicts_what_pytorch_predicts(params: Any) -> None:
    rows, exported = report("benchmark.json"), report("export.json")
    for name in ("onnx", "openvino"):
        assert abs(rows[name]["mask_mAP50_95_delta"]) <= 0.002
    assert exported["openvino_int8"]["drop"] <= params["export"]["int8"]["max_drop"]


def test_the_spread_of_seeds_is_of_these_parameters_and_this_model(params: Any) -> None:
    found = report("train/seed_spread.json")
    assert len(found["seeds"]) >= 3
    assert found["train"] == {key: value for key, value in params["train"].items() if key != "seed"}, "make seeds"
    assert 0 < found["spread"]["test_mask_mAP50_95"] < 0.1
    trained = list(found["trained"].values())
    assert all(one == trained[0] for one in trained), "more than the seed differs: make clear-trainings seeds"
    here = report("train/summary.json")
    if any(here[key] != trained[0][key] for key in ("device", "processor", "threads")):
        return  # another kind of processor rounds differently: its weights are others, as another seed's are
    accuracy, own = report("accuracy.json"), found["seeds"][str(params["train"]["seed"])]
    for split in ("val", "test"):
        assert own[f"{split}_mask_mAP50_95"] == pytest.approx(accuracy[split]["mask_mAP50_95"], abs=1e-9), "make seeds"


def test_the_readme_has_the_figures_of_the_reports() -> None:
    command = [sys.executable, "-m", "seamline", "summary"]
    lines = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.splitlines()
    figures = [line for line in lines if re.search(r"\d\.\d", line)]
    readme = (PROJECT / "README.md").read_text()
    assert len(figures) >= 5
    for line in figures:
        assert f"    {line}\n" in readme, f"README.md lacks {line!r}"


def test_the_picture_of_the_readme_shows_the_figures_of_the_reports() -> None:
    with Image.open(PICTURE) as image:
        assert image.info["figures"] == shown_figures(), "python docs/make_picture.py"
