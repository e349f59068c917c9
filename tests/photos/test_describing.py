"""Attributes and vectors in `seamline predict`: those of the models, for each instance, whatever cuts the run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from seamline.base.errors import SeamlineError
from seamline.images.reading import read_image
from seamline.inference.classifier import AttributeClassifier
from seamline.inference.detector import Detector
from seamline.inference.embedder import Embedder
from seamline.models.detections import Attribute
from seamline.photos import predicting
from seamline.photos.drawing import record_to_note
from seamline.verbs.predict import main
from tests.describers import SURE, make_classifier, make_embedder
from tests.untrained import Untrained

CONFIDENCE = 0.1
FILES = ("results.json", "images.json", "predictions.csv", "embeddings.npy", "errors.csv")


class Models(NamedTuple):
    attributes: Path
    embed: Path

    def options(self) -> list[str]:
        return ["--attributes", str(self.attributes), "--embed", str(self.embed)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    return Models(make_classifier(folder / "attributes", 1.0), make_embedder(folder / "embedder"))


@pytest.fixture(scope="module")
def photos(untrained: Untrained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of several brightnesses, so that a model is sure of some alone; one is broken."""
    folder = tmp_path_factory.mktemp("photos")
    for number, path in enumerate(untrained.images()[:4]):
        cv2.imwrite(str(folder / f"{number}.png"), (read_image(path) * (0.3 + 0.2 * number)).astype(np.uint8))
    (folder / "broken.jpg").write_bytes(b"not a photo")
    return folder


def predict(model: Path, photos: Path, out: Path, *options: str) -> None:
    """Exits with 1, since one of the photos is broken."""
    with pytest.raises(SystemExit) as ended:
        main([str(model), str(photos), "--out", str(out), "--confidence", str(CONFIDENCE), *options])
    assert ended.value.code == 1


@pytest.fixture(scope="module")
def out(untrained: Untrained, models: Models, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    predict(untrained.models()["openvino"], photos, out, *models.options(), "--crops")
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_each_instance_has_what_the_models_say_of_it(
    untrained: Untrained, models: Models, photos: Path, out: Path
) -> None:
    records = json.loads((out / "results.json").read_text())
    rows, vectors = rows_of(out / "predictions.csv"), np.load(out / "embeddings.npy", allow_pickle=False)
    expected: list[dict[str, Any]] = []
    near = []
    with (
        Detector(untrained.models()["openvino"], CONFIDENCE) as detector,
        AttributeClassifier(models.attributes) as classifier,
        Embedder(models.embed) as embedder,
    ):
        for path in sorted(photos.glob("*.png")):
            image = read_image(path)
            found = detector.detect(image)
            expected += classifier.classify(image, found, detector.names)
            near.append(embedder.embed(image, found))
    assert len(records) == len(rows) == len(expected) > 10
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, np.concatenate(near))
    for record, row, own in zip(records, rows, expected, strict=True):
        assert set(record["attributes"]) == {"colour", "tone"}
        for name, attribute in own.items():
            said = record["attributes"][name]
            assert said == {"value": attribute.value, "confidence": round(attribute.confidence, 6)}
            assert (row[name], row[f"{name}_confidence"]) == (attribute.value or "", str(said["confidence"]))
    tones = [own["tone"] for own in expected]
    assert any(tone.value is None and tone.confidence < SURE for tone in tones)
    assert any(tone.value == "dark" for tone in tones)


def test_a_run_that_was_cut_resumes_with_the_same_bytes(
    untrained: Untrained, models: Models, photos: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = predicting.look_again
    seen: list[str] = []

    def cut(*arguments: Any, **options: Any) -> Any:
        seen.append(options["photo"].name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return looked(*arguments, **options)

    model, words = untrained.models()["openvino"], ["--crops", "--threads", "1", *models.options()]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(predicting, "look_again", cut)
        main([str(model), str(photos), "--out", str(tmp_path), "--confidence", str(CONFIDENCE), *words])
    assert (tmp_path / "unfinished" / "done.jsonl").read_text().count('"vector"') > 0
    other = ["--attributes", str(models.attributes)]
    with pytest.raises(SeamlineError, match="is an unfinished run with another --embed; run its command again"):
        main([str(model), str(photos), "--out", str(tmp_path), "--confidence", str(CONFIDENCE), "--crops", *other])
    predict(model, photos, tmp_path, *words)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name


def test_without_the_options_nothing_of_them_is_written(untrained: Untrained, photos: Path, out: Path) -> None:
    model = untrained.models()["openvino"]
    before = json.loads((out / "results.json").read_text())
    again = out.parent / "again"
    again.mkdir()
    (again / "embeddings.npy").write_bytes((out / "embeddings.npy").read_bytes())  # of an earlier run
    predict(model, photos, again)
    assert not (again / "embeddings.npy").exists()
    assert "tone" not in rows_of(again / "predictions.csv")[0]
    for record in before:
        del record["attributes"]
    assert json.loads((again / "results.json").read_text()) == before


def test_classes_that_are_not_asked_for_are_not_described(
    untrained: Untrained, models: Models, photos: Path, out: Path, tmp_path: Path
) -> None:
    predict(untrained.models()["openvino"], photos, tmp_path, *models.options(), "--classes", "trousers")
    every = json.loads((out / "results.json").read_text())
    chosen = [index for index, record in enumerate(every) if record["category_id"] == 2]
    assert json.loads((tmp_path / "results.json").read_text()) == [every[index] for index in chosen]
    assert np.array_equal(np.load(tmp_path / "embeddings.npy"), np.load(out / "embeddings.npy")[chosen])
    assert 0 < len(chosen) < len(every)


def test_garments_of_classes_that_the_model_does_not_know_have_blank_cells(
    untrained: Untrained, photos: Path, out: Path, tmp_path: Path
) -> None:
    model = untrained.models()["openvino"]
    attributes = make_classifier(tmp_path / "attributes", 1.0, ["trousers"])
    predict(model, photos, tmp_path / "out", "--attributes", str(attributes))
    every = json.loads((out / "results.json").read_text())
    records, rows = (
        json.loads((tmp_path / "out" / "results.json").read_text()),
        rows_of(tmp_path / "out/predictions.csv"),
    )
    assert [one["attributes"] for one in records] == [
        one["attributes"] if one["category_id"] == 2 else {} for one in every
    ]
    assert {(row["colour"], row["tone_confidence"]) for row in rows if row["class"] != "trousers"} == {("", "")}
    assert all(row["colour"] for row in rows if row["class"] == "trousers")
    with pytest.raises(SeamlineError, match="names attributes of hat alone, and the detector finds short sleeve top"):
        hats = make_classifier(tmp_path / "hats", classes=["hat"])
        main([str(model), str(photos), "--out", str(tmp_path / "other"), "--attributes", str(hats)])
    assert not (tmp_path / "other").exists()


def test_a_name_that_a_spreadsheet_would_take_for_a_formula_is_text(tmp_path: Path) -> None:
    record = {"score": 0.5, "attributes": {"neck": {"value": "v", "confidence": 0.9}, "hem": {"value": None}}}
    assert record_to_note(record) == " 0.50 (v)"
    assert record_to_note({"score": 0.5, "attributes": {"hem": {"value": None}}}) == " 0.50"


def test_a_detector_is_not_a_model_of_attributes(untrained: Untrained, photos: Path, tmp_path: Path) -> None:
    model = untrained.models()["openvino"]
    with pytest.raises(SeamlineError, match="is not a model of attributes"):
        main([str(model), str(photos), "--out", str(tmp_path), "--attributes", str(model)])
    with pytest.raises(SeamlineError, match="is a detector, which finds garments; an embedder is asked for"):
        main([str(model), str(photos), "--out", str(tmp_path), "--embed", str(model)])
    assert Attribute(None, 0.5, "v").value is None
