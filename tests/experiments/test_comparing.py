from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from seamline.base.files import read_json, write_csv, write_json
from seamline.evaluation.seed_limits import OverSeeds, over_seeds
from seamline.experiments.comparing import (
    Comparison,
    Model,
    accuracy_differences,
    differences_to_lines,
    parameters_that_differ,
    read_model,
    speed_differences,
    verdict,
)
from seamline.experiments.comparison_page import comparison_to_page
from seamline.experiments.revisions import WORKSPACE, Revision
from tests.conftest import REPORTS, Project


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.chdir(REPORTS.parent)
    return read_model(Revision(WORKSPACE, None), Path("reports"))


def shifted(model: Model, by: float, noise: float = 0.0, **changes: Any) -> Model:
    """A model whose figures are higher, in every draw by about as much."""
    rng = np.random.default_rng(0)
    metrics = {
        split: {
            kind: {key: None if value is None else value + by for key, value in values.items()}
            for kind, values in kinds.items()
        }
        for split, kinds in model.metrics.items()
    }
    samples = {key: values + by + rng.normal(0, noise, len(values)) for key, values in model.samples.items()}
    return model._replace(revision=Revision("other", None), metrics=metrics, samples=samples, **changes)


def verdicts(first: Model, other: Model) -> dict[str, str]:
    return {row.measure: row.verdict for row in accuracy_differences(first, other)}


def test_a_model_is_equal_to_itself(model: Model) -> None:
    assert set(verdicts(model, model).values()) == {"equal"}
    assert parameters_that_differ([model, model]) == []


def test_pairs_see_what_the_intervals_of_each_alone_would_hide(model: Model) -> None:
    """0.05 is within each model's own interval, but it is there in every draw."""
    own = read_json(REPORTS / "evaluate" / "intervals.json")["test"]["mask"]["mAP50_95"]["interval"]
    assert own[1] - own[0] > 0.1
    better = shifted(model, 0.05, 0.002, seed_spread={"seeds": {}, "spread": {}})
    first = model._replace(seed_spread={"seeds": {}, "spread": {}})
    assert verdicts(first, better)["test_mask_mAP50_95"] == "better with these seeds, not known with others"
    assert verdicts(better, first)["test_mask_mAP50_95"] == "worse with these seeds, not known with others"
    row = next(row for row in accuracy_differences(first, better) if row.measure == "test_mask_mAP50_95")
    assert row.difference == pytest.approx(0.05)
    assert row.interval is not None
    assert row.interval[0] < 0.05 < row.interval[1]


def without_masks(model: Model) -> Model:
    metrics = {split: {"box": kinds["box"]} for split, kinds in model.metrics.items()}
    per_class = {split: {"box": kinds["box"]} for split, kinds in model.per_class.items()}
    samples = {key: values for key, values in model.samples.items() if "_box_" in key}
    validation = [{key: value for key, value in row.items() if "mask" not in key} for row in model.validation]
    return model._replace(metrics=metrics, per_class=per_class, samples=samples, validation=validation)


def test_models_are_compared_by_what_both_of_them_find(model: Model) -> None:
    boxes = without_masks(model)
    assert (model.kind, boxes.kind) == ("mask", "box")
    for pair in ((boxes, boxes), (model, boxes), (boxes, model)):
        assert list(verdicts(*pair)) == [
            f"{split}_box_{key}" for split in ("test", "val") for key in ("mAP50_95", "mAP50")
        ]
        page = comparison_to_page(Comparison(list(pair), [], []), Path("reports"))
        assert "box mAP50-95" in page
    assert "mask mAP50-95" in comparison_to_page(Comparison([model, model], [], []), Path("reports"))


def test_what_goes_either_way_is_noise(model: Model) -> None:
    assert verdicts(model, shifted(model, 0.01, 0.05))["test_mask_mAP50_95"] == "within noise"


def with_seeds(model: Model, *apart: float) -> Model:
    """With further seeds that differ from the model's own figure by these."""
    own = model.metrics["test"]["mask"]["mAP50_95"]
    seeds = {str(number): {"test_mask_mAP50_95": own + by} for number, by in enumerate((0.0, *apart))}
    return model._replace(seed_spread={"seeds": seeds})


def test_a_difference_as_small_as_that_of_seeds_is_said_to_be_one(model: Model) -> None:
    # The committed ones may be of trainings on another machine, which are none of this model.
    model = with_seeds(model, 0.01, -0.01)
    limit = stats.t.ppf(0.975, 2) * 0.01 * np.sqrt(1 + 1 / 3)  # one new observation beside three
    for by, said in ((0.9, "better, but within the spread of seeds"), (1.1, "better"), (-1.1, "worse")):
        other = shifted(model, by * limit, 0.0001, seed_spread={"seeds": {}})
        assert verdicts(model, other)["test_mask_mAP50_95"] == said
        assert verdicts(model, other)["val_mask_mAP50_95"].endswith("with these seeds, not known with others")
    row = next(row for row in accuracy_differences(model, other) if row.measure == "test_mask_mAP50_95")
    assert row.seeds is not None and row.seeds[:2] == (3, 1)
    assert row.seeds[2:] == pytest.approx((-1.1 * limit, limit))
    more = with_seeds(other, 0.01, -0.01, 0.005)  # seeds of the other one as well
    row = next(row for row in accuracy_differences(model, more) if row.measure == "test_mask_mAP50_95")
    assert row.seeds is not None and row.seeds[:2] == (3, 4) and row.seeds.limit < limit / 2


def test_another_seed_of_the_same_experiment_is_not_better(model: Model) -> None:
    model = with_seeds(model, 0.2, 0.21)
    other = shifted(model, 0.2, 0.0001, seed_spread=model.seed_spread)
    assert verdicts(model, other)["test_mask_mAP50_95"] == "better, but within the spread of seeds"


SEEDS_VARY = 0.0107  # standard deviation of test mask mAP50-95 over the sample's seeds


def share_of_verdicts(ours: int, theirs: int, photos: float, difference: float, times: int = 4000) -> float:
    """How often two experiments are said to differ, whose trainings and photos are drawn from normal distributions."""
    random = np.random.default_rng([ours, theirs, round(1000 * photos)])
    said = 0
    for _ in range(times):
        same_photos = random.normal(0, photos)
        first = random.normal(0.65, SEEDS_VARY, ours)
        other = random.normal(0.65 + difference, SEEDS_VARY, theirs) + same_photos
        between = float(other[0] - first[0])
        span = [between - 1.96 * photos, between + 1.96 * photos]
        said += verdict(between, span, over_seeds(first.tolist(), other.tolist()), "") in ("better", "worse")
    return said / times


@pytest.mark.parametrize(("ours", "theirs"), [(2, 1), (3, 1), (1, 3), (3, 3), (5, 1), (5, 5)])
def test_of_equal_experiments_one_in_twenty_is_said_to_differ_by_seeds_alone(ours: int, theirs: int) -> None:
    assert 0.04 < share_of_verdicts(ours, theirs, 1e-9, 0) < 0.06


@pytest.mark.parametrize("photos", [0.005, 0.01, 0.02, 0.04])
@pytest.mark.parametrize(("ours", "theirs"), [(3, 1), (3, 3), (5, 5)])
def test_photos_and_seeds_together_give_no_more_false_alarms(ours: int, theirs: int, photos: float) -> None:
    assert share_of_verdicts(ours, theirs, photos, 0) <= 0.055


def test_more_seeds_find_more() -> None:
    found = [share_of_verdicts(ours, theirs, 0.005, 0.05, 1000) for ours, theirs in ((3, 1), (5, 1), (3, 3))]
    assert found == sorted(found)
    assert found[0] > 0.4 and found[-1] > 0.9


def test_other_images_or_another_way_of_measuring_cannot_be_compared(model: Model) -> None:
    settings = json.loads(json.dumps(model.settings))
    settings["test"]["sha256"] = "0" * 64
    found = verdicts(model, shifted(model, 0.3, settings=settings))
    assert found["test_mask_mAP50_95"] == "not comparable: different test photos or annotations"
    assert found["val_mask_mAP50_95"] == "better"
    settings = {**model.settings, "confidence": 0.05}
    assert set(verdicts(model, shifted(model, 0.3, settings=settings)).values()) == {
        "not comparable: evaluate.confidence differs"
    }
    settings = json.loads(json.dumps(model.settings))
    settings["test"]["groups_sha256"] = "0" * 64  # what was drawn together were other images
    found = verdicts(model, shifted(model, 0.3, settings=settings))
    assert "unknown" in found["test_mask_mAP50_95"]
    assert found["val_mask_mAP50_95"] == "better"
    settings = {**model.settings, "seed": 5}  # drawn otherwise: comparable, but not in pairs
    assert "unknown" in verdicts(model, shifted(model, 0.3, settings=settings))["test_mask_mAP50_95"]


def test_a_verdict_needs_an_interval() -> None:
    seeds = OverSeeds(3, 1, 0.1, 0.08)
    assert verdict(0.1, [0.05, 0.15], seeds, "") == "better"  # 0.1 is more than both together, 0.094
    assert verdict(0.1, [0.03, 0.15], seeds, "") == "better, but within the spread of seeds"  # 0.106
    assert verdict(-0.1, [-0.15, -0.05], seeds._replace(difference=-0.1), "") == "worse"
    assert verdict(-0.1, [-0.15, -0.05], seeds, "") == "worse, but within the spread of seeds"  # other seeds: better
    assert verdict(0.1, [-0.01, 0.21], seeds, "") == "within noise"
    assert verdict(0.1, [-0.01, 0.21], None, "") == "within noise"
    assert verdict(0.1, None, None, "few groups") == "unknown: few groups"


def test_speed_is_compared_on_one_machine_only(model: Model) -> None:
    benchmark = json.loads(json.dumps(model.benchmark))
    for row in benchmark.values():
        row["throughput_interval_img_s"] = [row["throughput_img_s"] * 0.9, row["throughput_img_s"] * 1.1]
    first = model._replace(benchmark=benchmark)
    faster = json.loads(json.dumps(benchmark))
    faster["onnx"]["throughput_img_s"] *= 1.5
    faster["onnx"]["throughput_interval_img_s"] = [value * 1.5 for value in faster["onnx"]["throughput_interval_img_s"]]
    faster["openvino_int8"]["throughput_img_s"] *= 0.5  # of which its own range knows nothing
    faster["openvino_int8"]["throughput_interval_img_s"] = None
    faster["openvino"]["throughput_img_s"] *= 1.02
    found = {row.measure: row.verdict for row in speed_differences(first, first._replace(benchmark=faster))}
    assert found["onnx images/s"].startswith("faster, or the machine")
    assert found["openvino images/s"] == "within noise: another run may differ as much"
    assert found["openvino_int8 images/s"] == "unknown: a range needs 6 rounds"
    assert found["pytorch images/s"].startswith("not measured again")
    elsewhere = first._replace(benchmark=faster, environment={**model.environment, "processor": "another"})
    found = {row.measure: row.verdict for row in speed_differences(first, elsewhere)}
    assert found["onnx images/s"].endswith("different machines or versions (processor)")


def test_parameters_that_differ_are_listed(model: Model) -> None:
    other = json.loads(json.dumps(model.params))
    other["train"]["lr0"] = 0.5
    other["subset"]["classes"] = {"top": ["blouse"]}
    other["train"]["mixup"] = 0.1
    assert parameters_that_differ([model, model._replace(params=other)]) == [
        ("subset.classes", ["short sleeve top, trousers", "-"]),
        ("subset.classes.top", ["-", "blouse"]),
        ("train.lr0", ["0.002", "0.5"]),
        ("train.mixup", ["-", "0.1"]),
    ]


def test_the_table_fits_a_screen(model: Model) -> None:
    other = shifted(model, 0.01, 0.05)._replace(revision=Revision("an experiment with a very long name", None))
    lines = differences_to_lines(model, other, accuracy_differences(model, other) + speed_differences(model, other))
    assert max(map(len, lines)) <= 130
    assert len(lines) == 1 + 8 + len(model.benchmark)


def test_a_figure_that_is_not_there_is_one_sentence(project: Project) -> None:
    path = project.root / "reports" / "metrics.json"
    metrics = read_json(path)
    del metrics["test"]["mask"]["mAP50_95"]
    write_json(path, metrics)
    done = project.run("python", "-m", "seamline", "compare", "main", check=False)
    assert done.returncode == 1
    wanted = "error: workspace: reports/metrics.json: test: mask: lacks mAP50_95, which this version of Seamline writes"
    assert done.stderr.startswith(wanted)


def test_reports_of_another_version_are_named(project: Project) -> None:
    path = project.root / "reports" / "evaluate" / "settings.json"
    settings = read_json(path)
    for split in ("val", "test"):
        del settings[split]["groups_sha256"]
    write_json(path, settings)
    done = project.run("python", "-m", "seamline", "compare", "main", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: workspace: its reports are of another version of Seamline")
    assert "Traceback" not in done.stderr


def test_it_prints_a_table_and_writes_a_page(project: Project) -> None:
    reports = project.root / "reports"
    metrics = read_json(reports / "metrics.json")
    metrics["test"]["mask"]["mAP50_95"] += 0.2
    write_json(reports / "metrics.json", metrics)
    bootstrap = (reports / "evaluate" / "bootstrap.csv").read_text().splitlines()
    header = bootstrap[0].split(",")
    at = header.index("test_mask_mAP50_95")
    rows = [line.split(",") for line in bootstrap[1:]]
    for row in rows:
        row[at] = str(float(row[at]) + 0.2)
    write_csv(reports / "evaluate" / "bootstrap.csv", header, rows)
    project.change({"train": {"lr0": 0.5}})
    done = project.run("python", "-m", "seamline", "compare", "main", check=False)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("test_mask_mAP50_95"))
    assert "+0.2000" in line
    assert line.endswith("better")
    assert "train.lr0: 0.002 (main), 0.5 (workspace)" in done.stdout
    page = (project.root / ".seamline" / "compare.html").read_text()
    assert page.count("data:image/jpeg") >= 4
    assert 'class="text good">better' in page
    done = project.run("python", "-m", "seamline", "compare", "main", "nowhere", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: nowhere: is not a commit")
