"""Every number that hotcoco and our own matching make is pycocotools'; where not, its own are taken."""

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
from pycocotools.cocoeval import COCOeval

from seamline.base.coco import Record
from seamline.evaluation import average_precision as module
from seamline.evaluation import quick
from seamline.evaluation.average_precision import quick_evaluation, reference_evaluation, results_of_kind
from seamline.evaluation.matching import TOUCHED_IOU, match
from seamline.evaluation.mistakes import confusion_matrix, judge
from seamline.params.evaluate import IouThresholds

COCO_IOUS = IouThresholds(0.5, 0.95, 0.05)
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
@given(st.integers(0, 2**32 - 1), st.sampled_from(["box", "mask"]))
def test_every_number_and_every_match_is_pycocotools(seed: int, kind: str) -> None:
    dataset, results = drawn(seed)
    results = results_of_kind(results, kind)
    found = quick_evaluation(index_of(dataset), results, kind, COCO_IOUS)
    known = {one["id"] for one in dataset["categories"]}
    if found is None:
        assert not any(record["category_id"] in known for record in results)
    else:
        assert_same(found, reference_evaluation(index_of(dataset), results, kind, COCO_IOUS))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["box", "mask"]))
def test_mistakes_are_those_of_overlaps_computed_anew(seed: int, kind: str) -> None:
    dataset, results = drawn(seed)
    results = results_of_kind([one for one in results if one["category_id"] != NOWHERE], kind)
    matches = module.average_precision(index_of(dataset), results, kind, COCO_IOUS).matches
    found = judge(index_of(dataset), results, matches, 0.3, kind)
    expected = judge(index_of(dataset), results, matches._replace(touching=None), 0.3, kind)
    for one, other in zip(found, expected, strict=True):
        assert one._replace(overlaps=other.overlaps) == other
        about = other.overlaps >= TOUCHED_IOU
        np.testing.assert_array_equal(one.overlaps[about], other.overlaps[about])
    names = {record["id"]: record["name"] for record in dataset["categories"]}
    np.testing.assert_array_equal(confusion_matrix(found, names)[1], confusion_matrix(expected, names)[1])


def test_an_overlap_that_floats_make_less_than_one_is_one() -> None:
    """As COCOeval has it: a threshold of 1 asks for 1 - 1e-10."""
    box = [31.85, 13.49, 2.05, 0.83]
    assert coco_mask.iou([box], [box], [0])[0, 0] < 1
    image = {"id": 1, "width": 100, "height": 100}
    instance = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 1.7, "iscrowd": 0}
    truth = index_of({"images": [image], "categories": [{"id": 1, "name": "top"}], "annotations": [instance]})
    result = {"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}
    evaluator = COCOeval(truth, truth.loadRes([result]), "bbox")
    evaluator.params.iouThrs = np.array([1.0])
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
    assert evaluator.eval["recall"][0, 0, 0, -1] == 1
    assert match(truth, [result], "box", np.array([1.0]), 100).instance.tolist() == [[0]]


def test_indices_are_integers_where_nothing_is_there() -> None:
    """numpy's type of an empty list is a float, which is no index."""
    dataset, results = drawn(1)
    results = results_of_kind(results, "box")
    nothing = match(index_of(dataset), [{**results[0], "category_id": NOWHERE}], "box", COCO_IOUS.values(), 100)
    assert nothing.instance.shape == (10, 0)
    for indices in (nothing.image, nothing.class_index, nothing.result, nothing.instance):
        assert indices.dtype == np.int64
    if quick.hotcoco is not None:
        found = quick_evaluation(index_of({**dataset, "annotations": []}), results, "box", COCO_IOUS)
        assert found is not None
        for indices in (found.matches.instance_id, found.matches.instance_image, found.matches.instance_class):
            assert len(indices) == 0
            assert indices.dtype == np.int64


def test_classes_that_nobody_knows_are_passed_over_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hotcoco")
    dataset, results = drawn(1)
    results = results_of_kind(results, "box")
    known = quick_evaluation(index_of(dataset), results, "box", COCO_IOUS)
    capfd.readouterr()
    more = [*results, {**results[0], "category_id": NOWHERE}]
    found = quick_evaluation(index_of(dataset), more, "box", COCO_IOUS)
    assert found is not None
    assert_same(found, known)
    assert capfd.readouterr() == ("", "")


def changed(dataset: Record, **fields: Any) -> Record:
    first, *others = dataset["annotations"]
    return {**dataset, "annotations": [{**first, **fields}, *others]}


def test_pycocotools_evaluates_what_it_takes_in_a_way_of_its_own() -> None:
    dataset, results = drawn(1)
    results = results_of_kind(results, "box")
    for odd in (changed(dataset, id=0), changed(dataset, area=1e11)):
        assert quick_evaluation(index_of(odd), results, "box", COCO_IOUS) is None
    assert quick_evaluation(index_of(dataset), [], "box", COCO_IOUS) is None


def test_without_hotcoco_or_where_it_disagrees_pycocotools_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, results = drawn(1)
    expected = module.average_precision(index_of(dataset), results, "mask", COCO_IOUS)
    with monkeypatch.context() as patched:
        patched.setattr(quick, "hotcoco", None)
        assert quick_evaluation(index_of(dataset), results_of_kind(results, "mask"), "mask", COCO_IOUS) is None
        assert module.average_precision(index_of(dataset), results, "mask", COCO_IOUS).summary == expected.summary
    arrays = quick.hotcoco_arrays

    def wrong(*args: Any) -> Any:
        precision, recall = arrays(*args) or (np.zeros(0), np.zeros(0))
        return precision, recall * 0.5

    monkeypatch.setattr(module, "hotcoco_arrays", wrong)
    assert quick_evaluation(index_of(dataset), results_of_kind(results, "mask"), "mask", COCO_IOUS) is None
    assert module.average_precision(index_of(dataset), results, "mask", COCO_IOUS).summary == expected.summary
