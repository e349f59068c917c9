"""A difference of two models is that of their seeds' means, paired over the photos, and said only where it is known."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from scipy import stats

from seamline.base.coco import Record
from seamline.evaluation.average_precision import average_precision, read_ground_truth
from seamline.evaluation.bootstrap import draw_weights
from seamline.evaluation.measure import Measured, groups_beside, measure
from seamline.experiments.family_differences import (
    Figures,
    difference_of,
    differences,
    figures_of,
    speed_ratios,
    summaries,
)
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import load_params
from tests.conftest import PARAMS
from tests.tiny_family import write_split

GROUPS = 40


def figures(model: str, seeds: list[float], draws: Any, groups: int = GROUPS) -> Figures:
    return Figures(model, seeds, np.asarray(draws, np.float64), groups)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("split")
    write_split(root / "split", root / "images")
    # Enough groups for an interval: all three splits' photos as one.
    parts = [json.loads((root / "split" / f"{name}.json").read_text()) for name in ("train", "val", "test")]
    annotations = [record for part in parts for record in part["annotations"]]
    whole = {
        "images": [record for part in parts for record in part["images"]],
        "annotations": [{**record, "id": number} for number, record in enumerate(annotations, 1)],
        "categories": parts[0]["categories"],
    }
    (root / "split" / "test.json").write_text(json.dumps(whole))
    return root / "split" / "test.json"


def found_by(truth: Path, seed: int, missed: float) -> list[Record]:
    """What a model finds that misses a share of the instances."""
    random, index = np.random.default_rng(seed), COCO(truth)
    return [
        {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": one["bbox"],
         "score": float(random.uniform(0.2, 1))}
        for one in index.dataset["annotations"] if random.random() > missed
    ]  # fmt: skip


def measured(truth: Path, seed: int, missed: float) -> Measured:
    limits = load_params(PARAMS)[Evaluate]
    return measure(read_ground_truth(truth), found_by(truth, seed, missed), "box", groups_beside(truth), limits)


def test_the_mean_of_seeds_and_its_draws_are_those_of_pycocotools(truth: Path) -> None:
    own = [measured(truth, seed, 0.4) for seed in (1, 2, 3)]
    ious = load_params(PARAMS)[Evaluate].iou_thresholds
    index = read_ground_truth(truth)
    expected = [
        average_precision(index, found_by(truth, seed, 0.4), "box", ious).summary["mAP50_95"] for seed in (1, 2, 3)
    ]
    found = summaries([{"box": one} for one in own])["test_box_mAP50_95"]
    assert found is not None
    assert found["mean"] == pytest.approx(np.mean([value for value in expected if value is not None]), abs=1e-6)
    known = [value for value in expected if value is not None]
    assert found["range"] == pytest.approx([min(known), max(known)], abs=1e-6)
    low, high = found["interval"]
    assert low < found["mean"] < high
    drawn = figures_of("a", own)
    assert drawn.seeds == expected
    # One draw by hand: the photos as often as they were drawn, each time as a photo of its own.
    limits = load_params(PARAMS)[Evaluate]
    weights = draw_weights(own[0].groups, limits.bootstrap_samples, limits.seed)[7]
    values = []
    for seed in (1, 2, 3):
        coco, results = repeated(index, found_by(truth, seed, 0.4), weights)
        values.append(average_precision(coco, results, "box", ious).summary["mAP50_95"])
    assert drawn.draws[7] == pytest.approx(np.mean([float(value or 0) for value in values]), abs=1e-9)


def repeated(truth: COCO, results: list[Record], weights: Any) -> tuple[COCO, list[Record]]:
    made: dict[str, list[Record]] = {"images": [], "annotations": [], "categories": truth.dataset["categories"]}
    found: list[Record] = []
    for image_id, count in zip(sorted(truth.imgs), weights, strict=True):
        for _ in range(count):
            number = len(made["images"]) + 1
            made["images"].append({**truth.imgs[image_id], "id": number})
            own = [record for record in truth.dataset["annotations"] if record["image_id"] == image_id]
            made["annotations"] += [{**one, "image_id": number} for one in own]
            found += [{**one, "image_id": number} for one in results if one["image_id"] == image_id]
    made["annotations"] = [{**one, "id": number} for number, one in enumerate(made["annotations"], 1)]
    index = COCO()
    index.dataset = copy.deepcopy(made)
    index.createIndex()
    return index, found


def test_a_clear_difference_is_known_and_the_better_one_is_named_first(truth: Path) -> None:
    good = figures_of("good", [measured(truth, seed, 0.05) for seed in (1, 2, 3)])
    poor = figures_of("poor", [measured(truth, seed, 0.8) for seed in (4, 5, 6)])
    found = differences([good, poor], "box")
    assert [(one["first"], one["other"], one["known"]) for one in found] == [("good", "poor", True)]
    assert found[0]["difference"] == pytest.approx(np.mean(poor.seeds) - np.mean(good.seeds), abs=1e-6)
    assert found[0]["says"].startswith("good is better than poor: its mean box mAP50-95 is higher by 0.")
    turned = difference_of(poor, good, "box")
    assert turned["says"] == found[0]["says"]
    assert turned["interval"] == pytest.approx([-value for value in reversed(found[0]["interval"])], abs=2e-6)
    assert [(one["first"], one["other"]) for one in differences([good, poor, good], "box")] == [
        ("good", "poor"), ("good", "good"), ("poor", "good"),
    ]  # fmt: skip


def test_what_is_not_known_is_said_so() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.02, 400)
    first = figures("a", [0.50, 0.51, 0.52], 0.51 + noise)
    near = figures("b", [0.51, 0.52, 0.53], 0.52 + noise + random.normal(0, 0.02, 400))
    found = difference_of(first, near, "mask")
    assert not found["known"]
    assert found["says"].startswith(
        "No difference is known between a and b: it is 0.010 in favour of b, and with other"
    )
    wild = figures("c", [0.40, 0.56, 0.72], 0.56 + noise + random.normal(0, 0.002, 400))
    seeds = difference_of(first, wild, "mask")
    assert not seeds["known"]
    freedom, pooled = 4, np.sqrt((np.var([0.5, 0.51, 0.52], ddof=1) + np.var([0.4, 0.56, 0.72], ddof=1)) / 2)
    assert seeds["limit_of_seeds"] == pytest.approx(stats.t.ppf(0.975, freedom) * pooled * np.sqrt(2 / 3), abs=1e-6)
    assert "other seeds and photos together may explain it (seeds alone up to 0.2" in seeds["says"]
    few = difference_of(first._replace(groups=14), near, "mask")
    assert few["interval"] is None
    assert few["says"] == "Which of a and b is better is not known: 14 groups of test photos, and an interval needs 15."
    assert "are equal" in difference_of(first, first._replace(model="z"), "mask")["says"]
    still, same = figures("a", [0.5, 0.5, 0.5], [0.5] * 400), figures("s", [0.6, 0.6, 0.6], [0.6] * 400)
    assert difference_of(still, same, "mask")["says"].endswith("every drawn test set gives the same difference.")


def test_models_that_are_equal_seem_to_differ_in_at_most_one_of_twenty_comparisons() -> None:
    random, alarms, tries = np.random.default_rng(1), 0, 1500
    for _ in range(tries):
        photos, seeds = random.uniform(0, 0.03), random.uniform(0, 0.03)
        shift = random.normal(0, photos)  # what these photos give the second model more
        ours, theirs = random.normal(0.5, seeds, 3), random.normal(0.5, seeds, 3) + shift
        draws = random.normal(theirs.mean() - ours.mean(), photos, 200)
        found = difference_of(figures("a", list(ours), np.zeros(200)), figures("b", list(theirs), draws), "mask")
        alarms += found["known"]
    assert alarms <= stats.binom.ppf(0.999, tries, 0.05)


def test_speed_is_compared_round_by_round() -> None:
    ours = [100.0, 50, 100, 80, 90, 100, 70, 60]  # all slow down alike
    [found] = speed_ratios([("a", ours), ("b", [2 * value for value in ours])])
    assert (found["ratio"], found["interval"]) == (2, [2, 2])
    assert found["says"] == "b is 2.00 to 2.00 times as fast as a."
    [turned] = speed_ratios([("a", ours), ("b", [value / 4 for value in ours])])
    assert turned["says"] == "a is 4.00 to 4.00 times as fast as b."
    [same] = speed_ratios([("a", ours), ("b", list(reversed(ours)))])
    assert same["says"].startswith("No difference in speed is known between a and b: ")
    [few] = speed_ratios([("a", ours[:3]), ("b", ours[:3])])
    assert few["interval"] is None
    assert "too few rounds" in few["says"]
