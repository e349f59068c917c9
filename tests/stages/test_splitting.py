"""Split on datasets that leak or cannot be learned: versions of photos, empty values, classes that train lacks."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from seamline.base.coco import Coco
from seamline.base.splits import SPLITS
from stages.split import instances_of_images, print_report
from tests.conftest import square, write_dataset
from tests.stages.test_stage import run_stage, with_params

FOLDERS = {"train": "train", "valid": "val", "test": "test"}
PLAIN = {"classes": None, "images": None, "group_by": None, "background": 0.0}
NAMES = ("clothes", "shirt", "skirt")  # Roboflow puts the project's name first


def write_versions(folder: Path, looks: int = 12, spread: bool = False) -> None:
    """Looks as Roboflow exports them, in three versions that no hash ties: noise of its own each.

    Args:
        spread: versions of a look lie in all three splits, as in exports that were merged.
    """
    rng = np.random.default_rng(0)
    images: dict[str, list[Any]] = defaultdict(list)
    annotations: dict[str, list[Any]] = defaultdict(list)
    for look in range(looks):
        for version in range(3):
            split = list(FOLDERS)[version if spread else look % 3]
            (folder / split).mkdir(parents=True, exist_ok=True)
            name = f"look{look:02d}_jpg.rf.{look * 3 + version:032x}.jpg"
            cv2.imwrite(str(folder / split / name), rng.integers(0, 255, (60, 40, 3), dtype=np.uint8))
            number = len(images[split])
            images[split].append(
                {"id": number, "file_name": name, "height": 60, "width": 40, "extra": {"name": f"look{look:02d}.jpg"}}
            )
            annotations[split].append(
                {"id": number, "image_id": number, "category_id": 1 + look % 2, "bbox": [8, 5, 20, 20],
                 "segmentation": [square(8, 5, 20)], "area": 400, "iscrowd": 0}
            )  # fmt: skip
    categories = [{"id": index, "name": name, "supercategory": "none"} for index, name in enumerate(NAMES)]
    for split, records in images.items():
        coco = {"images": records, "annotations": annotations[split], "categories": categories}
        (folder / split / "_annotations.coco.json").write_text(json.dumps(coco))


def splits_of_looks(folder: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for split in SPLITS:
        for image in json.loads((folder / "split" / f"{split}.json").read_text())["images"]:
            found[image.get("source_file_name", image["file_name"])[:6]].add(split)
    return found


def split(folder: Path, **params: Any) -> str:
    """What split says after pull and subset."""
    with_params(folder, {"subset": PLAIN, "split": {"group_by": None, **params}})
    for stage, paths in (
        ("pull", ("raw", "--source", "in")),
        ("subset", ("raw", "subset")),
        ("split", ("subset", "split")),
    ):
        done = run_stage(stage, folder, *paths)
        assert done.returncode == 0, done.stderr
    return done.stdout


def test_versions_of_a_look_stay_in_one_split(tmp_path: Path) -> None:
    """Pull calls them train__look00_jpg.rf...: the name they came with counts. Look 0 has two, the others three."""
    write_versions(tmp_path / "in")
    path = tmp_path / "in" / "train" / "_annotations.coco.json"
    coco = json.loads(path.read_text())
    path.write_text(json.dumps({**coco, "images": coco["images"][1:], "annotations": coco["annotations"][1:]}))
    said = split(tmp_path)
    assert "0 of 23 versions of a photo" in said
    assert {len(splits) for splits in splits_of_looks(tmp_path).values()} == {1}
    groups = json.loads((tmp_path / "split" / "groups.json").read_text())
    assert len(groups) == 35
    assert len(set(groups.values())) == 12
    images = json.loads((tmp_path / "subset" / "annotations.json").read_text())["images"]
    looks = {(groups[str(image["id"])], image["extra"]["name"]) for image in images}
    assert len(looks) == 12  # each group is one look's

    said = split(tmp_path, versions=False)
    assert "versions" not in said
    assert max(len(splits) for splits in splits_of_looks(tmp_path).values()) > 1
    assert json.loads((tmp_path / "split-report.json").read_text())["versions"] is None

    split(tmp_path, versions=False, group_by="extra.name")
    assert {len(splits) for splits in splits_of_looks(tmp_path).values()} == {1}


def test_equal_files_stay_in_one_split(tmp_path: Path) -> None:
    """Under names that say nothing, of the same size as all others, and with near-duplicates not looked for."""
    folder = write_dataset(tmp_path / "in", count=30)
    photos = sorted((folder / "photos").iterdir())
    for path in photos:
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    text = (folder / "instances.json").read_text().replace(".png", ".bmp")
    (folder / "instances.json").write_text(text)
    for number in range(1, 31, 3):  # three of each
        for copy in (number + 1, number + 2):
            shutil.copy(folder / "photos" / f"{number:03d}.bmp", folder / "photos" / f"{copy:03d}.bmp")
    split(tmp_path, near_duplicate_bits=None)
    where: dict[bytes, set[str]] = {}
    for name in SPLITS:
        for image in json.loads((tmp_path / "split" / f"{name}.json").read_text())["images"]:
            where.setdefault((tmp_path / "subset" / "images" / image["file_name"]).read_bytes(), set()).add(name)
    assert (len(where), {len(splits) for splits in where.values()}) == (10, {1})


def test_versions_across_official_splits_are_counted(tmp_path: Path) -> None:
    write_versions(tmp_path / "in", spread=True)
    said = split(tmp_path, official={name: name for name in SPLITS})
    assert {len(splits) for splits in splits_of_looks(tmp_path).values()} == {3}
    assert "24 of 24 versions of a photo" in said  # two others for each look, each in a split of its own
    assert json.loads((tmp_path / "split-report.json").read_text())["versions_across_splits"] == 24


def test_a_class_in_official_test_alone_is_said(tmp_path: Path) -> None:
    """Looks 2, 5, 8 and 11 are the test split."""
    write_versions(tmp_path / "in")
    for split_folder in FOLDERS:
        path = tmp_path / "in" / split_folder / "_annotations.coco.json"
        coco = json.loads(path.read_text())
        for record in coco["annotations"]:
            record["category_id"] = 2 if split_folder == "test" else 1
        path.write_text(json.dumps(coco))
    said = split(tmp_path, official={name: name for name in SPLITS})
    assert "skirt: no instance in train, so that the model cannot learn it" in said
    assert "shirt: no instance" not in said.replace("skirt: no instance", "")
    assert "test: 4 groups with an instance; intervals need 15" in said


def test_an_official_val_of_background_alone_stops(tmp_path: Path) -> None:
    write_versions(tmp_path / "in")
    path = tmp_path / "in" / "valid" / "_annotations.coco.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    choice = {"subset": {**PLAIN, "background": 0.5}, "split": {"group_by": None, "official": {n: n for n in SPLITS}}}
    with_params(tmp_path, choice)
    assert run_stage("pull", tmp_path, "raw", "--source", "in").returncode == 0
    assert run_stage("subset", tmp_path, "raw", "subset").returncode == 0
    done = run_stage("split", tmp_path, "subset", "split")
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "split: val has no instance to check exported models with; use more images, or change split.ratios or "
        "split.official."
    )
    assert not (tmp_path / "split").exists()


def test_crowds_are_no_instances_of_an_image() -> None:
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 9, "height": 9} for number in (7, 3)]
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd}
        for number, (image, category, crowd) in enumerate([(3, 2, 0), (3, 2, 0), (7, 5, 1), (7, 2, 1), (3, 5, 0)])
    ]
    records = [[msgspec.Raw(msgspec.json.encode(record)) for record in part] for part in (images, annotations)]
    categories = [msgspec.Raw(msgspec.json.encode({"id": number, "name": str(number)})) for number in (5, 2)]
    image_of, instances = instances_of_images(Coco(records[0], records[1], categories))
    assert image_of.tolist() == [1, 1, 0, 0, 1]
    assert instances.tolist() == [[0, 0], [1, 2]]


def test_too_few_groups_for_an_interval_are_said_of_val_and_of_test(capsys: pytest.CaptureFixture[str]) -> None:
    report: dict[str, Any] = {
        split: {"images": 20, "share": 1 / 3, "groups_showing_an_instance": groups, "classes": {"top": {}}}
        for split, groups in (("train", 1), ("val", 14), ("test", 15))
    }
    report |= {"near_duplicates": None, "versions": None, "leaked_groups": 0, "groups": 30, "largest_group_share": 0.1}
    print_report(report, ["top", "skirt"], 0.2)
    said = capsys.readouterr().out
    assert "val: 14 groups with an instance; intervals need 15" in said
    assert "test:" not in said and "train:" not in said
    assert "skirt: no instance in train" in said and "top: no" not in said
    report["val"]["groups_showing_an_instance"], report["test"]["groups_showing_an_instance"] = 15, 1
    print_report(report, ["top"], 0.2)
    assert "test: 1 group with an instance; intervals need 15" in capsys.readouterr().out
