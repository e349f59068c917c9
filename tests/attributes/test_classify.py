"""The stage classify as a user meets it: a model whose figures are those of its exports, twice the same, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from seamline.attributes.labelled import read_labelled
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.inference.classifier import AttributeClassifier
from seamline.models.exported import ACCEPTED, NOT_KNOWN, REFUSED
from tests.attributes.drawn import VALUES, write_drawn
from tests.attributes.test_training import SMALL
from tests.stages.test_stage import is_one_sentence, run_stage, with_params

COMMAND = ("data/attributes", "models/attributes", "--report", "reports/attributes")
MEASURED = ("reports/attributes/speed.json",)  # and therefore another one each time


def classify(place: Path) -> Any:
    return run_stage("classify", place, *COMMAND)


def written(place: Path) -> dict[str, str]:
    paths = [path for folder in ("models", "reports") for path in (place / folder).rglob("*") if path.is_file()]
    names = {path.relative_to(place).as_posix(): path for path in paths}
    return {name: sha256_of(path) for name, path in sorted(names.items()) if name not in MEASURED}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stage has run; tests leave it as they find it."""
    folder = tmp_path_factory.mktemp("classify")
    with_params(folder, {"classify": SMALL})
    write_drawn(folder / "data" / "attributes")
    done = classify(folder)
    assert done.returncode == 0, done.stderr
    return folder


def report(place: Path, name: str) -> Any:
    return json.loads((place / "reports" / "attributes" / f"{name}.json").read_text())


@pytest.mark.parametrize("format_", ["onnx", "openvino"])
def test_figures_on_test_are_those_of_the_exported_model_by_scikit_learn(place: Path, format_: str) -> None:
    labelled = read_labelled(place / "data" / "attributes")
    said = report(place, "metrics")
    with AttributeClassifier(place / "models" / "attributes" / format_, 1) as classifier:
        named = [classifier.classify_photo(one.photo) for one in labelled.splits["test"]]
        facts = classifier.facts
    assert facts.attributes == VALUES and facts.data_sha256 == said["training"]["data_sha256"]
    for column, (name, values) in enumerate(VALUES.items()):
        pairs = [
            (values[one.labels[column]], found[name])
            for one, found in zip(labelled.splits["test"], named, strict=True)
            if one.labels[column] >= 0
        ]
        truth, best = [one for one, _ in pairs], [found.best for _, found in pairs]
        own = said["test"][name]
        assert own["observed"] == len(pairs) and own["observed"] + own["missing"] == len(named)
        assert own["accuracy"] == pytest.approx(metrics.accuracy_score(truth, best), abs=1e-6)
        assert own["macro_f1"] == pytest.approx(metrics.f1_score(truth, best, average="macro"), abs=1e-6)
        assert own["confusion"] == metrics.confusion_matrix(truth, best, labels=values).tolist()
        sure = [(one, found.value) for one, found in pairs if found.value is not None]
        assert own["abstaining"]["named"] == len(sure)
        if sure:
            assert own["abstaining"]["accuracy"] == pytest.approx(np.mean([a == b for a, b in sure]), abs=1e-6)
        assert facts.temperatures[name] == said["calibration"][name]["temperature"]
        right = [-np.log(found.confidence) for one, found in pairs if one == found.best]
        if len(right) == len(pairs):
            assert own["log_loss"] == pytest.approx(np.mean(right), abs=1e-3)


def test_it_learns_what_was_drawn_and_exports_agree(place: Path) -> None:
    names = ("accuracy", "metrics", "export", "speed")
    accuracy, metrics, exported, speed = (report(place, name) for name in names)
    found = {name: metrics["test"][name]["macro_f1"] for name in VALUES}
    assert accuracy == {
        split: {f"{name}_f1": metrics[split][name]["macro_f1"] for name in VALUES} for split in ("val", "test")
    }
    assert np.mean(list(found.values())) > 0.7
    for name in VALUES:
        assert found[name] > metrics["test"][name]["majority"]["macro_f1"]
    for name in ("onnx", "openvino"):
        assert exported[name]["precision"] == "f32" and exported[name]["agreement"] >= 0.995
    assert exported["int8"]["outcome"] in (ACCEPTED, NOT_KNOWN, REFUSED)
    assert exported["openvino_int8"]["precision"] == "int8" and exported["openvino_int8"]["model_mb"] < 6
    assert {"onnx", "openvino", "openvino_int8"} <= set(speed)
    assert all(row["threads"] == 1 and 0 < row["p50_ms"] <= row["p90_ms"] for row in speed.values())


def test_the_same_again_is_the_same_bytes(place: Path, tmp_path: Path) -> None:
    with_params(tmp_path, {"classify": SMALL})
    write_drawn(tmp_path / "data" / "attributes")
    done = classify(tmp_path)
    assert done.returncode == 0, done.stderr
    assert written(tmp_path) == written(place)


def test_where_attributes_are_switched_off_it_says_so_and_does_nothing(tmp_path: Path) -> None:
    with_params(tmp_path, {"classify": SMALL})
    (tmp_path / "data" / "attributes").mkdir(parents=True)
    about = {"attributes": {}, "reason": "Attributes are switched off (attributes.enabled)."}
    (tmp_path / "data" / "attributes" / "attributes.json").write_text(json.dumps(about))
    done = classify(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no attributes are learned: Attributes are switched off" in done.stdout
    assert report(tmp_path, "metrics") == about and report(tmp_path, "accuracy") == {}
    for format_ in ("onnx", "openvino", "openvino_int8"):
        with pytest.raises(SeamlineError, match="there is no model; Attributes are switched off"):
            AttributeClassifier(tmp_path / "models" / "attributes" / format_)


def test_data_that_are_not_the_stages_are_refused(tmp_path: Path) -> None:
    with_params(tmp_path, {"classify": SMALL})
    assert is_one_sentence(classify(tmp_path), "attributes.json: there is no such file")
    folder = write_drawn(tmp_path / "data" / "attributes")
    table = (folder / "garments.csv").read_text()
    (folder / "garments.csv").write_text(table.replace(",dark,", ",black,"))
    assert is_one_sentence(classify(tmp_path), "garments.csv: is not the attributes stage's table", "black")
    (folder / "garments.csv").write_text(table.replace(",val,", ",train,"))
    assert is_one_sentence(classify(tmp_path), "has no garment in val")
    (folder / "garments.csv").write_text(table)
    (folder / "photos" / "7.png").unlink()
    assert is_one_sentence(classify(tmp_path), "there is no photo of '7'")
