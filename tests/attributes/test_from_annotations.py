"""Attributes of annotations: fields by path, lists of ids, and the split that the pipeline has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seamline.attributes import oddities
from seamline.attributes.from_annotations import collect
from seamline.attributes.photos import write_photos
from seamline.base.errors import SeamlineError
from seamline.images.reading import read_image
from tests.attributes.shirts import options

FIELDS: list[dict[str, Any]] = [
    {"attributes": {"neck": "polo", "sleeve": 1}, "attribute_ids": [7, 12, 30]},
    {"attributes": {"neck": "crew"}, "attribute_ids": [13]},
    {"attributes": {"neck": "boat", "sleeve": 2}, "attribute_ids": [12, 13]},
    {"attributes": {}, "attribute_ids": []},
]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four photos of 40 x 40, canonical, each with a garment of 10 x 12 at (5, 6)."""
    folder = tmp_path / "dataset"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number, fields in enumerate(FIELDS, 1):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), pixels)
        images.append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 40})
        shape = {"segmentation": [[5, 6, 15, 6, 15, 18, 5, 18]], "bbox": [5, 6, 10, 12], "area": 120, "iscrowd": 0}
        annotations.append({"id": 10 * number, "image_id": number, "category_id": 1, **shape, **fields})
    annotations.append({**annotations[0], "id": 50, "iscrowd": 1})
    categories = [{"id": 1, "name": "top"}]
    write(folder / "annotations.json", images, annotations, categories)
    split = tmp_path / "split"
    split.mkdir()
    for name, at in (("train", 2), ("val", 0), ("test", 1)):
        write(split / f"{name}.json", [{**images[at], "id": at + 101}], [], categories)
    (split / "groups.json").write_text(json.dumps({"101": 0, "102": 1, "103": 1}))
    return folder


def write(path: Path, images: list[Any], annotations: list[Any], categories: list[Any]) -> None:
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def test_the_object_attributes_is_taken_where_nothing_is_named(dataset: Path) -> None:
    found = collect(dataset, options(), None)
    assert {one.id: one.values for one in found.garments} == {
        10: {"neck": "polo", "sleeve": "1"},
        20: {"neck": "crew", "sleeve": None},
        30: {"neck": "boat", "sleeve": "2"},
    }
    assert found.values == {"neck": ["boat", "crew", "polo"], "sleeve": ["1", "2"]}
    assert found.oddities.counts() == {oddities.WITHOUT_VALUE: 1}
    assert found.garments[0].box == (5, 6, 15, 18)


def test_fields_are_named_merged_and_read_from_lists(dataset: Path) -> None:
    labels = {
        "collar": {"field": "attributes.neck", "values": {"crew": "round", "boat": "round", "polo": "collar"}},
        "length": {"field": "attribute_ids", "values": {"12": "short", "13": "long"}},
    }
    found = collect(dataset, options(labels=labels), None)
    assert {one.id: one.values for one in found.garments} == {
        10: {"collar": "collar", "length": "short"},
        20: {"collar": "round", "length": "long"},
        30: {"collar": "round", "length": None},
    }
    assert found.values == {"collar": ["round", "collar"], "length": ["short", "long"]}
    assert found.oddities.counts() == {oddities.SEVERAL: 1, oddities.WITHOUT_VALUE: 1}


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"neck": {"field": "attributes.nek"}}, "no annotation has a value in the field 'attributes.nek'; fields are "),
        (
            {"ids": {"field": "attribute_ids"}},
            "annotation 10: the field 'attribute_ids' is a list; name the values that",
        ),
        (
            {"neck": {"field": "attributes.neck", "values": {"polo": "collar"}}},
            "annotation 20: attributes.neck has the",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(dataset: Path, labels: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SeamlineError, match=re.escape(sentence)):
        collect(dataset, options(labels=labels), None)


def test_garments_of_other_classes_are_left_out_and_counted(dataset: Path) -> None:
    coco = json.loads((dataset / "annotations.json").read_text())
    coco["categories"].append({"id": 2, "name": "trousers"})
    coco["annotations"][1]["category_id"] = 2
    (dataset / "annotations.json").write_text(json.dumps(coco))
    found = collect(dataset, options(classes=["top"]), None)
    assert [one.id for one in found.garments] == [10, 30] and found.rows == 4
    assert found.oddities.counts() == {oddities.OTHER_CLASS: 1, oddities.WITHOUT_VALUE: 1}
    assert found.values["neck"] == ["boat", "polo"]  # and not the trousers' crew
    with pytest.raises(SeamlineError, match=r"attributes.classes: .* have no class 'shirt'; they have top, trousers"):
        collect(dataset, options(classes=["top", "shirt"]), None)


def test_photos_keep_the_split_and_the_groups_of_the_pipeline(dataset: Path) -> None:
    found = collect(dataset, options(), dataset.parent / "split")
    assert [one.official for one in found.garments] == ["val", "test", "train"]
    groups = [one.belongs_to for one in found.garments]
    assert groups[1] == groups[2] != groups[0]


def test_garments_are_cut_out_with_a_margin_and_without_background(dataset: Path, tmp_path: Path) -> None:
    found = collect(dataset, options(), None)
    photo = read_image(dataset / "images" / "1.png")
    paths = write_photos(found.garments, tmp_path / "with", options(margin=0.5))
    assert [path.name for path in paths] == ["10.jpg", "20.jpg", "30.jpg"]
    cut = read_image(paths[0])
    assert cut.shape == (24, 20, 3)  # 12 + 2 * 6, 10 + 2 * 5
    assert np.abs(cut.astype(int) - photo[0:24, 0:20]).mean() < 8  # a JPEG of noise
    white = read_image(write_photos(found.garments, tmp_path / "without", options(margin=0.5, background="white"))[0])
    assert white[:4].mean() > 235
    assert np.abs(white[8:16, 7:13].astype(int) - photo[8:16, 7:13]).mean() < 12
    small = read_image(write_photos(found.garments, tmp_path / "small", options(margin=2.0, side_px=32))[0])
    assert max(small.shape) == 32
