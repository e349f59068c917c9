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
from seamline.masks.rle import segmentation_to_rle
from tests.conftest import PROJECT

ZIP = PROJECT / "samples" / "garments.zip"


@pytest.fixture(scope="module")
def coco() -> dict[str, Any]:
    with zipfile.ZipFile(ZIP) as archive:
        content: dict[str, Any] = json.loads(archive.read("annotations.json"))
        names = set(archive.namelist())
    assert {f"images/{image['file_name']}" for image in content["images"]} == names - {"annotations.json"}
    return content


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
                kept.append((archive.read(f"images/{image['file_name']}"), json.dumps(found)))
            drawn = [
                (photo["jpeg"], json.dumps([photo["image"], *photo["annotations"]]))
                for photo in make_group(pair_id, *plans[pair_id - 1])
            ]
            assert sorted(drawn) == sorted(kept)


@pytest.mark.thorough
def test_the_script_makes_it_byte_for_byte(tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "samples" / "make_garments.py"), str(tmp_path / "again.zip")]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "again.zip").read_bytes() == ZIP.read_bytes()


def test_it_shows_what_deepfashion2_shows(coco: dict[str, Any]) -> None:
    names = {category["id"]: category["name"] for category in coco["categories"]}
    counts = Counter(names[record["category_id"]] for record in coco["annotations"])
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
        assert {record[key] for record in coco["annotations"]} == values
    shown = {record["image_id"] for record in coco["annotations"]}
    assert 5 <= sum(image["id"] not in shown for image in coco["images"]) <= 30
    groups = Counter(image["pair_id"] for image in coco["images"])
    assert sum(count > 1 for count in groups.values()) >= 50


def test_tops_have_attributes_some_of_them_missing(coco: dict[str, Any]) -> None:
    tops = [record["attributes"] for record in coco["annotations"] if record["category_id"] in (1, 2, 5)]
    keys = {"neck_type", "sleeve_length", "pattern"}
    assert set().union(*tops) == keys
    assert 0.05 < sum(set(attributes) < keys for attributes in tops) / len(tops) < 0.4


def test_hidden_garments_come_in_several_parts_and_areas_are_right(coco: dict[str, Any]) -> None:
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco["images"]}
    several = [record for record in coco["annotations"] if len(record["segmentation"]) > 1]
    assert sum(isinstance(record["segmentation"], list) for record in several) >= 50
    assert any(isinstance(record["segmentation"], dict) for record in coco["annotations"])  # RLE, for holes
    for record in coco["annotations"]:
        rle = segmentation_to_rle(record["segmentation"], *sizes[record["image_id"]])
        assert record["area"] == pytest.approx(float(coco_mask.area(rle)), abs=0.01)
        assert np.allclose(record["bbox"], coco_mask.toBbox(rle), atol=0.01)
