"""What INT8 costs: whose photos count, how often the bounds are wrong, and those of a share of lost photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from scipy import stats

from bench.gates import BEYOND, HARMS, draw_population, gate_intervals, matches_of, true_drop
from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.evaluation.average_precision import read_ground_truth
from seamline.evaluation.bootstrap import draw_weights
from seamline.export.drops import (
    DRAWS,
    SEED,
    Drop,
    Gate,
    cost_to_text,
    drop_interval,
    gate_to_record,
    measure_drop,
    outcome_of,
    read_gate,
)
from seamline.params.evaluate import IouThresholds
from tests.evaluation.test_average_precision import COCO_IOUS

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
    assert measure_drop(gate, boxes, boxes, "box", IOUS)[:2] == (0.0, None)
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


def coco_of(numbers: list[int], names: dict[int, str] | None = None) -> dict[str, Any]:
    """A COCO file with a box on each photo."""
    images = [
        {"id": number, "file_name": (names or {}).get(number, f"{number}.jpg"), "width": 40, "height": 40}
        for number in numbers
    ]
    boxes = [
        {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
        for number in numbers
    ]
    return {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "top"}]}


def folder_of_splits(folder: Path) -> Path:
    """Of val 5 is train's photo 2 under another id, 6 is in the group of train's 1; of test 8 is train's 3."""
    splits = {
        "train": coco_of([1, 2, 3]),
        "val": coco_of([6, 4, 5, 7], {5: "2.jpg"}),
        "test": coco_of([8, 3, 9]),
    }
    for name, coco in splits.items():
        (folder / f"{name}.json").write_text(json.dumps(coco))
    groups = {"1": 0, "2": 1, "3": 2, "4": 3, "5": 4, "6": 0, "7": 3, "8": 2, "9": 5}
    (folder / "groups.json").write_text(json.dumps(groups))
    return folder


def test_photos_of_train_under_other_ids_and_names_do_not_count(tmp_path: Path) -> None:
    folder = folder_of_splits(tmp_path)
    gate = read_gate(folder, "val")
    assert (sorted(gate.truth.imgs), gate.groups.tolist(), gate.test, gate.left_out) == ([4, 7], [3, 3], None, 2)
    assert sorted(one["image_id"] for one in gate.truth.anns.values()) == [4, 7]
    assert gate_to_record(gate) == {"on": "val", "images": 2, "groups": 1, "left_out": 2}
    assert gate.photos == "val"
    wide = read_gate(folder, "val+test")
    assert (sorted(wide.truth.imgs), wide.groups.tolist(), wide.left_out) == ([4, 7, 9], [3, 3, 5], 4)
    assert (wide.test, wide.photos) == (folder / "test.json", "val and test")
    # Train's 3, under its own id and name, is known whatever its group.
    groups = json.loads((folder / "groups.json").read_text()) | {"3": 9, "8": 8}
    del groups["1"]  # an image of train that is in no group ties nothing
    (folder / "groups.json").write_text(json.dumps(groups))
    assert sorted(read_gate(folder, "val+test").truth.imgs) == [4, 6, 7, 8, 9]


def test_an_id_alone_that_train_has_is_enough(tmp_path: Path) -> None:
    folder = folder_of_splits(tmp_path)
    (folder / "test.json").write_text(json.dumps(coco_of([3, 9], {3: "other.jpg"})))
    (folder / "train.json").write_text(json.dumps(coco_of([1, 2, 3])))
    assert sorted(read_gate(folder, "val+test").truth.imgs) == [4, 7, 9]


def test_an_image_without_a_group_is_named(tmp_path: Path) -> None:
    folder = folder_of_splits(tmp_path)
    (folder / "groups.json").write_text(json.dumps({"4": 0, "6": 1, "7": 2}))
    with pytest.raises(SeamlineError, match=r"groups\.json: lacks image 5; the split stage makes it"):
        read_gate(folder, "val")


def gate_of(folder: Path, numbers: list[int], groups: list[int], shown: set[int] | None = None) -> Gate:
    coco = coco_of(numbers)
    if shown is not None:
        coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] in shown]
    path = folder / "val.json"
    path.write_text(json.dumps(coco))
    return Gate("val", read_ground_truth(path), np.array(groups), None, 0)


def found_on(numbers: list[int]) -> list[Record]:
    return [{"image_id": number, "category_id": 1, "bbox": [5, 5, 20, 20], "score": 0.9} for number in numbers]


def lost(folder: Path, photos: int, lost_photos: int, groups: list[int] | None = None) -> Drop:
    """What a model costs that finds everything but on the last photos, beside one that finds everything."""
    numbers = list(range(1, photos + 1))
    gate = gate_of(folder, numbers, groups or list(range(photos)))
    elsewhere = found_on([1000])  # predictions on photos that do not count
    reference, found = found_on(numbers) + elsewhere, found_on(numbers[: photos - lost_photos]) + elsewhere
    return measure_drop(gate, reference, found, "box", COCO_IOUS)


def reached(found: int, photos: int) -> float:
    """Average precision where everything found is right: how many of 101 recalls are reached."""
    return float(np.sum(np.linspace(0, 1, 101) <= found / photos)) / 101


@pytest.mark.parametrize(("photos", "lost_photos"), [(100, 10), (50, 5), (60, 40)])
def test_the_bounds_are_those_of_a_share_of_photos(tmp_path: Path, photos: int, lost_photos: int) -> None:
    """Deviation and skewness of what is lost or not (a Bernoulli variable), as Hall's expansion takes them."""
    drop = lost(tmp_path, photos, lost_photos)
    share = lost_photos / photos
    assert drop.value == pytest.approx(1 - reached(photos - lost_photos, photos))
    assert drop.interval is not None and drop.value is not None
    upper_t, lower_t = stats.t.ppf(0.99, photos - 1), stats.t.ppf(0.95, photos - 1)
    # Both bounds are linear in the deviation and in the deviation times the skewness: these are what they say.
    deviation, skewed = np.linalg.solve(
        [[-lower_t, 1 + 2 * lower_t**2], [upper_t, 1 + 2 * upper_t**2]], np.array(drop.interval) - drop.value
    )
    weights = draw_weights(np.arange(photos), DRAWS, SEED)
    draws = [1 - reached(count, photos) for count in weights[:, : photos - lost_photos].sum(axis=1).tolist()]
    assert deviation == pytest.approx(np.std(draws) * np.sqrt(photos / (photos - 1)), rel=1e-3)
    blur = (1 + photos / DRAWS) ** 1.5  # so much of the influences' variance is that of the draws
    skewness = (1 - 2 * share) / np.sqrt(share * (1 - share)) / blur
    assert skewed / deviation * 6 * np.sqrt(photos) == pytest.approx(skewness, rel=0.1, abs=0.1)


def test_a_model_that_finds_more_has_a_drop_below_zero(tmp_path: Path) -> None:
    numbers = list(range(1, 61))
    gate = gate_of(tmp_path, numbers, list(range(60)))
    better = measure_drop(gate, found_on(numbers[:54]), found_on(numbers), "box", COCO_IOUS)
    worse = measure_drop(gate, found_on(numbers), found_on(numbers[:54]), "box", COCO_IOUS)
    assert better.value == -(worse.value or 0) < 0
    assert better.interval is not None and better.interval[0] < better.value < 0


def test_photos_of_one_group_are_drawn_together(tmp_path: Path) -> None:
    """Twice the same photos say no more than once."""
    once = lost(tmp_path, 60, 6)
    twice = lost(tmp_path, 120, 12, [number // 2 for number in range(120)])
    assert once.interval is not None and twice.interval is not None
    assert twice.interval == pytest.approx(once.interval, abs=0.01)


def test_too_few_groups_and_equal_models_say_nothing(tmp_path: Path) -> None:
    assert lost(tmp_path, 50, 5).interval is not None
    assert lost(tmp_path, 49, 5).interval is None
    assert lost(tmp_path, 98, 10, [number // 2 for number in range(98)]).interval is None
    assert lost(tmp_path, 60, 0) == Drop(0.0, None, 60)
    numbers = list(range(1, 71))
    gate = gate_of(tmp_path, numbers, list(range(70)), shown=set(numbers[:49]))  # the others show nothing
    assert measure_drop(gate, found_on(numbers[:49]), found_on(numbers[:45]), "box", COCO_IOUS).interval is None
    gate = gate_of(tmp_path, numbers, list(range(70)), shown=set())
    assert measure_drop(gate, found_on(numbers), found_on(numbers), "box", COCO_IOUS) == Drop(None, None)
    none = Gate("val", COCO(), np.zeros(0, np.int64), None, 3)
    assert measure_drop(none, found_on(numbers), [], "box", COCO_IOUS) == Drop(None, None)


def test_a_drop_in_words() -> None:
    assert cost_to_text(None, None) == "costs an unknown amount"
    assert cost_to_text(0.00044, None) == "costs 0.0004"
    assert cost_to_text(0.00044, [-0.008, 0.01056]) == "costs 0.0004 (-0.0080 to 0.0106)"
    assert cost_to_text(-0.00044, [-0.008, 0.01056]) == "gains 0.0004 (-0.0106 to 0.0080)"
    assert cost_to_text(-0.00004, [-0.008, 0.0]) == "costs nothing measurable (-0.0080 to 0.0000)"
    # Rounded once more from the five decimals of the report, it is the same text.
    for value in (-0.000152, -0.000148, 0.00025499, 0.00004999):
        assert cost_to_text(value, None) == cost_to_text(round(value, 5), None)
