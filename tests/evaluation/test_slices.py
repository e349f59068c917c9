from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from seamline.evaluation.average_precision import Matches, average_precision, read_ground_truth
from seamline.evaluation.bootstrap import weights_without
from seamline.evaluation.slices import LARGEST, field_of, header_of, job_to_rows, natural, value_at
from tests.conftest import write_dataset
from tests.evaluation.test_average_precision import COCO_IOUS, noisy_results, perfect_results


def dataset(folder: Path, count: int = 8, **tables: Any) -> tuple[COCO, dict[str, Any], Path]:
    path = write_dataset(folder, count=count) / "instances.json"
    return read_ground_truth(path), json.loads(path.read_text()) | tables, path


def measured(path: Path, coco: dict[str, Any], seed: int = 1) -> tuple[COCO, Matches]:
    path.write_text(json.dumps(coco))
    truth = read_ground_truth(path)
    return truth, average_precision(truth, noisy_results(truth, seed), "mask", COCO_IOUS).matches


def members(truth: COCO, matches: Matches, field: str, names: dict[str, str] | None = None) -> dict[str, list[int]]:
    found = field_of(truth, matches, field, names)
    return {name: matches.instance_id[counted].tolist() for name, counted in found.slices}


def test_values_of_annotations_of_images_and_inside_objects(tmp_path: Path) -> None:
    _, coco, path = dataset(tmp_path / "in")
    for record in coco["annotations"]:
        record["scale"] = 1 + record["id"] % 2
        record["attributes"] = {"colour": "red" if record["id"] <= 4 else "blue"}
    for image in coco["images"]:
        image["source"] = "shop" if image["id"] <= 2 else "user"
    coco["annotations"][0]["iscrowd"] = 1
    truth, matches = measured(path, coco)
    assert members(truth, matches, "scale", {"1": "small"}) == {
        "small": list(range(2, 17, 2)),
        "2": list(range(3, 17, 2)),  # the first is a crowd region
    }
    assert members(truth, matches, "source") == {"shop": [2, 3, 4], "user": list(range(5, 17))}
    assert members(truth, matches, "attributes.colour") == {"blue": list(range(5, 17)), "red": [2, 3, 4]}


def test_a_list_puts_an_instance_into_several_slices_named_by_the_files_own_table(tmp_path: Path) -> None:
    _, coco, path = dataset(tmp_path / "in", count=2, attributes=[{"id": 0, "name": "lapel"}, {"id": 7, "name": "zip"}])
    for record, ids in zip(coco["annotations"], ([0], [0, 7, 7], [], [9]), strict=True):
        record["attribute_ids"] = ids
    truth, matches = measured(path, coco)
    assert members(truth, matches, "attribute_ids") == {"lapel": [1, 2], "zip": [2], "9": [4]}
    assert field_of(truth, matches, "attribute_ids", None).without_value == 1


def test_instances_without_a_value_and_of_rare_values_are_counted(tmp_path: Path) -> None:
    _, coco, path = dataset(tmp_path / "in", count=LARGEST)
    for record in coco["annotations"]:
        record["style"] = record["id"] if record["id"] <= LARGEST + 3 else None if record["id"] % 2 else {"odd": 1}
    truth, matches = measured(path, coco)
    found = field_of(truth, matches, "style", None)
    assert len(found.slices) == LARGEST
    assert found.in_smaller_slices == 3
    assert found.without_value == 2 * LARGEST - LARGEST - 3
    assert field_of(truth, matches, "nothing has it", None).slices == []


def test_one_value_written_in_several_ways_is_one_slice(tmp_path: Path) -> None:
    _, coco, path = dataset(tmp_path / "in")
    ways: list[Any] = [1, 1.0, "1", 2, 10, "2", 10.0, "big"]
    for record in coco["annotations"]:
        record["scale"] = ways[record["id"] % 8]
    truth, matches = measured(path, coco)
    assert {name: len(found) for name, found in members(truth, matches, "scale").items()} == {
        "1": 6, "2": 4, "10": 4, "big": 2,
    }  # fmt: skip
    same = {"1": "small", "2": "small"}
    assert {name: len(found) for name, found in members(truth, matches, "scale", same).items()} == {
        "small": 10, "10": 4, "big": 2,
    }  # fmt: skip


def test_true_is_not_one(tmp_path: Path) -> None:
    _, coco, path = dataset(tmp_path / "in", count=3)
    for record, value in zip(coco["annotations"], [1, True, 1.0, False, 0, True], strict=True):
        record["scale"] = value
    truth, matches = measured(path, coco)
    assert {name: len(found) for name, found in members(truth, matches, "scale").items()} == {
        "0": 1, "1": 2, "True": 2, "False": 1,
    }  # fmt: skip


def test_of_slices_as_large_as_each_other_the_first_by_name_are_measured(tmp_path: Path) -> None:
    _, coco, path = dataset(tmp_path / "in", count=LARGEST)
    for record in coco["annotations"]:
        record["style"] = chr(ord("z") - (record["id"] - 1) % (LARGEST + 1))  # z to f
    coco["annotations"] = coco["annotations"][: LARGEST + 1]
    truth, matches = measured(path, coco)
    found = field_of(truth, matches, "style", None)
    assert "".join(name for name, _ in found.slices) == "fghijklmnopqrstuvwxy"
    assert found.in_smaller_slices == 1


def test_numbers_that_are_none_and_numbers_beyond_all_measure(tmp_path: Path) -> None:
    _, coco, path = dataset(tmp_path / "in", count=4)
    odd = [float("nan"), float("inf"), 1e300, 10**400, 0.5, True, 2, -1]
    for record, value in zip(coco["annotations"], odd, strict=True):
        record["scale"] = value
    truth, matches = measured(path, coco)
    found = field_of(truth, matches, "scale", None)
    assert found.without_value == 2
    names = [name for name, _ in found.slices]
    assert names[:4] == ["-1", "0.5", "True", "2"]
    assert "1e+300" in names
    assert len(names) == 6


def test_a_dot_leads_into_an_object() -> None:
    assert value_at({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert value_at({"a": {"b": 2}}, "a.b") == 2
    assert value_at({"a": 3}, "a.b") is None


def test_a_row_says_how_many_and_how_sure(tmp_path: Path) -> None:
    _, coco, path = dataset(tmp_path / "in", count=20)
    for record in coco["annotations"]:
        record["scale"] = 1 if record["id"] <= 34 else 10
    path.write_text(json.dumps(coco))
    truth = read_ground_truth(path)
    results = perfect_results(truth)
    for record in results[:5]:  # all in the first slice
        record["image_id"] = 20
    matches = average_precision(truth, results, "mask", COCO_IOUS).matches
    field = field_of(truth, matches, "scale", {"1": "small"})
    rows = [
        dict(zip(header_of("mask"), row, strict=True))
        for row in job_to_rows(("test", field, matches, np.arange(20), weights_without(np.arange(20), 0)))
    ]
    small, other = rows
    assert (small["split"], small["field"], small["value"]) == ("test", "scale", "small")
    assert (small["images"], small["instances"]) == (17, 34)
    assert small["mask_mAP50"] < 1
    assert small["mask_mAP50_low"] < small["mask_mAP50"] < small["mask_mAP50_high"]
    assert (other["value"], other["images"], other["instances"]) == ("10", 3, 6)
    assert other["mask_mAP50_low"] is other["mask_mAP50_high"] is None  # too few to say


def test_the_slices_of_a_field_that_all_have_one_value_of_are_the_whole(tmp_path: Path) -> None:
    _, coco, path = dataset(tmp_path / "in")
    truth, matches = measured(path, coco, seed=23)  # much is found at an IoU of 0.5 alone
    found = average_precision(truth, noisy_results(truth, 23), "mask", COCO_IOUS)
    groups = np.arange(8)
    field = field_of(truth, matches, "scale", None)
    (row,) = job_to_rows(("val", field, matches, groups, weights_without(groups, 0)))
    figures = dict(zip(header_of("mask"), row, strict=True))
    for measure in ("mAP50_95", "mAP50"):
        assert figures[f"mask_{measure}"] == pytest.approx(found.summary[measure], abs=1e-6)


def test_values_are_in_the_order_of_numbers_and_then_of_text() -> None:
    assert sorted(["b", 10, 9, "10", 2.5, "a", True], key=natural) == [True, 2.5, 9, 10, "10", "a", "b"]
