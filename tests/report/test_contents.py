from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from seamline.base.errors import SeamlineError
from seamline.models.exported import model_paths
from seamline.params.loader import Params, load_params
from seamline.params.pull import Pull
from seamline.report.cautions import cautions
from seamline.report.code import code_identity
from seamline.report.contents import (
    how_to_run,
    listed,
    losses_of_data,
    read_reports,
    text_to_rows,
)
from tests.conftest import PARAMS, REPORTS, Project


@pytest.fixture
def reports() -> Any:
    return read_reports(REPORTS)


@pytest.fixture
def params() -> Params:
    return load_params(PARAMS)


def says(reports: Any, params: Params, words: str) -> bool:
    return any(words in sentence for sentence in cautions(reports, params))


@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino", "openvino_bf16", "openvino_int8"])
def test_each_row_can_be_run_as_it_was_measured(name: str) -> None:
    command = how_to_run(name)
    models = model_paths(Path("models/train/best.pt"), Path("models/export"))
    assert models[name.removesuffix("_bf16")].as_posix() in command
    assert ("--precision bf16" in command) == (name == "openvino_bf16")


def test_tables_keep_names_as_they_are() -> None:
    text = "split,field,value,instances,mask_mAP50\ntest,style,007,3,0.5\ntest,style,,1,\n"
    assert text_to_rows(text, "t") == [
        {"split": "test", "field": "style", "value": "007", "instances": 3, "mask_mAP50": 0.5},
        {"split": "test", "field": "style", "value": "", "instances": 1, "mask_mAP50": None},
    ]


def test_a_table_with_gits_marks_in_it_is_named() -> None:
    with pytest.raises(SeamlineError, match=r"slices\.csv: is not the table"):
        text_to_rows("split,mask_mAP50\n<<<<<<< HEAD\ntest,what\n", "slices.csv")


def test_the_sample_is_said_to_be_drawn(reports: Any, params: Params) -> None:
    assert "drawn pictures" in cautions(reports, params)[0]
    params[Pull].source = "s3://bucket/garments"
    assert not says(reports, params, "drawn pictures")


def test_weights_that_were_taken_over_are_said_to_be(reports: Any, params: Params) -> None:
    assert not says(reports, params, "trained by an earlier version")
    reports["training"]["taken_over"] = True
    assert says(reports, params, "trained by an earlier version of Seamline with these data and parameters")


def test_a_model_that_finds_nothing_is_not_recommended(reports: Any, params: Params) -> None:
    assert not says(reports, params, "not fit for use")
    reports["metrics"]["test"]["mask"]["mAP50"] = 0.04
    assert says(reports, params, "not fit for use: mask mAP50 on test is 0.040")
    reports["metrics"]["test"]["mask"]["mAP50"] = None
    assert says(reports, params, "shows no instance")
    assert not says(reports, params, "not fit for use")


def test_a_wide_interval_is_a_reason_to_be_careful_and_none_as_well(reports: Any, params: Params) -> None:
    assert says(reports, params, "means something between")
    reports["intervals"]["test"]["mask"]["mAP50_95"] = {"value": 0.7, "interval": [0.69, 0.71]}
    assert not says(reports, params, "means something between")
    reports["intervals"]["test"]["mask"]["mAP50_95"] = {"value": 0.7, "interval": None}
    assert says(reports, params, "every test set drawn again gives the same")
    reports["settings"]["test"]["groups_showing_an_instance"] = 3
    assert says(reports, params, "from 3 groups of photos that do not belong together, and an interval needs 15")


def test_only_a_slice_whose_whole_interval_lies_below_is_worse(reports: Any, params: Params) -> None:
    reports["intervals"]["test"]["mask"]["mAP50_95"] = {"value": 0.7, "interval": [0.65, 0.75]}
    base = {"split": "test", "field": "scale", "instances": 50, "images": 40}
    figures = {"mask_mAP50_95": 0.5, "mask_mAP50_95_low": 0.4, "mask_mAP50_95_high": 0.6}
    reports["slice_rows"] = [
        base | {"value": "small"} | figures,
        base | {"value": "large"} | figures | {"mask_mAP50_95_high": 0.71},
        base | {"value": "unsure"} | figures | {"mask_mAP50_95_low": None, "mask_mAP50_95_high": None},
        base | {"value": "of val", "split": "val"} | figures,
        base | {"value": "better"} | figures | {"mask_mAP50_95_low": 0.8, "mask_mAP50_95_high": 0.9},
    ]
    found = [sentence for sentence in cautions(reports, params) if "Probably worse" in sentence]
    assert len(found) == 1
    assert "scale is small" in found[0]


def test_what_was_dropped_is_counted(reports: Any, params: Params) -> None:
    assert losses_of_data(reports) == []
    reports["pull"]["dropped"] = {"image: cannot be decoded": 3}
    reports["subset"]["instances_left_out"]["crowd"] = 2
    assert losses_of_data(reports) == [
        ("pull", "dropped: image: cannot be decoded", 3), ("subset", "left out: crowd", 2),
    ]  # fmt: skip
    assert says(reports, params, "3 records of the source could not be used")


def test_seeds_of_another_model_say_nothing(tmp_path: Path, params: Params) -> None:
    """The committed ones may be of trainings on another machine; here one of them is this model, and then none is."""
    folder = tmp_path / "reports"
    shutil.copytree(REPORTS, folder)
    spread = json.loads((folder / "train" / "seed_spread.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    for difference, said in ((0.0, True), (0.001, False)):
        spread["seeds"]["0"]["test_mask_mAP50_95"] = metrics["test"]["mask"]["mAP50_95"] + difference
        for number in ("1", "2"):
            spread["seeds"][number]["test_mask_mAP50_95"] = 0.5
        (folder / "train" / "seed_spread.json").write_text(json.dumps(spread))
        reports = read_reports(folder)
        assert (reports["seed_spread"] is not None) == said
        assert says(reports, params, "Another seed alone") == said


def test_names_are_listed_and_not_endlessly() -> None:
    assert listed([]) == "nothing"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([str(number) for number in range(100)]).endswith("8, 9 and 90 more")


def test_the_code_is_named_by_the_commit_that_last_changed_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    first = project.run("git", "rev-parse", "HEAD").stdout.strip()
    clean = code_identity()
    assert (clean["commit"], clean["changed_since"]) == (first[:12], [])
    for name in ("README.md", "seamline/cli.py"):  # no figure of the report comes from them
        (project.root / name).write_text("changed")
    assert code_identity() == clean
    project.commit("a text")
    assert code_identity() == clean
    stage = project.root / "stages" / "split.py"
    stage.write_text(stage.read_text() + "\n")
    changed = code_identity()
    assert (changed["commit"], changed["changed_since"]) == (first[:12], ["stages/split.py"])
    assert changed["sha256"] != clean["sha256"]
    (project.root / "seamline" / "base" / "new.py").touch()
    assert code_identity()["changed_since"] == ["seamline/base/new.py", "stages/split.py"]
    (project.root / "seamline" / "base" / "new.py").unlink()
    (project.root / ".git").rename(project.root.parent / ".git")  # the project is in a subfolder of it
    project.commit("moved")
    stage.write_text(stage.read_text() + "\n")
    assert code_identity()["changed_since"] == ["stages/split.py"]
    stage.write_text(stage.read_text()[:-1])
    shutil.rmtree(project.root.parent / ".git")
    assert code_identity() == {"sha256": changed["sha256"], "commit": None, "changed_since": []}
