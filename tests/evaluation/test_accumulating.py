"""Every number and every match is pycocotools'; records that it takes in a way of its own are left to it."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from seamline.base.coco import Record
from seamline.evaluation.average_precision import (
    average_precision,
    quick_evaluation,
    reference_evaluation,
    results_of_kind,
)
from seamline.evaluation.matching import TOUCHED_IOU
from seamline.evaluation.mistakes import confusion_matrix, judge
from seamline.params.evaluate import IouThresholds

COCO_IOUS = IouThresholds(0.5, 0.95, 0.05)
FINE_IOUS = IouThresholds(0.5, 0.95, 0.025)
NOWHERE = 99  # a class that the truth does not have


def box_mask(random: np.random.Generator, height: int, width: int) -> Any:
    mask = np.zeros((height, width), np.uint8)
    x, y = int(random.integers(0, width - 6)), int(random.integers(0, height - 6))
    mask[y : y + int(random.integers(1, 40)), x : x + int(random.integers(1, 40))] = 1
    if random.random() < 0.3:
        mask[::2] = 0
    return mask


def rle_of(mask: Any) -> tuple[Record, list[float]]:
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": rle["size"], "counts": rle["counts"].decode()}, coco_mask.toBbox(rle).tolist()


def drawn(seed: int) -> tuple[Record, list[Record]]:
    """Crowds, empty classes and images, odd areas, equal scores and overlaps, twins, unknown classes."""
    random = np.random.default_rng(seed)
    height, width = random.integers(20, 200, 2).tolist()
    categories = [{"id": int(n), "name": f"c{n}"} for n in random.permutation(np.arange(1, 9))[: random.integers(1, 5)]]
    kinds = np.array([one["id"] for one in categories])
    images = [{"id": int(n), "width": width, "height": height} for n in random.permutation(np.arange(1, 20))[:5]]
    ids = random.permutation(np.arange(1, 400)).tolist()
    annotations: list[Record] = []
    results: list[Record] = []
    for image in images:
        for _ in range(int(random.integers(0, 8))):
            mask = box_mask(random, height, width)
            rle, box = rle_of(mask)
            x, y, w, h = box[0], box[1], max(box[2], 2), max(box[3], 2)
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            for _ in range(1 if random.random() < 0.8 else 2):
                area = float(mask.sum()) if random.random() < 0.8 else float(random.choice([0, 1024, 9216, 1e5]))
                record = {"id": ids.pop(), "image_id": image["id"], "category_id": int(random.choice(kinds))}
                shape = {"bbox": box, "area": area, "segmentation": rle if random.random() < 0.5 else polygon}
                annotations.append({**record, **shape, "iscrowd": int(random.random() < 0.2)})
            for _ in range(int(random.integers(0, 4))):
                moved = np.roll(mask, random.integers(-2, 3, 2).tolist(), (0, 1)) if random.random() < 0.8 else mask
                found, around = rle_of(moved)
                kind = NOWHERE if random.random() < 0.05 else int(random.choice(kinds))
                score = float(random.choice([0.1, 0.5, 0.9])) if random.random() < 0.6 else float(random.random())
                shape = {"bbox": around, "segmentation": found}
                results.append({"image_id": image["id"], "category_id": kind, "score": score, **shape})
        if random.random() < 0.1:  # more than 100 of a class
            found, around = rle_of(box_mask(random, height, width))
            same = {"image_id": image["id"], "category_id": int(kinds[0]), "bbox": around, "segmentation": found}
            results += [{**same, "score": float(random.choice([0.1, 0.5]))} for _ in range(120)]
    random.shuffle(annotations)
    random.shuffle(results)
    return {"images": images, "categories": categories, "annotations": annotations}, results


def index_of(dataset: Record) -> COCO:
    index = COCO()
    index.dataset = copy.deepcopy(dataset)
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
    return index


def assert_same(first: Any, second: Any) -> None:
    for name, one, other in zip(first._fields, first, second, strict=True):
        if name == "matches":
            assert_same(one, other)
        elif name != "touching":  # pycocotools has none
            np.testing.assert_array_equal(one, other, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["box", "mask"]), st.sampled_from([COCO_IOUS, FINE_IOUS]))
def test_every_number_and_every_match_is_pycocotools(seed: int, kind: str, ious: IouThresholds) -> None:
    dataset, results = drawn(seed)
    results = results_of_kind(results, kind)
    found = quick_evaluation(index_of(dataset), results, kind, ious)
    assert found is not None
    assert_same(found, reference_evaluation(index_of(dataset), results, kind, ious))


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_without_predictions_or_instances_it_is_pycocotools(kind: str) -> None:
    dataset, results = drawn(1)
    nowhere = [{**record, "category_id": NOWHERE} for record in results]
    for truth, found in ((dataset, []), (dataset, nowhere), ({**dataset, "annotations": []}, results)):
        records = results_of_kind(found, kind)
        quick = quick_evaluation(index_of(truth), records, kind, COCO_IOUS)
        assert quick is not None
        assert_same(quick, reference_evaluation(index_of(truth), records, kind, COCO_IOUS))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["box", "mask"]))
def test_mistakes_are_those_of_overlaps_computed_anew(seed: int, kind: str) -> None:
    dataset, results = drawn(seed)
    results = results_of_kind([one for one in results if one["category_id"] != NOWHERE], kind)
    matches = average_precision(index_of(dataset), results, kind, COCO_IOUS).matches
    found = judge(index_of(dataset), results, matches, 0.3, kind)
    expected = judge(index_of(dataset), results, matches._replace(touching=None), 0.3, kind)
    for one, other in zip(found, expected, strict=True):
        assert one._replace(overlaps=other.overlaps) == other
        about = other.overlaps >= TOUCHED_IOU
        np.testing.assert_array_equal(one.overlaps[about], other.overlaps[about])
    names = {record["id"]: record["name"] for record in dataset["categories"]}
    np.testing.assert_array_equal(confusion_matrix(found, names)[1], confusion_matrix(expected, names)[1])


def changed(dataset: Record, **fields: Any) -> Record:
    first, *others = dataset["annotations"]
    return {**dataset, "annotations": [{**first, **fields}, *others]}


def test_pycocotools_evaluates_what_it_takes_in_a_way_of_its_own() -> None:
    dataset, results = drawn(1)
    results = results_of_kind(results, "box")
    for odd in (changed(dataset, id=0), changed(dataset, area=1e11)):
        assert quick_evaluation(index_of(odd), results, "box", COCO_IOUS) is None
        found = average_precision(index_of(odd), results, "box", COCO_IOUS)
        np.testing.assert_array_equal(
            [-1 if value is None else value for value in found.summary.values()],
            reference_evaluation(index_of(odd), results, "box", COCO_IOUS).stats,
        )
