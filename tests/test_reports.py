"""The committed results belong to the committed code and parameters, and reach what Seamline promises."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamline.files import read_json
from tests.conftest import PROJECT

LOCK: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.lock").read_text())["stages"]
PIPELINE: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
PARAMS: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("stage", PIPELINE)
def test_the_lock_is_of_this_code(stage: str) -> None:
    for dep in LOCK[stage]["deps"]:
        if (PROJECT / dep["path"]).is_file() and not dep["path"].startswith(("data/", "models/")):
            assert dep["md5"] == md5_of(PROJECT / dep["path"]), f"{dep['path']} changed: dvc repro, and commit"


@pytest.mark.parametrize("stage", PIPELINE)
def test_the_lock_is_of_these_parameters(stage: str) -> None:
    for key, value in LOCK[stage]["params"]["params.yaml"].items():
        section, _, part = key.partition(".")
        assert value == (PARAMS[section][part] if part else PARAMS[section])


@pytest.mark.parametrize("stage", PIPELINE)
def test_the_reports_are_those_of_the_lock(stage: str) -> None:
    for out in LOCK[stage]["outs"]:
        if out["path"].startswith("reports/") and (PROJECT / out["path"]).is_file():
            assert out["md5"] == md5_of(PROJECT / out["path"])


def test_the_default_model_is_no_toy() -> None:
    found = read_json(PROJECT / "reports" / "accuracy.json")["test"]
    assert found["mask_mAP50"] >= 0.85
    assert found["mask_mAP50_95"] >= 0.60


def test_masks_survived_and_nothing_leaks() -> None:
    fidelity, split = (read_json(PROJECT / "reports" / f"{name}.json") for name in ("fidelity", "split"))
    assert fidelity["mean_iou"] >= 0.99
    assert fidelity["below_0_5"] == []
    assert split["leaked_groups"] == split["near_duplicates_across_splits"] == 0
    for name, ratio in PARAMS["split"]["ratios"].items():
        assert split[name]["share"] == pytest.approx(ratio, abs=0.02)


def test_every_export_predicts_what_pytorch_predicts() -> None:
    rows = read_json(PROJECT / "reports" / "benchmark.json")
    exported = read_json(PROJECT / "reports" / "export.json")
    for name in ("onnx", "openvino"):
        assert abs(rows[name]["mask_mAP50_95_delta"]) <= 0.002
    assert exported["openvino_int8"]["drop"] <= PARAMS["export"]["int8"]["max_drop"]


def test_the_spread_of_seeds_is_of_these_parameters_and_this_model() -> None:
    found = read_json(PROJECT / "reports" / "train" / "seed_spread.json")
    assert len(found["seeds"]) >= 3
    assert found["train"] == {key: value for key, value in PARAMS["train"].items() if key != "seed"}, "make seeds"
    accuracy = read_json(PROJECT / "reports" / "accuracy.json")
    own = found["seeds"][str(PARAMS["train"]["seed"])]
    for split in ("val", "test"):
        assert own[f"{split}_mask_mAP50_95"] == pytest.approx(accuracy[split]["mask_mAP50_95"], abs=1e-9)
    assert 0 < found["spread"]["test_mask_mAP50_95"] < 0.1
