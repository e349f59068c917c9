"""Whether people first helps: figures beside pycocotools', and what is said of them."""

from __future__ import annotations

import json

import pytest

from seamline.evaluation.average_precision import average_precision, read_ground_truth
from seamline.inference.detector import Detector
from seamline.inference.predictions import predict_split
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import load_params
from seamline.params.people import People
from seamline.people.detector import open_people
from seamline.people.measuring import OFF, measure_people, recommended, sentence
from tests.conftest import PARAMS
from tests.untrained import Untrained


@pytest.fixture
def params() -> Evaluate:
    return load_params(PARAMS)[Evaluate]


def test_both_ways_are_measured_as_every_model_is(untrained: Untrained, params: Evaluate) -> None:
    """Of the model alone as pycocotools has it; with people first it looks at more, and takes longer."""
    model, split = untrained.models()["onnx"], untrained.split / "test.json"
    people = People(model=str(model), person_class="trousers", confidence=0.2)
    with Detector(model, 0.05, 0.7, 100) as garments:
        found = measure_people(garments, people, split, untrained.images_folder, params)
        truth = read_ground_truth(split)
        records = predict_split(garments, split, untrained.images_folder, "test")
        alone = average_precision(truth, records, "mask", params.iou_thresholds).summary
        assert found["without"] == {name: alone[name] for name in found["without"]}
        detector = open_people(garments, model, people)
        counts = [
            len(one.persons.boxes)
            for one in (
                detector.detect(untrained.images_folder / image["file_name"]) for image in truth.dataset["images"]
            )
            if one.persons is not None
        ]
    assert (found["images"], found["people"]) == (len(counts), sum(counts))
    assert {row["people"]: row["images"] for row in found["by_people"]} == {
        "0": counts.count(0),
        "1": counts.count(1),
        "2": counts.count(2),
        "3 or more": sum(count > 2 for count in counts),
    }
    assert sum(row["instances"] for row in found["by_people"]) == len(truth.anns)
    gained = found["with"]["mAP50_95"] - found["without"]["mAP50_95"]
    assert found["difference"] == pytest.approx(gained, abs=1e-6)
    assert found["times_as_long"] > 1.2
    assert found["recommended"] is None  # six photos are too few to know
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_row_of_photos_is_pycocotools_over_those_photos(untrained: Untrained, params: Evaluate) -> None:
    model, split = untrained.models()["onnx"], untrained.split / "test.json"
    people = People(model=str(model), person_class="trousers", confidence=0.99)  # nobody is found
    with Detector(model, 0.05, 0.7, 100) as garments:
        found = measure_people(garments, people, split, untrained.images_folder, params)
    [nobody, *others] = found["by_people"]
    assert nobody["without"] == pytest.approx(found["without"]["mAP50_95"], abs=1e-6)
    assert nobody["with"] == nobody["without"]
    assert found["difference"] == 0
    assert {(row["images"], row["with"], row["without"]) for row in others} == {(0, None, None)}


def test_without_a_model_nothing_is_measured(untrained: Untrained, params: Evaluate) -> None:
    with Detector(untrained.models()["onnx"]) as garments:
        split = untrained.split / "test.json"
        assert measure_people(garments, People(), split, untrained.images_folder, params) == OFF


@pytest.mark.parametrize(
    ("value", "span", "expected", "words"),
    [
        (0.1, [0.02, 0.18], True, "It helps here, and is recommended where"),
        (-0.1, [-0.18, -0.02], False, "It does not help here, and is not recommended."),
        (-0.1, [-0.2, 0.0], False, "It does not help here, and is not recommended."),
        (0.1, [-0.02, 0.22], None, "That is not known to be a gain, so it is not recommended."),
        (0.1, None, None, "so it is not recommended."),
        (None, None, None, "shows no instance"),
    ],
)
def test_it_is_recommended_only_where_it_is_known_to_help(
    value: float | None, span: list[float] | None, expected: bool | None, words: str
) -> None:
    assert recommended(value, span) is expected
    said = sentence("mask", value, span, 2.54)
    assert words in said
    assert said.endswith("A photo takes 2.5 times as long.")
