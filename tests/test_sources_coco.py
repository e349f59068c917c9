from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.files import copy
from seamline.sources.coco import coco_to_canonical, find_annotations
from tests.conftest import SHARED_DATA, square, write_dataset


def canonical(folder: Path, target: Path) -> tuple[Record, Record]:
    target.mkdir()
    report = coco_to_canonical(folder, find_annotations(folder, None), target, copy)
    return report, json.loads((target / "annotations.json").read_text())


def test_a_clean_dataset_passes_through_with_all_its_fields(tmp_path: Path) -> None:
    report, coco = canonical(write_dataset(tmp_path / "in"), tmp_path / "out")
    assert report == {"images": 6, "annotations": 12, "categories": 2, "dropped": {}}
    assert coco["images"][0] == {"id": 1, "file_name": "001.png", "width": 40, "height": 60, "pair_id": 1}
    assert coco["annotations"][3]["scale"] == 2
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir())[0] == "001.png"


def test_string_ids_crowd_lists_and_missing_areas_are_mended(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    coco = json.loads((folder / "instances.json").read_text())
    for image in coco["images"]:
        image["id"] = f"{image['id']:06d}"
    for record in coco["annotations"]:
        record["image_id"] = f"{record['image_id']:06d}"
        record["is_crowd"] = [0]
        del record["iscrowd"], record["area"], record["bbox"]
    (folder / "instances.json").write_text(json.dumps(coco))
    report, mended = canonical(folder, tmp_path / "out")
    assert report["dropped"] == {}
    assert mended["images"][1]["id"] == 2
    assert mended["images"][1]["source_id"] == "000002"
    assert mended["annotations"][0]["bbox"] == [8, 5, 20, 20]
    assert mended["annotations"][0]["area"] == 400
    assert mended["annotations"][0]["iscrowd"] == 0
    assert "is_crowd" not in mended["annotations"][0]


def test_each_drop_is_counted_under_its_reason(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    coco = json.loads((folder / "instances.json").read_text())
    coco["images"][5]["width"] = 41
    coco["images"][4]["file_name"] = "missing.png"
    (folder / "photos" / "004.png").write_bytes(b"no image")
    wrong: list[dict[str, Any]] = [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [square(1, 1, 5)]},
        {"id": 100, "image_id": 1, "category_id": 9, "segmentation": [square(1, 1, 5)]},
        {"id": 101, "image_id": 77, "category_id": 1, "segmentation": [square(1, 1, 5)]},
        {"id": 102, "image_id": 1, "category_id": 1, "segmentation": [], "bbox": [1, 1, 5, 5]},
        {"id": 103, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 2, 2]]},
        {"id": 104, "image_id": 1, "category_id": 1, "segmentation": [square(500, 500, 5)]},
    ]
    coco["annotations"] += wrong
    (folder / "instances.json").write_text(json.dumps(coco))
    report, mended = canonical(folder, tmp_path / "out")
    assert report["dropped"] == {
        "annotation: another has the same id": 1,
        "annotation: has no usable mask": 2,
        "annotation: its category is unknown": 1,
        "annotation: its image is unknown or was dropped": 7,
        "annotation: its mask covers no pixel of the image": 1,
        "image: cannot be decoded": 1,
        "image: file is missing": 1,
        "image: has another size than its record says": 1,
    }
    assert report["images"] + 3 == 6
    assert report["annotations"] + 12 == 12 + len(wrong)
    assert all(record["segmentation"] for record in mended["annotations"])  # no mask is made up from a box


def test_files_that_differ_in_their_suffix_get_labels_of_their_own(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    for image, name in zip(coco["images"], ("x.png", "x.bmp"), strict=True):
        picture = np.asarray(cv2.imread(str(folder / "photos" / image["file_name"])))
        cv2.imwrite(str(folder / "photos" / name), picture)
        image["file_name"] = name
    (folder / "instances.json").write_text(json.dumps(coco))
    _, mended = canonical(folder, tmp_path / "out")
    assert [image["file_name"] for image in mended["images"]] == ["x.png", "x__2.bmp"]


def test_a_record_whose_file_is_missing_does_not_take_anothers(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    (folder / "val").mkdir()
    (folder / "photos" / "001.png").rename(folder / "val" / "001.png")
    coco["images"][0]["file_name"] = "train/001.png"  # not there
    coco["images"][1]["file_name"] = "val/001.png"
    (folder / "instances.json").write_text(json.dumps(coco))
    report, mended = canonical(folder, tmp_path / "out")
    assert report["dropped"]["image: file is missing"] == 1
    assert [image["source_file_name"] for image in mended["images"]] == ["val/001.png"]


def test_ids_from_zero_are_numbered_from_one(tmp_path: Path) -> None:
    """pycocotools takes a match with an instance of id 0 for none."""
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    for record in coco["annotations"]:
        record["id"] -= 1
    (folder / "instances.json").write_text(json.dumps(coco))
    _, mended = canonical(folder, tmp_path / "out")
    assert [record["id"] for record in mended["annotations"]] == [1, 2, 3, 4]
    assert [record["source_id"] for record in mended["annotations"]] == [0, 1, 2, 3]


def test_an_image_too_small_to_train_on_is_counted(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    cv2.imwrite(str(folder / "photos" / "001.png"), np.zeros((9, 40, 3), np.uint8))
    coco["images"][0]["height"] = 9
    (folder / "instances.json").write_text(json.dumps(coco))
    report, _ = canonical(folder, tmp_path / "out")
    assert report["dropped"]["image: a side has fewer than 10 pixels"] == 1


def test_nested_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    for image, part in zip(coco["images"], ("a", "b"), strict=True):
        (folder / "photos" / part).mkdir()
        (folder / "photos" / image["file_name"]).rename(folder / "photos" / part / "x.png")
        image["file_name"] = f"{part}/x.png"
    (folder / "instances.json").write_text(json.dumps(coco))
    _, mended = canonical(folder, tmp_path / "out")
    assert [image["file_name"] for image in mended["images"]] == ["x.png", "b__x.png"]
    assert [image.get("source_file_name") for image in mended["images"]] == ["a/x.png", "b/x.png"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": [{"id": 1, "file_name": "../../etc/passwd", "width": 1, "height": 1}]}, "leads out of the source"),
        ({"images": [{"id": 1, "file_name": "/etc/passwd", "width": 1, "height": 1}]}, "leads out of the source"),
        ({"images": [{"id": 1, "width": 1, "height": 1}]}, "needs an id and a file_name"),
        ({"images": [{"id": 1, "file_name": "x.png", "width": 40, "height": 60}] * 2}, "two images have the id 1"),
        ({"images": []}, "none of its 0 images"),
        ({"images": [1]}, "image 1 needs an id and a file_name"),
        ({"categories": ["top"]}, "category 'top' needs an integer id and a name"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two categories have the id 1"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "two categories have the name 'a'"),
        ({"categories": [{"id": None, "name": "a"}]}, "needs an integer id and a name"),
    ],
)
def test_what_cannot_be_mended_is_one_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    folder = write_dataset(tmp_path / "in", **change)
    (folder / "photos" / "x.png").write_bytes((folder / "photos" / "001.png").read_bytes())
    with pytest.raises(SeamlineError, match=sentence):
        canonical(folder, tmp_path / "out")


def test_annotation_files_are_found_or_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    (folder / "other.json").write_text('{"licences": []}')
    assert find_annotations(folder, None).name == "instances.json"
    (folder / "second.json").write_text((folder / "instances.json").read_text())
    with pytest.raises(SeamlineError, match=r"several COCO files \(instances.json, second.json\)"):
        find_annotations(folder, None)
    assert find_annotations(folder, "second.json").name == "second.json"
    for name in ("third.json", "../in/second.json/..", "/etc/passwd"):
        with pytest.raises(SeamlineError, match="is not a file of the source"):
            find_annotations(folder, name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeamlineError, match="has no COCO annotation file"):
        find_annotations(tmp_path / "empty", None)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["1", "000002", "x", ""]), st.lists(st.integers(-5, 70), max_size=9).map(lambda p: [p]),
    st.just([square(2, 2, 10)]), st.just({"size": [60, 40], "counts": [0, 2400]}),
    st.lists(st.integers(0, 1), max_size=2),
    st.builds(
        lambda counts: {"size": [60, 40], "counts": counts},
        st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers(-5, 5000), max_size=5)),
    ),
)  # fmt: skip
KEYS = ["id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd", "is_crowd"]
ANNOTATIONS = st.lists(st.one_of(st.dictionaries(st.sampled_from(KEYS), VALUES), VALUES), max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANNOTATIONS)
def test_whatever_the_annotations_hold_nothing_is_lost_silently(
    tmp_path_factory: pytest.TempPathFactory, annotations: list[Record]
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    folder = write_dataset(tmp_path / "in", count=2, annotations=annotations)
    report, coco = canonical(folder, tmp_path / "out")
    assert report["annotations"] + sum(report["dropped"].values()) == len(annotations)
    assert len({record["id"] for record in coco["annotations"]}) == len(coco["annotations"])


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the real photos are not on this machine")
def test_real_photos(tmp_path: Path) -> None:
    report, _ = canonical(SHARED_DATA / "ccp-mini", tmp_path / "out")
    assert report == {"images": 120, "annotations": 400, "categories": 14, "dropped": {}}
