from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from seamline.base.coco import Record
from seamline.evaluation.average_precision import average_precision, read_ground_truth
from seamline.evaluation.mistakes import (
    IN_CROWD,
    MISSED,
    RIGHT,
    Judged,
    background_label,
    confusion_matrix,
    confusion_to_rows,
    false_verdicts,
    judge,
    judged_to_record,
    mistakes_by_class,
    panoptic_quality,
    random_images,
    worst_images,
)
from seamline.masks.rle import mask_to_rle
from tests.conftest import write_dataset
from tests.evaluation.test_average_precision import COCO_IOUS, perfect_results

# In every image a top lies at rows 5 to 25 and trousers at rows 30 to 50, both at columns 8 to 28.
TOP, TROUSERS = 1, 2


def band(top: int, bottom: int, left: int = 8, right: int = 28) -> Any:
    mask = np.zeros((60, 40), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask_to_rle(mask)


def prediction(image_id: int, category_id: int, score: float, segmentation: Any) -> Record:
    return {"image_id": image_id, "category_id": category_id, "score": score, "segmentation": segmentation}


def judged(truth: COCO, results: list[Record], confidence: float = 0.5) -> list[Judged]:
    matches = average_precision(truth, results, "mask", COCO_IOUS).matches
    return judge(truth, results, matches, confidence, "mask")


@pytest.fixture
def truth(tmp_path: Path) -> COCO:
    return read_ground_truth(write_dataset(tmp_path / "in", count=8) / "instances.json")


@pytest.mark.parametrize(
    ("verdict", "segmentation", "category_id"),
    [
        (RIGHT, band(5, 25), TOP),
        ("wrong class", band(5, 24), TROUSERS),
        ("poor mask", band(5, 12), TOP),
        ("wrong class and poor mask", band(5, 12), TROUSERS),
        ("background", band(26, 29), TOP),
        ("background", band(0, 60, 34, 40), TROUSERS),
    ],
)
def test_a_prediction_is_judged_by_what_it_overlaps(
    truth: COCO, verdict: str, segmentation: Any, category_id: int
) -> None:
    found = judged(truth, [prediction(3, category_id, 0.9, segmentation)])
    assert [image.verdicts for image in found] == [[], [], [verdict], [], [], [], [], []]
    assert found[2].missed == ([1] if verdict == RIGHT else [0, 1])


def test_the_better_of_two_on_one_garment_is_right_and_the_other_a_duplicate(truth: COCO) -> None:
    results = [prediction(1, TOP, 0.6, band(5, 25)), prediction(1, TOP, 0.9, band(5, 23))]
    image = judged(truth, results)[0]
    assert [record["score"] for record in image.predictions] == [0.9, 0.6]
    assert image.verdicts == [RIGHT, "duplicate"]
    # Below the threshold it is neither seen nor in the way.
    assert judged(truth, results, 0.7)[0].verdicts == [RIGHT]


def test_in_a_crowd_region_nothing_is_wrong_or_missed(truth: COCO) -> None:
    truth.dataset["annotations"][0]["iscrowd"] = 1
    results = [prediction(1, TOP, 0.9, band(5, 15)), prediction(1, TOP, 0.8, band(15, 25))]
    image = judged(truth, results)[0]
    assert image.verdicts == [IN_CROWD, IN_CROWD]
    assert image.missed == [0]  # the trousers
    assert len(image.instances) == 1
    names, matrix = confusion_matrix([image], {TOP: "top", TROUSERS: "trousers"})
    assert matrix.sum() == 1
    assert confusion_to_rows(names, matrix) == [("trousers", "(background)")]


def test_each_class_counts_what_it_names_and_what_it_misses(truth: COCO) -> None:
    results = perfect_results(truth)
    results[0]["category_id"] = TROUSERS  # the top of the first image
    del results[3]  # the trousers of the second
    counts = mistakes_by_class(judged(truth, results), {TOP: "top", TROUSERS: "trousers"}, "mask")
    nothing_wrong = dict.fromkeys(false_verdicts("mask"), 0)
    assert counts["top"] == {RIGHT: 7, **nothing_wrong, MISSED: 1}
    assert counts["trousers"] == {RIGHT: 7, **nothing_wrong, "wrong class": 1, MISSED: 1}


def test_confusion_counts_every_instance_once(truth: COCO) -> None:
    results = perfect_results(truth)
    results[0]["category_id"] = TROUSERS
    del results[3]
    results.append({**results[5], "segmentation": mask_to_rle(np.eye(60, 40, dtype=np.uint8)), "score": 0.9})
    results.append({**results[5], "score": 0.1})  # below the threshold
    names, matrix = confusion_matrix(judged(truth, results), {TOP: "top", TROUSERS: "trousers", 3: "never shown"})
    assert names == ["top", "trousers", "never shown", "(background)"]
    assert matrix.tolist() == [[7, 1, 0, 0], [0, 7, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    rows = confusion_to_rows(names, matrix)
    assert len(rows) == matrix.sum()
    assert rows.count(("top", "trousers")) == 1


def test_no_class_can_be_taken_for_the_background() -> None:
    assert background_label(["top"]) == "(background)"
    assert background_label(["(background)", "((background))"]) == "(((background)))"


def test_confusion_gives_a_right_prediction_its_own_garment(truth: COCO) -> None:
    """A jacket over a top, one right "top" that overlaps the jacket even more: the jacket is missed, not the top."""
    truth.dataset["annotations"][1] |= {"segmentation": band(5, 24), "bbox": [8, 5, 20, 19], "area": 380}
    image = judged(truth, [prediction(1, TOP, 0.9, band(5, 24))])[0]
    assert image.verdicts == [RIGHT]
    assert image.found == [0]
    _, matrix = confusion_matrix([image], {TOP: "top", TROUSERS: "jacket"})
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(("rows", "verdict"), [(10, RIGHT), (9, "poor mask"), (2, "poor mask"), (1, "background")])
def test_the_limits_are_half_and_a_tenth(truth: COCO, rows: int, verdict: str) -> None:
    """Of the garment's 20 rows so many."""
    assert judged(truth, [prediction(1, TOP, 0.9, band(5, 5 + rows))])[0].verdicts == [verdict]


def test_quality_is_panoptic_quality(truth: COCO) -> None:
    assert panoptic_quality([0.8, 0.6], 1, 2) == pytest.approx(1.4 / 3.5)
    assert panoptic_quality([], 0, 0) == 1
    assert panoptic_quality([], 2, 0) == 0
    image = judged(truth, [prediction(1, TOP, 0.9, band(5, 20)), prediction(1, TOP, 0.8, band(50, 60))])[0]
    assert image.quality == pytest.approx(0.75 / (1 + 0.5 + 0.5))


def test_the_worst_are_the_worst_and_the_sample_is_always_the_same(truth: COCO) -> None:
    results = [record for record in perfect_results(truth) if record["image_id"] not in (4, 6)]
    results = [record for record in results if not (record["image_id"] == 7 and record["category_id"] == TOP)]
    results.append(prediction(6, TOP, 0.9, band(50, 60)))
    found = judged(truth, results)
    assert [image.image_id for image in worst_images(found, 5)] == [6, 4, 7]  # 6 also has a false alarm; others none
    assert judged_to_record(found[5], truth, "mask") == {
        "image_id": 6, "file_name": "006.png", "quality": 0.0, "instances": 2, "right": 0,
        "mistakes": {"background": 1, "missed": 2},
    }  # fmt: skip
    sample = [image.image_id for image in random_images(found, 3, 1)]
    assert sample == sorted(sample)
    assert len(set(sample)) == 3
    # Whatever the model finds.
    assert [image.image_id for image in random_images(judged(truth, []), 3, 1)] == sample
    assert len(random_images(found, 50, 1)) == 8
