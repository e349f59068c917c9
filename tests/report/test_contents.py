from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import Environment, StrictUndefined
from scipy import stats

from seamline.base.errors import SeamlineError
from seamline.base.files import write_json
from seamline.benchmark.recommendation import EQUAL, FASTER, UNSURE
from seamline.models.exported import model_paths
from seamline.params.loading.loader import Params, load_params
from seamline.params.pull import Pull
from seamline.params.split import Split
from seamline.report.cautions import cautions
from seamline.report.code import code_identity
from seamline.report.contents import (
    how_to_run,
    listed,
    losses_of_data,
    read_reports,
    seeds_to_sentence,
    speeds_beside,
    text_to_rows,
    threshold_is,
    trained_on,
)
from seamline.report.records import read_record
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


def test_only_models_made_with_ultralytics_are_said_to_be(reports: Any, params: Params) -> None:
    assert says(reports, params, "made with ultralytics, which is licensed under AGPL-3.0")
    reports["model"]["family"] = "another"
    assert not says(reports, params, "ultralytics")


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
    assert says(reports, params, "whichever part of the test set is left out")
    reports["settings"]["test"]["groups_showing_an_instance"] = 3
    assert says(reports, params, "come from 3 independent groups of photos, and an interval needs 15")


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


def test_scores_are_warned_of_only_beyond_what_chance_would_give(reports: Any, params: Params) -> None:
    point = reports["operating_point"]
    point["test_calibration_error_by_chance"] = {"mean": 0.098, "limit": 0.136}
    for error, said in ((0.11, False), (0.136, False), (0.137, True), (None, False)):
        point["test_calibration_error"] = error
        assert says(reports, params, "Scores are not probabilities") == said
    point["test_calibration_error"] = 0.137
    assert says(reports, params, "off by 0.137 on average, where chance alone would give 0.098, and at most 0.136")
    point |= {"test_calibration_error": 0.02, "test_calibration_error_by_chance": {"mean": 0.003, "limit": 0.004}}
    assert says(reports, params, "Scores are not probabilities")  # little, but of many predictions


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
        assert says(reports, params, "It is one training") != said


def test_the_limit_of_seeds_is_the_t_tests(reports: Any, params: Params) -> None:
    values = (0.65, 0.66, 0.67)
    seeds = {str(n): {f"{split}_mask_mAP50_95": value for split in ("val", "test")} for n, value in enumerate(values)}
    reports["seed_spread"] = {"seeds": seeds}
    limit = stats.t.ppf(0.975, 2) * 0.01 * np.sqrt(1 + 1 / 3)
    said = (
        "3 seeds gave 0.650 to 0.670 (reports/train/seed_spread.json). A training that differs from their mean by less"
    )
    assert says(reports, params, f"{said} than {limit:.3f} may differ by chance alone")
    sentence = seeds_to_sentence(reports["seed_spread"], "mask")
    assert "3 seeds gave mask mAP50-95 of 0.650 to 0.670 on test and 0.650 to 0.670 on val" in sentence
    assert f"more than {limit:.3f} on test and {limit:.3f} on val" in sentence
    assert seeds_to_sentence(None, "mask") == ""


@pytest.mark.parametrize(
    ("processor", "said"),
    [
        ({"name": "A B", "instructions": ["avx2", "amx_int8"]}, "A B (avx2, amx_int8), 1 thread"),
        ({"name": "Apple M4", "instructions": None}, "Apple M4 (instructions unknown), 1 thread"),
        (None, "CPU, x86_64 AVX2, 1 thread; which processor it was is not known"),
    ],
)
def test_the_processor_that_trained_is_named(processor: Any, said: str) -> None:
    training = {"device": "CPU, x86_64 AVX2", "threads": 1, "processor": processor}
    assert trained_on(training) == said
    assert trained_on({**training, "device": "NVIDIA H100"}) == "NVIDIA H100"
    if processor is None:
        assert trained_on({key: training[key] for key in ("device", "threads")}) == said  # of an earlier version
        assert trained_on({"device": "CPU, x86_64 AVX2"}) == said.replace(", 1 thread", "")
        assert trained_on({}) == "a device that is not known"


def test_a_key_that_is_missing_is_named_with_its_file(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", {"test": {"mask": {}}, "all": [{"a": 1}]})
    found = read_record(tmp_path / "metrics.json")
    assert found["all"][0]["a"] == 1
    sentence = r"metrics\.json: test: mask: lacks mAP50, which this version of Seamline writes; run dvc repro\.$"
    with pytest.raises(SeamlineError, match=sentence):
        found["test"]["mask"]["mAP50"]
    with pytest.raises(SeamlineError, match=sentence):
        Environment(undefined=StrictUndefined).from_string("{{ found.test.mask.mAP50 }}").render(found=found)
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(SeamlineError, match="is not an object"):
        read_record(tmp_path / "metrics.json")


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


def test_without_a_grouping_field_nobody_knows_what_belongs_together(reports: Any, params: Params) -> None:
    assert not says(reports, params, "No field says which photos belong together")
    params[Split].group_by = None
    assert says(reports, params, "No field says which photos belong together (split.group_by: null)")


def test_a_faster_format_whose_cost_is_not_known_is_said(reports: Any, params: Params) -> None:
    words = "OpenVINO bf16 is faster than the recommended format (4"
    assert not says(reports, params, words)
    row = {**reports["benchmark"]["openvino"], "precision": "bf16", "mask_mAP50_95_delta": -0.0017}
    row["throughput_img_s"] *= 2
    row["throughput_rounds_img_s"] = [2 * value for value in row["throughput_rounds_img_s"]]
    row |= {"throughput_img_s": 418.2, "mask_mAP50_95_delta_interval": None}
    reports["benchmark"]["openvino_bf16"] = row
    reports["settings"]["test"]["groups_showing_an_instance"] = 22
    assert says(reports, params, words)
    assert says(reports, params, "on test it costs 0.0017, but these are only 22 groups that show an instance")
    row["mask_mAP50_95_delta_interval"] = [-0.02, 0.01]
    assert says(reports, params, "on test it costs 0.0017 (-0.0100 to 0.0200). Give test more photos")
    row["mask_mAP50_95_delta_interval"] = [-0.005, 0.002]  # then it is the recommended one
    assert not says(reports, params, words)


def test_a_speed_that_may_be_another_is_not_called_equal() -> None:
    labels = {"onnx": "ONNX Runtime"}
    assert speeds_beside({}, labels) == []
    assert speeds_beside({"onnx": EQUAL}, labels) == ["ONNX Runtime: equally fast within noise"]
    assert speeds_beside({"onnx": EQUAL, "a": UNSURE, "b": UNSURE, "c": FASTER}, labels) == [
        "ONNX Runtime: equally fast within noise", "a and b: not known which is faster",
        "c: faster, but not known to be as accurate",
    ]  # fmt: skip


def test_the_default_threshold_is_not_called_the_best(reports: Any) -> None:
    assert threshold_is(reports) == "the best F1 on val"
    reports["operating_point"]["val"]["right"] = 0
    assert threshold_is(reports) == "only the default, as no prediction on val is right"
