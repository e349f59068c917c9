"""Crowds: what is said of them in pull, and what becomes of photos that show nothing else, as pycocotools counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from seamline.ingest.canonical.crowds import Crowds, mask_form
from tests.conftest import square, write_dataset
from tests.ingest.drawn import drawn, pulled, write
from tests.stages.test_stage import run_stage, with_params


def rle(y: int) -> dict[str, Any]:
    mask = np.zeros((60, 40), np.uint8, order="F")
    mask[y : y + 20, 8:28] = 1
    encoded = coco_mask.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([(rle(5), 1)] * 5 + [([square(8, 5, 20)], 0)], "all 5 of RLE, none of the 1 others"),
        ([(rle(5), 1)] * 4 + [([square(8, 5, 20)], 0)], None),  # too few to be a habit
        ([(rle(5), 1), ([square(8, 5, 20)], 0)], None),
        ([(rle(5), 1), (rle(9), 1)], "all 2 of RLE, no others"),
        (
            [([square(8, 5, 9), square(20, 5, 9)], 1)] * 5 + [([square(8, 5, 20)], 0)],
            "all 5 of several polygons, none of the 1",
        ),
        (
            [([square(8, 5, 9), square(20, 5, 9)], 1)] + [(rle(5), 1)] * 4 + [([square(8, 5, 20)], 0)],
            "all 4 of RLE and all 1 of several",
        ),
        ([([square(8, 5, 9)], 1), ([square(8, 5, 20)], 1)], "all 2 of one polygon, no others"),
        ([(rle(5), 1), (rle(9), 0)], None),
        ([(rle(5), 1), ([square(8, 5, 20)], 0), ([square(8, 5, 9)], 1)], None),
        ([(rle(5), 0), ([square(8, 5, 20)], 0)], None),
        ([(rle(5), 1)] * 9 + [(rle(5), 0)] + [([square(8, 5, 20)], 0)] * 4, "9 of 10 of RLE, none of the 4 others"),
        ([(rle(5), 1)] * 8 + [(rle(5), 0)] + [([square(8, 5, 20)], 0)] * 4, None),
        (
            [(rle(5), 1)] * 9 + [([square(8, 5, 9)], 1)] + [([square(8, 5, 20)], 0)] * 9,
            "all 9 of RLE, 1 of the 10 others",
        ),
        ([(rle(5), 1)] * 9 + [([square(8, 5, 9)], 1)] + [([square(8, 5, 20)], 0)] * 8, None),
        ([], None),
    ],
)
def test_a_habit_is_said(masks: list[tuple[Any, int]], said: str | None) -> None:
    crowds = Crowds()
    for segmentation, iscrowd in masks:
        crowds.count(mask_form(segmentation), iscrowd)
    sentence = crowds.habit()
    assert (sentence is None) == (said is None)
    assert said is None or (said in str(sentence) and "subset.crowd: instances" in str(sentence))


def made(folder: Path, crowds: dict[int, Any]) -> Path:
    """Six photos; the annotations of these numbers, from 0, are RLE with this iscrowd."""
    write_dataset(folder)
    coco = json.loads((folder / "instances.json").read_text())
    for number, value in crowds.items():
        coco["annotations"][number] |= {"segmentation": rle(5 if number % 2 == 0 else 30), "iscrowd": value}
    (folder / "instances.json").write_text(json.dumps(coco))
    return folder


def chosen(folder: Path, **subset: Any) -> tuple[str, COCO, dict[str, Any]]:
    """What pull and subset say, and what they make."""
    with_params(folder, {"subset": {"classes": None, "images": None, "group_by": None, "background": 0.5, **subset}})
    pulled = run_stage("pull", folder, "raw", "--source", "in")
    assert pulled.returncode == 0, pulled.stderr
    done = run_stage("subset", folder, "raw", "subset")
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "subset-report.json").read_text())
    return pulled.stdout + done.stdout, COCO(folder / "subset" / "annotations.json"), report


def test_a_photo_of_crowds_alone_is_not_background(tmp_path: Path) -> None:
    """Photo 1 has two crowds, photo 2 one and trousers, 3 to 6 none; true and [1] say 1 as well."""
    made(tmp_path / "in", {0: True, 1: [1], 2: 1})
    said, coco, report = chosen(tmp_path)
    assert coco.getImgIds() == [2, 3, 4, 5, 6]
    assert len(coco.getAnnIds(imgIds=[2])) == 2
    instances = [len(coco.getAnnIds(catIds=[category], iscrowd=False)) for category in (1, 2)]
    assert [shown["instances"] for shown in report["classes"].values()] == instances == [4, 5]
    assert report["crowds"] == len(coco.getAnnIds(iscrowd=True)) == 1
    assert (report["images_of_crowds_only"], report["images_of_left_out_instances_only"]) == (1, 0)
    assert "a tool's habit" not in said  # three crowds may be crowds
    assert "left out 1 image that only crowds (iscrowd 1) show" in said
    assert "5 images, 4 short sleeve top, 5 trousers, 1 crowd\n" in said


def test_crowds_can_be_taken_for_instances(tmp_path: Path) -> None:
    made(tmp_path / "in", {0: True, 1: [1], 2: 1})
    said, coco, report = chosen(tmp_path, crowd="instances")
    assert coco.getImgIds() == [1, 2, 3, 4, 5, 6]
    assert len(coco.getAnnIds(iscrowd=False)) == 12
    assert report["crowds"] == 0
    assert "6 images, 6 short sleeve top, 6 trousers\n" in said
    masks = [coco.annToMask(coco.anns[number]).sum() for number in (1, 2, 3)]
    assert masks == [400, 400, 400]


def test_a_photo_whose_annotations_pull_left_out_is_not_background(tmp_path: Path) -> None:
    """Photo 1 has boxes alone, photo 2 a top and a box of trousers, photo 3 one of each twice; 4 to 6 are empty."""
    made(tmp_path / "in", {})
    coco = json.loads((tmp_path / "in" / "instances.json").read_text())
    for number in (0, 1, 3):
        del coco["annotations"][number]["segmentation"]
    coco["annotations"] = [*coco["annotations"][:6], {**coco["annotations"][4], "id": 99}]
    (tmp_path / "in" / "instances.json").write_text(json.dumps(coco))
    said, _, report = chosen(tmp_path)
    assert "dropped 3: annotation: has a box and no mask" in said
    assert json.loads((tmp_path / "raw" / "annotations.json").read_text())["incomplete"] == [1, 2]
    assert json.loads((tmp_path / "raw-report.json").read_text())["incomplete_images"] == 2
    found = COCO(tmp_path / "subset" / "annotations.json")
    assert 1 not in found.getImgIds() and {2, 3} < set(found.getImgIds())
    assert report["images_of_left_out_instances_only"] == 1
    _, found, _ = chosen(tmp_path, classes={"trousers": ["trousers"]})  # of photo 2 nobody knows where they are
    assert not {1, 2} & set(found.getImgIds()) and 3 in found.getImgIds()


def test_one_of_several_files_without_a_usable_mask_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its photos may be divided among all splits, and none of them is background."""
    write(tmp_path / "in" / "train")
    write(tmp_path / "in" / "val", lambda _, record: record.pop("segmentation"), drawn(24)[20:])
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["incomplete_images"], len(found)) == (4, 20)
    said = "val/a.json: no annotation of it can be used (4 annotations: has a box and no mask)"
    assert said in capsys.readouterr().out


def test_what_says_ignore_is_not_trained_on(tmp_path: Path) -> None:
    """As in MMDetection's CocoDataset; pycocotools knows iscrowd alone, and would count it."""
    made(tmp_path / "in", {})
    coco = json.loads((tmp_path / "in" / "instances.json").read_text())
    for record, value in zip(coco["annotations"], (1, True, "1", 0, False, "0", None), strict=False):
        record["ignore"] = value
    (tmp_path / "in" / "instances.json").write_text(json.dumps(coco))
    said, chosen_coco, report = chosen(tmp_path)
    assert "repaired 3: annotation: says ignore, taken for a crowd" in said
    assert chosen_coco.getImgIds() == [2, 3, 4, 5, 6]  # photo 1 shows what is ignored alone, and is no background
    assert chosen_coco.getAnnIds(iscrowd=True) == [3]
    assert report["crowds"] == 1


def test_a_dataset_of_crowds_alone_stops_and_names_the_parameter(tmp_path: Path) -> None:
    made(tmp_path / "in", dict.fromkeys(range(12), 1))
    with_params(tmp_path, {"subset": {"classes": None, "images": None, "group_by": None}})
    pulled = run_stage("pull", tmp_path, "raw", "--source", "in")
    assert "all 12 of RLE, no others" in pulled.stdout
    done = run_stage("subset", tmp_path, "raw", "subset")
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "subset.crowd: all 12 annotations are crowds (iscrowd 1), which are not trained on; "
        "subset.crowd: instances takes them for instances."
    )


def test_a_class_of_crowds_alone_is_said(tmp_path: Path) -> None:
    made(tmp_path / "in", dict.fromkeys(range(0, 12, 2), 1))
    said, _, report = chosen(tmp_path)
    assert [shown["instances"] for shown in report["classes"].values()] == [0, 6]
    assert "short sleeve top: no instance to learn from" in said


def test_the_recipe_takes_fashionpedias_crowds_for_instances(tmp_path: Path) -> None:
    """Its own package loads annotations whatever their iscrowd (getAnnIds in fp.py), and matches each of them once."""
    recipe = Path(__file__).parents[2] / "recipes" / "fashionpedia.yaml"
    assert "crowd: instances" in recipe.read_text()
    made(tmp_path / "in", {0: 1, 3: 1})
    _, coco, _ = chosen(tmp_path, crowd="instances", background=0.0)
    assert len(coco.getAnnIds(iscrowd=False)) == 12
