"""The committed results belong to the committed code, parameters and data, and reach what Seamline promises.

`make check-results` runs this. `make test` does not: it tests the code, whatever results a user has.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamline.files import read_json

PROJECT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# What a fresh clone lacks, and `dvc repro` or `dvc pull` brings.
NOT_HERE = {"deleted", "not in cache"}
NOT_IN_GIT = ("data/", "models/")


def status_to_reasons(status: dict[str, list[Any]]) -> list[str]:
    """Why stages would run again, of `dvc status --json`; not where nothing but data or models are missing here."""
    reasons = []
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):  # such as "changed command"
                reasons.append(f"{stage}: {change}")
                continue
            for kind, found in change.items():
                for name, state in found.items():
                    if state not in NOT_HERE or not name.startswith(NOT_IN_GIT):
                        reasons.append(f"{stage}: {kind}: {name} ({state})")
    return reasons


def test_no_stage_would_come_to_other_results() -> None:
    done = subprocess.run([BIN / "dvc", "status", "--json"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reasons = status_to_reasons(json.loads(done.stdout))
    assert not reasons, "stale; `dvc repro`, and commit dvc.lock and reports/:\n" + "\n".join(reasons)


def test_what_is_missing_in_a_fresh_clone_is_no_reason_and_what_changed_is() -> None:
    missing = [{"changed deps": {"data/raw": "deleted"}}, {"changed outs": {"data/subset": "not in cache"}}]
    assert status_to_reasons({"subset": missing}) == []
    changed = [{"changed deps": {"seamline/coco.py": "modified", "data/raw": "modified"}}, "changed command"]
    changed.append({"changed outs": {"reports/subset.json": "deleted"}})
    assert len(status_to_reasons({"subset": changed})) == 4


def test_tests_take_the_parameters_of_the_project() -> None:
    own = PROJECT / "tests" / "workspace" / "params.yaml"
    assert own.read_text() == (PROJECT / "params.yaml").read_text(), "cp params.yaml tests/workspace/"


@pytest.fixture
def params() -> Any:
    return yaml.safe_load((PROJECT / "params.yaml").read_text())


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
    here, seeds = report("environment.json"), found["machine"]
    if any(here[key] != seeds[key] for key in ("processor", "instructions", "cores_used")):
        return  # another kind of processor rounds differently: its weights are others, as another seed's are
    accuracy, own = report("accuracy.json"), found["seeds"][str(params["train"]["seed"])]
    for split in ("val", "test"):
        assert own[f"{split}_mask_mAP50_95"] == pytest.approx(accuracy[split]["mask_mAP50_95"], abs=1e-9), "make seeds"


def test_the_readme_has_the_figures_of_the_reports() -> None:
    command = [sys.executable, "-m", "stages.summary"]
    lines = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.splitlines()
    figures = [line for line in lines if re.search(r"\d\.\d", line)]
    readme = (PROJECT / "README.md").read_text()
    assert len(figures) >= 5
    for line in figures:
        assert f"    {line}\n" in readme, f"README.md lacks {line!r}"
