"""The embedded sample is what it says, and its script makes it byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from samples.make_garments import SEED, make_group, plan_groups
from seamline.masks.rle import mask_iou, rle_to_mask, segmentation_to_rle
from tests.conftest import PROJECT

ZIP = PROJECT / "samples" / "garments.zip"
PERSON = 20
Record = dict[str, Any]


@pytest.fixture(scope="module")
def coco() -> dict[str, Any]:
    with zipfile.ZipFile(ZIP) as archive:
        content: dict[str, Any] = json.loads(archive.read("annotations.json"))
        names = set(archive.namelist())
    assert {f"images/{image['file_name']}" for image in content["images"]} == names - {"annotations.json"}
    return content


@pytest.fixture(scope="module")
def garments(coco: Record) -> list[Record]:
    return [record for record in coco["annotations"] if record["category_id"] != PERSON]


@pytest.fixture(scope="module")
def people(coco: Record) -> list[Record]:
    return [record for record in coco["annotations"] if record["category_id"] == PERSON]


def test_it_is_small() -> None:
    assert ZIP.stat().st_size <= 3_000_000


def test_the_script_makes_every_tenth_outfit_byte_for_byte(coco: dict[str, Any]) -> None:
    """All of them take twenty seconds; each is drawn from a seed of its own."""
    plans = plan_groups(np.random.default_rng(SEED))
    assert len(plans) == len({image["pair_id"] for image in coco["images"]})
    numbers = ("id", "image_id", "file_name")
    with zipfile.ZipFile(ZIP) as archive:
        for pair_id in range(1, len(plans) + 1, 10):
            kept = []
            for image in [image for image in coco["images"] if image["pair_id"] == pair_id]:
                records = [record for record in coco["annotations"] if record["image_id"] == image["id"]]
                found = [{key: value for key, value in one.items() if key not in numbers} for one in (image, *records)]
                first = records[0]["id"] if records else 0
                for person in found:
                    if "garments" in person:
                        person["garments"] = [number - first for number in person["garments"]]
                kept.append((archive.read(f"images/{image['file_name']}"), json.dumps(found)))
            drawn = [
                (photo["jpeg"], json.dumps([photo["image"], *photo["annotations"], *photo["people"]]))
                for photo in make_group(pair_id, *plans[pair_id - 1])
            ]
            assert sorted(drawn) == sorted(kept)


@pytest.mark.thorough
def test_the_script_makes_it_byte_for_byte(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "samples.make_garments", str(tmp_path / "again.zip")]
    subprocess.run(command, check=True, capture_output=True, cwd=PROJECT)
    assert (tmp_path / "again.zip").read_bytes() == ZIP.read_bytes()


def test_it_shows_what_deepfashion2_shows(coco: Record, garments: list[Record]) -> None:
    names = {category["id"]: category["name"] for category in coco["categories"]}
    counts = Counter(names[record["category_id"]] for record in garments)
    assert len(coco["images"]) >= 300
    assert len(counts) >= 5
    assert min(counts.values()) >= 30
    assert {"short sleeve top", "trousers"} < set(counts)
    assert {image["source"] for image in coco["images"]} == {"shop", "user"}
    for key, values in {
        "scale": {1, 2, 3},
        "occlusion": {1, 2, 3},
        "zoom_in": {1, 2, 3},
        "viewpoint": {1, 2, 3},
    }.items():
        assert {record[key] for record in garments} == values
    shown = {record["image_id"] for record in garments}
    assert 5 <= sum(image["id"] not in shown for image in coco["images"]) <= 30
    groups = Counter(image["pair_id"] for image in coco["images"])
    assert sum(count > 1 for count in groups.values()) >= 50


def test_tops_have_attributes_some_of_them_missing(coco: dict[str, Any]) -> None:
    tops = [record["attributes"] for record in coco["annotations"] if record["category_id"] in (1, 2, 5)]
    keys = {"neck_type", "sleeve_length", "pattern"}
    assert set().union(*tops) == keys
    assert 0.05 < sum(set(attributes) < keys for attributes in tops) / len(tops) < 0.4


def test_hidden_garments_come_in_several_parts_and_areas_are_right(coco: Record, garments: list[Record]) -> None:
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco["images"]}
    several = [record for record in garments if len(record["segmentation"]) > 1]
    assert sum(isinstance(record["segmentation"], list) for record in several) >= 50
    assert any(isinstance(record["segmentation"], dict) for record in garments)  # RLE, for holes
    for record in coco["annotations"]:
        rle = segmentation_to_rle(record["segmentation"], *sizes[record["image_id"]])
        assert record["area"] == pytest.approx(float(coco_mask.area(rle)), abs=0.01)
        assert np.allclose(record["bbox"], coco_mask.toBbox(rle), atol=0.01)


def test_people_have_outlines_and_the_garments_they_wear(
    coco: Record, garments: list[Record], people: list[Record]
) -> None:
    """Nobody wears what another wears, and what a person wears lies inside the person's outline."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco["images"]}
    masks = {
        record["id"]: rle_to_mask(segmentation_to_rle(record["segmentation"], *sizes[record["image_id"]]))
        for record in coco["annotations"]
    }
    of_garment = {record["id"]: record for record in garments}
    worn = [number for person in people for number in person["garments"]]
    assert len(people) > 300
    assert len(worn) == len(set(worn))
    assert min(person["id"] for person in people) > max(of_garment)
    inside = []
    for person in people:
        for number in person["garments"]:
            assert of_garment[number]["image_id"] == person["image_id"]
            garment = masks[number] > 0
            inside.append(masks[person["id"]][garment].mean())
    assert min(inside) > 0.9
    assert np.mean(inside) > 0.98
    several = Counter(person["image_id"] for person in people)
    assert sum(count == 2 for count in several.values()) >= 10
    for image in (image for image, count in several.items() if count == 2):
        one, other = (masks[person["id"]] for person in people if person["image_id"] == image)
        assert mask_iou(one, other) < 0.05


def test_garments_on_no_person_are_those_that_are_not_worn(garments: list[Record], people: list[Record]) -> None:
    worn = {number for person in people for number in person["garments"]}
    assert sum(record["id"] not in worn for record in garments) > 50
    for record in garments:
        assert (record["viewpoint"] == 1) == (record["id"] not in worn)  # laid flat, hung or on a mannequin
