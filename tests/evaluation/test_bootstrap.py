"""Weighted average precision is pycocotools' on a dataset in which images really are repeated, left out or ignored."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seamline.base.coco import Record
from seamline.evaluation import bootstrap
from seamline.evaluation.average_precision import (
    Bools,
    Floats,
    Ints,
    Matches,
    average_precision,
    read_ground_truth,
    results_of_kind,
)
from seamline.evaluation.bootstrap import (
    AT_ONCE,
    BIASES,
    FEWEST,
    PARTS,
    RECALLS,
    accumulate,
    class_precisions,
    draw_weights,
    groups_showing,
    instance_counts,
    interval,
    interval_of_difference,
    mean_of_classes,
    rankings,
    recalls_reached,
    sample_precisions,
    weights_without,
)
from tests.conftest import write_dataset
from tests.evaluation.test_average_precision import COCO_IOUS, noisy_results, perfect_results


def weighted(matches: Matches, weights: Ints, counted: Bools | None = None) -> Floats:
    instances = instance_counts(matches, weights[None], counted)
    found: Floats = class_precisions(rankings(matches, counted), instances, weights[None], len(matches.ious))[0]
    return found


def plain_precision(truth: COCO, results: list[Record], kind: str = "segm", **changes: Any) -> Any:
    """pycocotools' precision by IoU and class, NaN where there is none."""
    with contextlib.redirect_stdout(io.StringIO()):
        index = truth.loadRes(copy.deepcopy(results))
        evaluator = COCOeval(truth, index, kind)
        for key, value in changes.items():
            setattr(evaluator.params, key, value)
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, 2]
    return np.where(precision.min(axis=1) > -1, precision.mean(axis=1), np.nan).T


def repeated(truth: COCO, results: list[Record], weights: list[int]) -> tuple[COCO, list[Record]]:
    """The dataset with every image as often as its weight says, under ids of their own."""
    images, annotations, predictions = [], [], []
    for (number, image), times in zip(sorted(truth.imgs.items()), weights, strict=True):
        for turn in range(times):
            new = number + 1000 * turn
            images.append({**image, "id": new})
            annotations += [
                {**record, "image_id": new, "id": record["id"] + 100_000 * turn} for record in truth.imgToAnns[number]
            ]
            predictions += [{**record, "image_id": new} for record in results if record["image_id"] == number]
    with contextlib.redirect_stdout(io.StringIO()):
        index = COCO()
        index.dataset = {"images": images, "annotations": annotations, "categories": truth.dataset["categories"]}
        index.createIndex()
    return index, predictions


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[COCO, list[Record], Matches]:
    folder = write_dataset(tmp_path_factory.mktemp("truth") / "in", count=8)
    coco = json.loads((folder / "instances.json").read_text())
    coco["annotations"][6]["iscrowd"] = 1
    (folder / "instances.json").write_text(json.dumps(coco))
    truth = read_ground_truth(folder / "instances.json")
    results = noisy_results(truth, 5)
    return truth, results_of_kind(results, "mask"), average_precision(truth, results, "mask", COCO_IOUS).matches


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["box", "mask"])
def test_with_every_image_once_it_is_the_official_figure(tmp_path: Path, seed: int, kind: str) -> None:
    truth = read_ground_truth(write_dataset(tmp_path / "in", count=8) / "instances.json")
    found = average_precision(truth, noisy_results(truth, seed), kind, COCO_IOUS)
    precisions = weighted(found.matches, np.ones(8, dtype=np.int64))
    assert mean_of_classes(precisions) == pytest.approx(found.summary["mAP50_95"], abs=1e-12)
    assert mean_of_classes(precisions[:, :1]) == pytest.approx(found.summary["mAP50"], abs=1e-12)
    for row, values in zip(precisions, found.per_class.values(), strict=True):
        assert row.mean() == pytest.approx(values["mAP50_95"], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=8, max_size=8).filter(any))
def test_weights_are_the_same_as_repeating_images(
    measured: tuple[COCO, list[Record], Matches], weights: list[int]
) -> None:
    truth, results, matches = measured
    again, predictions = repeated(truth, results, weights)
    expected = plain_precision(again, predictions) if predictions else None
    found = weighted(matches, np.array(weights))
    if expected is not None:
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_slice_by_image_is_pycocotools_on_those_images(measured: tuple[COCO, list[Record], Matches]) -> None:
    truth, results, matches = measured
    chosen = [1, 4, 7, 8]
    counted = np.isin(matches.image_ids[matches.instance_image], chosen)
    expected = plain_precision(truth, results, imgIds=chosen)
    np.testing.assert_allclose(weighted(matches, np.ones(8, dtype=np.int64), counted), expected, atol=1e-12)


class IgnoringEval(COCOeval):  # type: ignore[misc]
    """pycocotools with the instances that `wanted` does not take set to be ignored."""

    wanted: Callable[[Record], bool]

    def _prepare(self) -> None:
        super()._prepare()
        for records in self._gts.values():
            for record in records:
                record["ignore"] = record["ignore"] or not self.wanted(record)


def test_a_slice_by_instance_is_pycocotools_that_ignores_the_others(
    measured: tuple[COCO, list[Record], Matches],
) -> None:
    truth, results, matches = measured
    wanted = {record["id"] for record in truth.dataset["annotations"] if record["id"] % 3 == 0}
    counted = np.isin(matches.instance_id, sorted(wanted))
    images = sorted({truth.anns[number]["image_id"] for number in wanted})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = IgnoringEval(truth, truth.loadRes(copy.deepcopy(results)), "segm")
        evaluator.wanted = lambda record: record["id"] in wanted
        evaluator.params.imgIds = images
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, 2]
    expected = np.where(precision.min(axis=1) > -1, precision.mean(axis=1), np.nan).T
    np.testing.assert_allclose(weighted(matches, np.ones(8, dtype=np.int64), counted), expected, atol=1e-12)


def test_no_predictions_score_zero_and_no_instances_nothing(tmp_path: Path) -> None:
    truth = read_ground_truth(write_dataset(tmp_path / "in", count=4) / "instances.json")
    matches = average_precision(truth, [], "mask", COCO_IOUS).matches
    assert weighted(matches, np.ones(4, dtype=np.int64)).tolist() == np.zeros((2, 10)).tolist()
    nowhere = weighted(matches, np.zeros(4, dtype=np.int64))
    assert np.isnan(nowhere).all()
    assert np.isnan(mean_of_classes(nowhere))


def test_draws_take_groups_together_and_depend_on_the_seed_alone() -> None:
    groups = np.array([4, 4, 0, 7, 7, 7])
    weights = draw_weights(groups, 200, 7)
    assert weights.shape == (200, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all() and (weights[:, 4] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()  # as many groups as there are
    assert weights[:, 2].mean() == pytest.approx(1, abs=0.2)
    assert (weights == draw_weights(groups, 200, 7)).all()
    assert (weights != draw_weights(groups, 200, 8)).any()
    assert draw_weights(np.zeros(0, np.int64), 5, 0).shape == (5, 0)


@pytest.mark.parametrize("at_once", [AT_ONCE, 50])
def test_samples_are_those_of_datasets_drawn_anew(
    measured: tuple[COCO, list[Record], Matches], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Samples are pycocotools' figures on drawn datasets, one by one."""
    monkeypatch.setattr(bootstrap, "AT_ONCE", at_once)
    truth, results, matches = measured
    weights = draw_weights(np.arange(8), 20, 3)
    samples = sample_precisions(matches, weights)
    for row, sample in zip(weights, samples, strict=True):
        again, predictions = repeated(truth, results, row.tolist())
        np.testing.assert_allclose(sample, plain_precision(again, predictions), atol=1e-9)


@pytest.mark.parametrize("chosen", [None, [1, 2, 3, 5]])
def test_crowds_above_right_ones_and_classes_that_a_sample_lacks(tmp_path: Path, chosen: list[int] | None) -> None:
    """What lies on a crowd region stands between right predictions, and only photo 2 shows a hat."""
    coco = json.loads((write_dataset(tmp_path / "in", count=8) / "instances.json").read_text())
    for at in (0, 5, 8, 13):
        coco["annotations"][at]["iscrowd"] = 1
    coco["categories"].append({"id": 3, "name": "hat"})
    coco["annotations"][3]["category_id"] = 3
    (tmp_path / "in" / "instances.json").write_text(json.dumps(coco))
    truth = read_ground_truth(tmp_path / "in" / "instances.json")
    random = np.random.default_rng(0)
    results = [{**one, "score": float(random.random())} for one in perfect_results(truth)] + noisy_results(truth, 2)
    matches = average_precision(truth, results, "mask", COCO_IOUS).matches
    weights = draw_weights(np.arange(8), 12, 1)
    assert (weights[:, 1] == 0).any() and (weights[:, 1] > 0).any()
    counted = None if chosen is None else np.isin(matches.image_ids[matches.instance_image], chosen)
    for row, sample in zip(weights, sample_precisions(matches, weights, counted), strict=True):
        again, predictions = repeated(truth, results_of_kind(results, "mask"), row.tolist())
        images = [number for number in again.imgs if chosen is None or number % 1000 in chosen]
        expected = plain_precision(again, predictions, imgIds=images) if images else np.full((3, 10), np.nan)
        np.testing.assert_allclose(sample, expected, atol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 9, 10, 15, 16, 17, 130])
def test_sums_and_peaks_down_the_rows_are_numpys(count: int) -> None:
    rows = np.random.default_rng(count).integers(0, 9, (count, 5), dtype=np.int32)
    for function, given_rows in ((np.add, rows), (np.maximum, rows[::-1])):
        expected = function.accumulate(given_rows, axis=0)
        found = given_rows.copy()
        accumulate(function, found)
        np.testing.assert_array_equal(found, expected)
    backwards = rows.copy()
    accumulate(np.maximum, backwards[::-1])
    np.testing.assert_array_equal(backwards[::-1], np.maximum.accumulate(rows[::-1], axis=0))


def test_recalls_are_reached_where_pycocotools_says_so() -> None:
    totals = np.array([1, 3, 7, 29, 50, 100, 1000])
    found = recalls_reached(totals)
    for row, total in zip(found, totals.tolist(), strict=True):
        recalls = np.arange(total + 1) / total
        np.testing.assert_array_equal(row[: total + 1], np.searchsorted(RECALLS, recalls, side="right"))


def test_each_part_is_left_out_once_and_groups_stay_together() -> None:
    groups = np.array([4, 4, 0, 7, 7, 7])
    weights = weights_without(groups, 3)
    assert sorted(weights.tolist()) == [[0, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]]
    many = np.repeat(np.arange(130), 2)
    parts = weights_without(many, 3)
    assert parts.shape == (PARTS, 260)
    assert ((parts == 0).sum(axis=0) == 1).all()
    assert (parts[:, ::2] == parts[:, 1::2]).all()
    assert set((parts == 0).sum(axis=1).tolist()) == {4, 6}  # two or three groups
    assert (parts == weights_without(many, 3)).all() and (parts != weights_without(many, 4)).any()
    assert weights_without(np.zeros(0, np.int64), 0).shape == (0, 0)


def test_the_interval_of_a_mean_is_students() -> None:
    """A mean has no bias, and the jackknife gives the standard error that everyone uses."""
    values = np.random.default_rng(0).uniform(0.3, 0.7, 30)
    left_out = np.array([np.delete(values, row).mean() for row in range(30)])
    student = scipy.stats.t(29, values.mean(), values.std(ddof=1) / np.sqrt(30))
    assert interval(left_out, 30, float(values.mean())) == pytest.approx(student.interval(0.95), abs=1e-6)
    fewer = scipy.stats.t(FEWEST - 1, values.mean(), values.std(ddof=1) / np.sqrt(30))
    assert interval(left_out, FEWEST, float(values.mean())) == pytest.approx(fewer.interval(0.95), abs=1e-6)
    more = scipy.stats.t(29, values.mean(), values.std(ddof=1) / np.sqrt(30))  # no surer than its parts
    assert interval(left_out, 1000, float(values.mean())) == pytest.approx(more.interval(0.95), abs=1e-6)
    with_none = np.append(left_out, np.nan)
    assert interval(with_none, 30, float(values.mean())) == interval(left_out, 30, float(values.mean()))


def test_an_interval_reaches_further_for_a_biased_figure() -> None:
    """The variance that divides by n is too small by a n-th of the true one: the jackknife knows exactly."""
    values = np.random.default_rng(0).uniform(0, 1, 20)
    left_out = np.array([np.delete(values, row).var() for row in range(20)])
    low, high = interval(left_out, 20, float(values.var())) or (1, 0)
    error = np.sqrt(19 / 20 * ((left_out - left_out.mean()) ** 2).sum())
    half = scipy.stats.t(19).ppf(0.975) * error + BIASES * values.var(ddof=1) / 20
    assert (low, high) == pytest.approx((values.var() - half, values.var() + half), abs=1e-6)


def test_there_is_no_interval_for_few_groups_or_where_nothing_differs() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 100)
    for function in (interval, interval_of_difference):
        assert function(values, FEWEST - 1, 0.5) is None
        assert function(values, FEWEST, 0.5) is not None
        assert function(np.ones(400), 1000, 1.0) is None  # everything found everywhere: how sure, nobody can tell
        assert function(np.full(20, np.nan), 100, 0.5) is None
        assert function(values, 1000, None) is None
    assert interval(values, 20, 0.5) == [0.0, 1.0]  # nothing is beyond 0 and 1
    assert interval_of_difference(20 * values, 20, 0.5) == [-1.0, 1.0]


def test_the_interval_of_a_difference_is_that_of_student_around_it() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 10_000)
    few, many = (interval_of_difference(values, groups, 0.5) or [] for groups in (FEWEST, 10_000))
    assert many == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=4e-3)
    assert [round(end, 6) for end in few] == few
    # The t-interval of a mean of 15 is 2.145 standard errors wide on either side, and sqrt(15 / 14) times that.
    assert few == pytest.approx([0.5 - 0.222, 0.5 + 0.222], abs=8e-3)


def test_no_difference_lies_outside_of_its_own_interval() -> None:
    """All samples may lie on one side of it, as those of a mean over rare classes do; then the interval says so."""
    values = np.random.default_rng(0).normal(0.5, 0.01, 1000)
    low, high = interval_of_difference(values, 1000, 0.4) or (1, 0)
    assert (low, high) == pytest.approx((0.4 - 0.15 - 0.0196, 0.4 + 0.15 + 0.0196), abs=2e-3)
    assert (interval_of_difference(values - 0.49, 1000, 0.01) or [0, 0])[0] < 0


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Of 120 test sets of 30 images, each with one garment that is found with chance 0.7, mAP50 being 0.7."""
    random = np.random.default_rng(1)
    images = np.arange(30)
    held = []
    for number in range(120):
        found = np.flatnonzero(random.random(30) < 0.7)
        matches = Matches(
            names=["top"], image_ids=images, ious=np.array([0.5]), image=found,
            class_index=np.zeros(len(found), np.int64),
            score=np.linspace(1, 0.5, len(found)), result=np.arange(len(found)), instance=found[None],
            instance_id=images + 1, instance_image=images, instance_class=np.zeros(30, np.int64),
            crowd=np.zeros(30, dtype=np.bool_),
        )  # fmt: skip
        left_out = sample_precisions(matches, weights_without(images, number))[:, 0, 0]
        low, high = interval(left_out, 30, len(found) / 30) or (0, 1)
        held.append(low <= 0.7 <= high)
    assert 0.88 <= np.mean(held) <= 1


def test_groups_that_show_something_are_counted(measured: tuple[COCO, list[Record], Matches]) -> None:
    _, _, matches = measured
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    assert groups_showing(matches, groups) == 4
    first = matches.instance_image == 0
    assert groups_showing(matches, groups, first) == 1
    assert groups_showing(matches, groups, matches.crowd) == 0


def test_a_class_that_a_sample_lacks_is_left_out_of_its_mean() -> None:
    precisions = np.array([[[0.5, 0.7], [np.nan, np.nan]], [[0.5, 0.7], [0.1, 0.3]]])
    assert mean_of_classes(precisions).tolist() == pytest.approx([0.6, 0.4])
