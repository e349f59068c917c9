"""Every layout, as it is handed out, through the same canonical form."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scipy.io import loadmat, savemat

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import copy
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.layouts.annotation_files import find_annotations
from seamline.ingest.layouts.deepfashion2 import NAMES
from seamline.ingest.layouts.recognition import layouts_of, read_source
from seamline.ingest.layouts.split_names import split_of_file
from seamline.masks.rle import mask_to_rle, rle_to_mask, segmentation_to_rle
from tests.conftest import HAS_SHARED_DATA, SHARED_DATA, square, write_dataset
from tests.ingest.test_canonical import check_canonical


def pulled(folder: Path, target: Path, layout: str | None = None, annotations: Any = None) -> tuple[Record, Record]:
    target.mkdir()
    report = canonicalise(read_source(folder, layout, annotations), target, copy)
    check_canonical(target)
    return report, json.loads((target / "annotations.json").read_text())


def photo(path: Path, width: int = 40, height: int = 60, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value, 120, 60)).save(path)


def item(category_id: int, polygons: list[list[float]], **changes: Any) -> dict[str, Any]:
    return {
        "segmentation": polygons, "scale": 2, "viewpoint": 3, "zoom_in": 1, "occlusion": 1, "style": 4,
        "landmarks": [10, 10, 2], "bounding_box": [5, 10, 25, 30], "category_id": category_id,
        "category_name": NAMES[category_id - 1], **changes,
    }  # fmt: skip


def write_deepfashion2(folder: Path) -> Path:
    for split, count in (("train", 3), ("validation", 2)):
        for number in range(1, count + 1):
            photo(folder / split / "image" / f"{number:06d}.jpg", value=number)
            found = {
                "source": "shop" if number == 1 else "user",
                "pair_id": 7 if split == "train" else 8,
                "item1": item(1, [square(5, 10, 20)]),
                "item2": item(8, [square(5, 32, 20), square(10, 36, 8)], bounding_box=[5, 32, 25, 52]),
            }
            path = folder / split / "annos" / f"{number:06d}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(found))
    photo(folder / "test" / "image" / "000001.jpg")  # the official test split has no annotations
    return folder


def test_deepfashion2(tmp_path: Path) -> None:
    report, coco = pulled(write_deepfashion2(tmp_path / "in"), tmp_path / "out")
    assert report["layout"] == "deepfashion2"
    assert report["official_splits"] == {"train": 3, "val": 2}
    assert (report["images"], report["annotations"], report["categories"]) == (5, 10, 13)
    assert report["dropped"] == {}
    assert [image["file_name"] for image in coco["images"]] == [
        "train__000001.jpg", "train__000002.jpg", "train__000003.jpg", "val__000001.jpg", "val__000002.jpg",
    ]  # fmt: skip
    assert coco["images"][3]["source_file_name"] == "validation/image/000001.jpg"
    assert [(image["pair_id"], image["source"], image["split"]) for image in coco["images"]][2:4] == [
        (7, "user", "train"),
        (8, "shop", "val"),
    ]
    record = coco["annotations"][1]
    assert record["bbox"] == [5, 32, 20, 20]
    assert [record[key] for key in ("scale", "viewpoint", "zoom_in", "occlusion", "style", "item")] == [
        2, 3, 1, 1, 4, "item2",
    ]  # fmt: skip
    assert [category["name"] for category in coco["categories"]] == list(NAMES)


def test_deepfashion2_one_split_alone(tmp_path: Path) -> None:
    folder = write_deepfashion2(tmp_path / "in")
    report, coco = pulled(folder / "validation", tmp_path / "out")
    assert (report["layout"], report["images"], report["official_splits"]) == ("deepfashion2", 2, {"val": 2})
    assert [image["file_name"] for image in coco["images"]] == ["000001.jpg", "000002.jpg"]


def test_deepfashion2_with_damage(tmp_path: Path) -> None:
    folder = write_deepfashion2(tmp_path / "in")
    annos = folder / "train" / "annos"
    (annos / "000001.json").write_text("{broken")
    (annos / "000002.json").write_text(
        json.dumps({"pair_id": 1, "item1": item(1, [square(5, 10, 20)], category_name="vest")})
    )
    (annos / "000009.json").write_text(json.dumps({"pair_id": 1, "item1": item(1, [square(5, 10, 20)])}))
    report, _ = pulled(folder, tmp_path / "out")
    assert report["dropped"] == {
        "annotation: its category is unknown": 1,  # its number and its name differ
        "annotation: its image was dropped": 1,
        "image: file is missing": 1,
        "image: its annotation file cannot be read": 1,
    }


def write_fashionpedia(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Train in polygons, val in RLE, compressed and not, of the same masks; ids from 0."""
    polygons = [[square(3, 4, 20)], [square(10, 30, 15), square(30, 40, 8)]]
    for split, place in (("train", "train"), ("val", "test")):
        images = [{"id": n, "file_name": f"{split}{n}.jpg", "width": 40, "height": 60} for n in range(2)]
        for image in images:
            photo(folder / place / str(image["file_name"]))
        annotations = []
        for number in range(4):
            segmentation: Any = polygons[number % 2]
            if split == "val":
                rle = segmentation_to_rle(segmentation, 60, 40)
                mask = rle_to_mask(rle)
                flat = mask.flatten(order="F")
                runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
                segmentation = mask_to_rle(mask) if number < 2 else {"size": [60, 40], "counts": runs}
            annotations.append(
                {
                    "id": number, "image_id": number // 2, "category_id": 3 * (number % 2), "iscrowd": 0, "area": 300,
                    "attribute_ids": [number, 17], "segmentation": segmentation,
                    "bbox": ([3, 4, 20, 20], [10, 30, 28, 18])[number % 2],
                }
            )  # fmt: skip
        document = {
            "info": {}, "images": images, "annotations": annotations,
            "categories": [{"id": 0, "name": "shirt, blouse"}, {"id": 3, "name": "cardigan"}],
            "attributes": [{"id": 17, "name": "symmetrical", "supercategory": "silhouette"}],
        }  # fmt: skip
        (folder / f"instances_attributes_{split}2020.json").write_text(json.dumps(document))
        (folder / f"attributes_{split}2020.json").write_text(json.dumps({**document, "annotations": []}))
    return folder, {"polygons": polygons}


def test_fashionpedia(tmp_path: Path) -> None:
    folder, _ = write_fashionpedia(tmp_path / "in")
    report, coco = pulled(folder, tmp_path / "out")
    assert report["layout"] == "fashionpedia"
    assert report["official_splits"] == {"train": 2, "val": 2}
    assert (report["images"], report["annotations"], report["dropped"]) == (4, 8, {})
    assert coco["attributes"][0]["name"] == "symmetrical"
    assert [category["id"] for category in coco["categories"]] == [0, 3]
    assert [record["attribute_ids"] for record in coco["annotations"]].count([1, 17]) == 2
    masks = COCO(str(tmp_path / "out" / "annotations.json"))
    by_split: dict[str, list[Any]] = {"train": [], "val": []}
    for record in sorted(masks.anns.values(), key=lambda record: (record["image_id"], record["category_id"])):
        by_split[masks.imgs[record["image_id"]]["split"]].append(masks.annToMask(record))
    for first, second in zip(by_split["train"], by_split["val"], strict=True):
        assert (first == second).all()  # the same from polygons and from RLE


def write_ccp(folder: Path) -> Path:
    labels = np.zeros((60, 40), np.uint8)
    labels[5:20, 5:30], labels[40:50, 4:12], labels[40:50, 24:32] = 1, 2, 2
    for number in (1, 7):
        photo(folder / "photos" / f"{number:04d}.jpg")
        path = folder / "annotations" / "pixel-level" / f"{number:04d}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"groundtruth": labels})
    photo(folder / "photos" / "0009.jpg")  # with tags for the whole image only
    names = np.empty((1, 3), object)
    names[0] = [np.array([name]) for name in ("null", "shirt", "shoes")]
    savemat(folder / "label_list.mat", {"label_list": names})
    return folder


def test_clothing_co_parsing(tmp_path: Path) -> None:
    report, coco = pulled(write_ccp(tmp_path / "in"), tmp_path / "out")
    assert report["layout"] == "ccp"
    assert (report["images"], report["annotations"], report["files_without_record"]) == (2, 4, 1)
    assert report["dropped"] == report["repaired"] == {}
    assert [image["id"] for image in coco["images"]] == [1, 7]
    assert coco["categories"] == [{"id": 1, "name": "shirt"}, {"id": 2, "name": "shoes"}]
    shoes = rle_to_mask(coco["annotations"][1]["segmentation"])
    assert shoes.sum() == 160  # both of them are one instance
    (tmp_path / "in" / "annotations" / "pixel-level" / "0001.mat").write_bytes(b"no mat")
    report, _ = pulled(tmp_path / "in", tmp_path / "again")
    assert report["dropped"] == {"image: its label map cannot be read": 1}


@pytest.mark.skipif(not HAS_SHARED_DATA, reason="the real label maps are not on this machine")
def test_real_label_maps_pixel_by_pixel(tmp_path: Path) -> None:
    report, _ = pulled(SHARED_DATA / "ccp-mini", tmp_path / "out", layout="ccp")
    assert (report["images"], report["dropped"]) == (120, {})
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    for image_id in sorted(coco.imgs)[::10]:
        labels = loadmat(SHARED_DATA / "ccp-mini" / "annotations" / "pixel-level" / f"{image_id:04d}.mat")[
            "groundtruth"
        ]
        again = np.zeros_like(labels)
        for record in coco.imgToAnns[image_id]:
            again[coco.annToMask(record) > 0] = record["category_id"]
        assert (again == labels).all()


def test_coco_with_a_file_for_each_split(tmp_path: Path) -> None:
    """As Roboflow exports it: the same names and ids in each folder, the annotation file beside the images."""
    for split in ("train", "valid", "test"):
        write_dataset(tmp_path / "in" / split, count=2)
        (tmp_path / "in" / split / "instances.json").rename(tmp_path / "in" / split / "_annotations.coco.json")
    report, coco = pulled(tmp_path / "in", tmp_path / "out")
    assert report["official_splits"] == {"test": 2, "train": 2, "val": 2}
    assert (report["images"], report["annotations"], report["dropped"]) == (6, 12, {})
    assert [image["file_name"] for image in coco["images"]][:3] == ["train__001.png", "train__002.png", "val__001.png"]
    assert len({record["id"] for record in coco["annotations"]}) == 12
    _, named = pulled(tmp_path / "in", tmp_path / "named", annotations={"train": "valid/_annotations.coco.json"})
    assert [image["split"] for image in named["images"]] == ["train", "train"]


def test_files_that_are_read_together_are_one_dataset(tmp_path: Path) -> None:
    """Jobs over the same photos, each with the garments of one category, whose ids differ; and tasks of their own."""
    folder = write_dataset(tmp_path / "in")
    coco = json.loads((folder / "instances.json").read_text())
    (folder / "instances.json").unlink()
    for job, (category, shift) in enumerate(((1, 0), (2, 40))):
        images = [{**image, "id": image["id"] + shift} for image in coco["images"][job:]]
        annotations = [
            {**one, "image_id": one["image_id"] + shift, "category_id": 1}
            for one in coco["annotations"]
            if one["category_id"] == category
        ]
        categories = [{**next(one for one in coco["categories"] if one["id"] == category), "id": 1}]
        part = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"job_{job}.json").write_text(json.dumps(part))
    report, found = pulled(folder, tmp_path / "out", annotations=["job_0.json", "job_1.json"])
    names = {image["id"]: image["file_name"] for image in found["images"]}
    classes = {category["id"]: category["name"] for category in found["categories"]}
    kept = {(names[one["image_id"]], classes[one["category_id"]], *one["bbox"]) for one in found["annotations"]}
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    classes = {category["id"]: category["name"] for category in coco["categories"]}
    given = {(names[one["image_id"]], classes[one["category_id"]], *one["bbox"]) for one in coco["annotations"]}
    assert given - kept == {row for row in given if row[:2] == ("001.png", classes[2])}  # not an image of job_1
    assert kept <= given
    assert (report["images"], report["annotations"]) == (6, len(kept))
    assert report["repaired"]["image: also in another annotation file, taken for the same"] == 5
    for number, image in enumerate(coco["images"]):
        image["height"] += number == 0
    (folder / "job_2.json").write_text(json.dumps(coco))
    report, _ = pulled(folder, tmp_path / "sizes", annotations=["job_1.json", "job_0.json", "job_2.json"])
    assert report["dropped"]["image: another annotation file has it with another size"] == 1


def test_tasks_have_their_own_photos_of_one_name(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = write_dataset(tmp_path / "in" / f"task_{number}")
        (folder / "annotations").mkdir()
        (folder / "instances.json").rename(folder / "annotations" / "instances_default.json")
        for path in (folder / "photos").iterdir():
            photo(path, value=number)
    files = [f"task_{number}/annotations/instances_default.json" for number in (2, 1)]
    report, coco = pulled(tmp_path / "in", tmp_path / "out", annotations=files)
    assert (report["images"], report["annotations"]) == (12, 24)
    pixels = [np.asarray(Image.open(tmp_path / "out" / "images" / one["file_name"]))[0, 0, 0] for one in coco["images"]]
    assert pixels == [2] * 6 + [1] * 6


def test_annotation_files_are_found_or_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    (folder / "other.json").write_text('{"licences": []}')
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._instances.json").write_text((folder / "instances.json").read_text())
    assert find_annotations(folder, None) == [(None, folder / "instances.json")]
    (folder / "second.json").write_text((folder / "instances.json").read_text())
    with pytest.raises(SeamlineError, match=r"several COCO files \(instances.json, second.json\)"):
        find_annotations(folder, None)
    assert find_annotations(folder, "second.json") == [(None, folder / "second.json")]
    for name in ("third.json", "../in/second.json/..", "/etc/passwd"):
        with pytest.raises(SeamlineError, match="is not a file of the source"):
            find_annotations(folder, name)
    (folder / "second.json").rename(folder / ".second.json")  # a hidden folder's would be left aside, but not this one
    with pytest.raises(SeamlineError, match=r"several COCO files \(.second.json, instances.json\)"):
        find_annotations(folder, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeamlineError, match="has no COCO annotation file"):
        find_annotations(tmp_path / "empty", None)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("annotations/instances_train2017.json", "train"), ("instances_attributes_val2020.json", "val"),
        ("valid/_annotations.coco.json", "val"), ("training/a.json", "train"), ("trainers.json", None),
        ("train_val.json", None), ("data/a.json", None), ("test.json", "test"),
        ("train/instances_val.json", "val"), ("val/train_test.json", None),
    ],
)  # fmt: skip
def test_the_split_that_a_name_says(name: str, split: str | None) -> None:
    assert split_of_file(Path(name)) == split


def test_a_layout_is_recognised_and_can_be_overridden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = write_ccp(write_dataset(tmp_path / "both"))
    assert layouts_of(both) == ["coco", "ccp"]
    assert pulled(both, tmp_path / "a")[0]["layout"] == "coco"
    assert "pull.layout chooses ccp" in capsys.readouterr().out
    assert pulled(both, tmp_path / "b", layout="ccp")[0]["layout"] == "ccp"
    deepfashion2 = write_deepfashion2(tmp_path / "df2")
    write_dataset(deepfashion2 / "keypoints")  # COCO files of something else come with it
    assert layouts_of(deepfashion2) == ["deepfashion2"]
    assert pulled(deepfashion2, tmp_path / "c", annotations="keypoints/instances.json")[0]["layout"] == "coco"
    for layout, sentence in (
        ("fashionpedia", "one instances_attributes_"),
        ("deepfashion2", "no folder with image/ and annos/"),
        ("ccp", "no label_list.mat"),
    ):
        with pytest.raises(SeamlineError, match=sentence):
            read_source(write_dataset(tmp_path / layout), layout, None)
    with pytest.raises(SeamlineError, match="names a COCO file, but"):
        read_source(both, "ccp", "instances.json")


def test_folders_called_as_deepfashion2s_with_a_coco_file_in_them(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    (folder / "photos").rename(folder / "image")
    (folder / "annos").mkdir()
    (folder / "instances.json").rename(folder / "annos" / "instances.json")
    report, _ = pulled(folder, tmp_path / "out")
    assert (report["layout"], report["images"]) == ("coco", 6)


def test_hidden_copies_are_of_no_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_dataset(tmp_path / "in")
    write_deepfashion2(folder / ".trash")
    write_ccp(folder / ".cache")
    write_fashionpedia(folder / ".git")
    for place in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        shutil.copytree(folder / "photos", folder / place / "photos")
        shutil.copy(folder / "instances.json", folder / place)
    assert layouts_of(folder) == ["coco"]
    report, coco = pulled(folder, tmp_path / "out")
    assert (report["layout"], report["images"], report["dropped"]) == ("coco", 6, {})
    for image in coco["images"]:
        ours = (folder / "photos" / image["file_name"]).read_bytes()
        assert (tmp_path / "out" / "images" / image["file_name"]).read_bytes() == ours
    said = capsys.readouterr().out
    assert ".git/instances_attributes_train2020.json" in said
    assert "pictures without a record in hidden folders" in said


def test_the_only_coco_file_may_be_in_a_hidden_folder(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    (folder / ".exports").mkdir()
    (folder / "instances.json").rename(folder / ".exports" / "instances.json")
    assert pulled(folder, tmp_path / "out")[0]["images"] == 6


def test_a_file_called_as_of_another_task_counts_where_it_is_the_only_one(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    (folder / "instances.json").rename(folder / "labels.json")
    assert find_annotations(folder, None) == [(None, folder / "labels.json")]


def test_one_file_of_a_split_and_one_of_none_have_to_be_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    (folder / "train.json").write_text((folder / "instances.json").read_text())
    with pytest.raises(SeamlineError, match=r"several COCO files \(instances.json, train.json\); name in pull"):
        find_annotations(folder, None)


def test_files_of_other_tasks_are_left_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """COCO's own names, Datumaro's and Supervisely's; a split without a mask of its own is a split all the same."""
    folder = write_dataset(tmp_path / "in")
    coco = json.loads((folder / "instances.json").read_text())
    (folder / "instances.json").rename(folder / "instances_train2017.json")
    for name, records in {
        "captions_train2017": [{"id": 1, "image_id": 1, "caption": "a shirt"}],
        "person_keypoints_train2017": coco["annotations"],
        "image_info_test2017": [],
        "boxes_train": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
        "background_val": [],
    }.items():
        (folder / f"{name}.json").write_text(json.dumps({**coco, "annotations": records}))
    found = find_annotations(folder, None)
    assert found == [("train", folder / "instances_train2017.json"), ("val", folder / "background_val.json")]
    said = capsys.readouterr().out
    assert all(name in said for name in ("captions_", "person_keypoints_", "image_info_", "boxes_train"))


@pytest.mark.parametrize("photos", ["photos", "images", "JPEGImages"])
def test_masks_with_the_photos_names_stay_beside(tmp_path: Path, photos: str) -> None:
    folder = write_dataset(tmp_path / "in")
    (folder / "photos").rename(folder / photos)
    for place in ("masks", f"{photos}/.thumbnails", "SegmentationClass"):
        (folder / place).mkdir()
        for path in (folder / photos).glob("*.png"):
            Image.new("L", (40, 60)).save(folder / place / path.name)
    report, coco = pulled(folder, tmp_path / "out")
    assert (report["images"], report["dropped"], report["files_without_record"]) == (6, {}, 18)
    for image in coco["images"]:
        ours = (folder / photos / image["file_name"]).read_bytes()
        assert (tmp_path / "out" / "images" / image["file_name"]).read_bytes() == ours


def test_a_parameter_names_the_photos_folder(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    shutil.copytree(folder / "photos", folder / "small")
    shutil.copytree(folder / "photos", folder / "masks")
    for number, place in enumerate(("photos", "small", "masks")):
        for path in (folder / place).iterdir():
            photo(path, value=number)
    with pytest.raises(
        SeamlineError, match=r"'001.png' fits 2 files, such as photos/001.png, small/001.png; .* pull.images"
    ):
        read_source(folder, None, None)
    for number, place in enumerate(("photos", "small", "masks")):
        (tmp_path / place).mkdir()
        report = canonicalise(read_source(folder, None, None, place), tmp_path / place, copy)
        assert (report["images"], report["files_without_record"]) == (6, 0)
        assert np.asarray(Image.open(tmp_path / place / "images" / "001.png"))[0, 0, 0] == number
    for wrong in ("none", "..", "/etc", "instances.json"):
        with pytest.raises(SeamlineError, match="is not a folder of the source"):
            read_source(folder, None, None, wrong)
    with pytest.raises(SeamlineError, match="but the layout is deepfashion2"):
        read_source(write_deepfashion2(tmp_path / "df2"), None, None, "train/image")


def test_some_addresses_without_a_file_are_said_and_the_other_photos_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_dataset(tmp_path / "in")
    coco = json.loads((folder / "instances.json").read_text())
    for image in coco["images"][:2]:
        image["file_name"] = f"https://host.example/other/{image['id']}.png"
    (folder / "instances.json").write_text(json.dumps(coco))
    report, _ = pulled(folder, tmp_path / "out")
    assert (report["images"], report["dropped"]["image: file is missing"]) == (4, 2)
    assert "instances.json: file_names are addresses (2), such as 'https://host.example/" in capsys.readouterr().out


def test_nothing_outside_of_the_source_is_opened(tmp_path: Path) -> None:
    """Names of files that are there, outside: absolute, relative, as an address."""
    folder = write_dataset(tmp_path / "in", count=4)
    secret = tmp_path / "secret"
    names = [str(secret / "001.png"), "../secret/002.png", f"file://{secret}/003.png", "../secret/004.png"]
    coco = json.loads((folder / "instances.json").read_text())
    for image, name in zip(coco["images"], names, strict=True):
        photo(secret / image["file_name"], value=image["id"])
        image["file_name"] = name
    (folder / "photos" / "004.png").unlink()
    (folder / "instances.json").write_text(json.dumps(coco))
    opened: list[str] = []
    watching = True

    def watch(event: str, args: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(str(args[0]))

    sys.addaudithook(watch)  # for good: Python cannot take it out again
    report, _ = pulled(folder, tmp_path / "out")
    watching = False
    assert any(path.startswith(str(folder / "photos")) for path in opened)
    assert not any("secret" in path for path in opened)
    assert (report["images"], report["dropped"]["image: file is missing"]) == (3, 1)
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "photos").iterdir()}
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "out" / "images").iterdir()} == hashes


NO_TEXT = "caf\udce9"  # as Python has a name with the byte e9, which is Latin-1's é and not UTF-8


@pytest.mark.skipif(sys.platform == "darwin", reason="its disks take names in UTF-8 only")
@pytest.mark.parametrize(("write", "images"), [(write_dataset, 5), (write_deepfashion2, 5), (write_ccp, 2)])
def test_file_names_that_are_not_utf_8_stop_no_layout(
    tmp_path: Path, write: Callable[[Path], Path], images: int
) -> None:
    folder = write(tmp_path / "in")
    (folder / NO_TEXT).mkdir()
    for suffix in (".txt", ".jpg", ".json"):
        (folder / NO_TEXT / f"{NO_TEXT}{suffix}").write_bytes(b"{}")
    for place in ("train/image", "train/annos", "photos", "annotations/pixel-level"):
        if (folder / place).is_dir():
            first = min((folder / place).iterdir())
            first.rename(first.with_name(NO_TEXT + first.suffix))
    report, _ = pulled(folder, tmp_path / "out")
    assert report["images"] == images


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("filename", "{}"), ("coco_url", "http://images.cocodataset.org/train2017/{}"),
    ],
)  # fmt: skip
def test_a_file_name_in_another_field_is_taken_from_there(tmp_path: Path, field: str, value: str) -> None:
    folder = write_dataset(tmp_path / "in")
    coco = json.loads((folder / "instances.json").read_text())
    names = [image.pop("file_name") for image in coco["images"]]
    for image, name in zip(coco["images"], names, strict=True):
        image[field] = value.format(name)
    (folder / "instances.json").write_text(json.dumps(coco))
    report, found = pulled(folder, tmp_path / "out")
    assert report["repaired"]["image: its file name was in another field, taken from there"] == 6
    assert [image["file_name"] for image in found["images"]] == names


def test_what_may_be_meant_is_said_where_names_have_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_dataset(tmp_path / "in")
    for path in sorted((folder / "photos").iterdir()):
        path.rename(path.with_name(f"look_{path.name}"))
    with pytest.raises(SeamlineError, match=r"no image of it can be used \(6 images: file is missing\)"):
        pulled(folder, tmp_path / "out")
    assert "no file is called '001.png'; the nearest is 'photos/look_001.png'" in capsys.readouterr().out
    for name, twins in (("look_001.png", ("001.Png", "001.PNG")),):
        shutil.copy(folder / "photos" / name, folder / "photos" / twins[0])
        (folder / "photos" / name).rename(folder / "photos" / twins[1])
    with pytest.raises(SeamlineError, match="no image of it can be used"):
        pulled(folder, tmp_path / "twins")
    said = capsys.readouterr().out
    assert "such as 'photos/001.PNG' and 'photos/001.Png' from '001.png'; rename the one that is meant" in said
    assert "pull.images" not in said
