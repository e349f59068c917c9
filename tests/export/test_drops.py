"""What INT8 costs: whose photos count, and how often the bounds are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.gates import BEYOND, HARMS, draw_population, gate_intervals, matches_of, true_drop
from seamline.base.errors import SeamlineError
from seamline.evaluation.average_precision import read_ground_truth
from seamline.export.drops import Drop, drop_interval, gate_to_record, measure_drop, outcome_of, read_gate
from seamline.params.evaluate import IouThresholds

IOUS = IouThresholds(0.5, 0.95, 0.05)


@pytest.mark.parametrize("harm", ["noise on everything", "worse on some photos"])
def test_a_model_that_costs_just_too_much_is_rarely_accepted(harm: str) -> None:
    """The true drop of a population is known; splits of 64 photos of it are judged with a max_drop just below it."""
    random = np.random.default_rng(3)
    population = draw_population(random, HARMS[harm])
    drop = true_drop(population)
    found = [Drop(0.0, one) for one in gate_intervals(population, 64, 80, random)]
    outcomes = [outcome_of(one, drop / BEYOND) for one in found]
    # 80 splits of a gate that is wrong in 5 of 100 are wrong 8 times at most in 98 of 100 cases.
    assert outcomes.count("accepted") <= 8
    assert outcomes.count("refused") <= 8
    assert [outcome_of(one, drop + 0.05) for one in found].count("accepted") >= 72  # and it does decide
    assert [outcome_of(one, drop - 0.05) for one in found].count("refused") >= 72


def test_few_photos_and_equal_models_say_nothing() -> None:
    population = draw_population(np.random.default_rng(0), HARMS["noise on everything"], 200)
    for count, known in ((49, False), (50, True)):
        first, other = (matches_of(population, model, np.arange(count)) for model in (0, 1))
        assert (drop_interval(first, other, np.arange(count)) is not None) == known
    assert drop_interval(first, first, np.arange(count)) is None
    pairs = np.arange(count) // 2  # 25 groups
    assert drop_interval(first, other, pairs) is None


def test_an_end_of_the_interval_hardly_depends_on_the_draws() -> None:
    """The Monte Carlo error of either end is below a tenth of the width."""
    population = draw_population(np.random.default_rng(0), HARMS["worse on some photos"], 200)
    first, other = (matches_of(population, model, np.arange(64)) for model in (0, 1))
    ends = np.array([drop_interval(first, other, np.arange(64), seed) for seed in range(12)])
    assert (ends.std(axis=0, ddof=1) < 0.1 * np.diff(ends, axis=1).mean()).all()


def write_split(folder: Path, name: str, ids: list[int], prefix: str = "") -> None:
    images = [{"id": one, "file_name": f"{prefix or one}{one}.jpg", "width": 50, "height": 50} for one in ids]
    boxes = [
        {"id": one, "image_id": one, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0} for one in ids
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "top"}]}
    (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """val has a photo of train's group (3) and one of train itself (1)."""
    write_split(tmp_path, "train", [1, 2])
    write_split(tmp_path, "val", [1, 3, 4, 5])
    write_split(tmp_path, "test", [6, 7])
    (tmp_path / "groups.json").write_text(json.dumps({"1": 0, "2": 1, "3": 1, "4": 2, "5": 2, "6": 3, "7": 4}))
    return tmp_path


def test_photos_that_the_model_was_trained_on_never_count(split: Path) -> None:
    gate = read_gate(split, "val")
    assert sorted(gate.truth.imgs) == sorted(one["image_id"] for one in gate.truth.anns.values()) == [4, 5]
    assert gate.groups.tolist() == [2, 2]
    assert gate_to_record(gate) == {"on": "val", "images": 2, "groups": 1, "left_out": 2}
    assert (gate.test, gate.photos) == (None, "val")
    wide = read_gate(split, "val+test")
    assert sorted(wide.truth.imgs) == [4, 5, 6, 7]
    assert wide.groups.tolist() == [2, 2, 3, 4]
    assert (wide.test, wide.photos) == (split / "test.json", "val and test")


def test_only_the_gates_photos_are_measured(split: Path) -> None:
    gate = read_gate(split, "val+test")
    boxes = [
        {"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 0.9}
        for name in ("val", "test")
        for one in read_ground_truth(split / f"{name}.json").anns.values()
    ]
    without = [one for one in boxes if one["image_id"] != 7]
    assert measure_drop(gate, boxes, boxes, "box", IOUS) == Drop(0.0, None)
    assert measure_drop(gate, boxes, [one for one in boxes if one["image_id"] > 3], "box", IOUS).value == 0
    lost = measure_drop(gate, boxes, without, "box", IOUS)
    assert lost.value == pytest.approx(1 - 76 / 101)  # three of four reach 76 of COCO's 101 recalls
    assert lost.interval is None


def test_a_gate_without_photos_knows_nothing(split: Path) -> None:
    write_split(split, "train", [1, 2, 4])
    gate = read_gate(split, "val")
    assert gate_to_record(gate) == {"on": "val", "images": 0, "groups": 0, "left_out": 4}
    assert measure_drop(gate, [], [], "box", IOUS) == Drop(None, None)


def test_a_photo_in_no_group_is_named(split: Path) -> None:
    write_split(split, "val", [4, 9])
    with pytest.raises(SeamlineError, match=r"groups\.json: lacks image 9; the split stage makes it"):
        read_gate(split, "val")
