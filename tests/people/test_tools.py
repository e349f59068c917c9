"""People first in `seamline predict` and `seamline serve`: the same, byte for byte, and what each writes of people."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from seamline.inference.detector import Detector
from seamline.params.people import People
from seamline.people.detector import open_people
from seamline.people.options import PEOPLE_LOOKED_AT, PERSON_CONFIDENCE
from tests.service.served import Served, photo_request, request, served
from tests.untrained import Untrained

PEOPLE = ("--person-class", "trousers", "--person-confidence", "0.2", "--most-people", "3")


@pytest.fixture(scope="module")
def photos(untrained: Untrained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, path in enumerate(untrained.images()[:4]):
        (folder / f"{number}.jpg").write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def model(untrained: Untrained) -> Path:
    return untrained.models()["openvino"]


@pytest.fixture(scope="module")
def predictions(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predictions") / "out"
    done = predict(model, photos, "--out", out, "--people", model, *PEOPLE, "--crops")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def service(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(model, tmp_path_factory.mktemp("service"), "--people", str(model), *PEOPLE) as service:
        yield service


def predict(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seamline", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_predict_writes_what_the_detector_finds_and_whose_it_is(model: Path, photos: Path, predictions: Path) -> None:
    images = json.loads((predictions / "images.json").read_text())["images"]
    results = json.loads((predictions / "results.json").read_text())
    rows = list(csv.DictReader((predictions / "predictions.csv").read_text().splitlines()))
    settings = People(person_class="trousers", confidence=0.2, most=3)
    with open_people(Detector(model), model, settings) as detector:
        for image in images:
            found = detector.detect(photos / Path(image["file_name"]).name)
            assert found.persons is not None
            owners = [found.persons.owner(index) for index in range(len(found))]
            assert [one["person"] for one in results if one["image_id"] == image["id"]] == owners
            assert [row["person"] for row in rows if row["image_id"] == str(image["id"])] == [
                "" if owner is None else str(owner) for owner in owners
            ]
            assert len(image["persons"]) == len(found.persons.boxes)
            for person, (x1, y1, x2, y2) in zip(image["persons"], found.persons.boxes.tolist(), strict=True):
                assert person["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=0.001)
    assert any(row["person"] for row in rows)
    COCO(str(predictions / "images.json")).loadRes(str(predictions / "results.json"))


def test_the_services_answer_is_what_predict_writes_byte_for_byte(
    service: Served, photos: Path, predictions: Path
) -> None:
    images = json.loads((predictions / "images.json").read_text())["images"]
    lines = [line.rstrip(",") for line in (predictions / "results.json").read_text().splitlines()[1:-1]]
    written = (predictions / "images.json").read_text()
    for image in images:
        reply = service.ask(photo_request((photos / Path(image["file_name"]).name).read_bytes()))
        assert reply.status == 200
        own = [line for line in lines if line.startswith(f'{{"image_id": {image["id"]},')]
        expected = ", ".join(line.replace(f'"image_id": {image["id"]},', '"image_id": 1,', 1) for line in own)
        persons = json.dumps(image["persons"])
        assert f'"persons": {persons}' in written
        assert reply.body.decode().endswith(f'"persons": {persons}, "instances": [{expected}]}}]}}')


def test_the_service_says_who_looks_for_people(service: Served) -> None:
    about = json.loads(service.ask(request()).body)
    people = about["people"]
    assert (people["person_class"], people["confidence"], people["most"]) == ("trousers", 0.2, 3)
    assert (people["name"], people["revision"]) == (about["model"]["name"], about["model"]["revision"])


def test_what_cannot_be_is_a_sentence(model: Path, photos: Path, tmp_path: Path) -> None:
    missing = tmp_path / "there_is_none.onnx"
    for arguments, words in (
        (
            ("--people", model),
            "the model has no class 'person'; it has short sleeve top, trousers; people.person_class",
        ),
        (("--people", missing), f"{missing}"),
        (("--most-people", 3), "--most-people: needs --people"),
        (("--people", model, *PEOPLE, "--batch", 2), "--batch: cannot be combined with --people"),
    ):
        done = predict(model, photos, "--out", tmp_path / "out", *arguments)
        assert done.returncode != 0
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_the_defaults_that_help_names_are_those_of_params() -> None:
    assert (People().confidence, People().most) == (PERSON_CONFIDENCE, PEOPLE_LOOKED_AT)
