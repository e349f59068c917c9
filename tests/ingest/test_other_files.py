"""Files that are not COCO files and may have been meant as such; gzip, json and the tools' own forms make them."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seamline.base.errors import SeamlineError
from seamline.base.files import copy
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.layouts.annotation_files import find_annotations
from seamline.ingest.layouts.recognition import read_source
from tests.conftest import write_dataset
from tests.ingest.test_layouts import write_deepfashion2

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"  # fmt: skip  # noqa: E501


def as_object(text: str) -> str:
    coco = json.loads(text)
    return json.dumps({**coco, "images": {str(image["id"]): image for image in coco["images"]}})


def without_categories(text: str) -> str:
    return json.dumps({key: value for key, value in json.loads(text).items() if key != "categories"})


DAMAGES: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "empty": (lambda text: "", "is empty"),
    "blank": (lambda text: "\n \n", "is empty"),
    "cut": (lambda text: text[:200], "is cut short"),
    "pointer": (lambda text: POINTER, "is a pointer of Git LFS"),
    "login": (lambda text: "\ufeff<!DOCTYPE html><html>Sign in</html>", "is a web page"),
    "quotes": (lambda text: str(json.loads(text)), "has single quotes"),
    "compressed": (lambda text: gzip.compress(text.encode()), "is compressed with gzip"),
    "lines": (lambda text: f"{text}\n{text}", "has a JSON object in each line"),
    "object": (as_object, "its images are not a list"),
    "no categories": (without_categories, "has no categories"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", ["instances_train.json", "train/_annotations.coco.json", "photos/a.json", "a/x.json"])
def test_what_may_be_of_annotations_and_cannot_be_read_stops_the_run(tmp_path: Path, damage: str, place: str) -> None:
    folder = write_dataset(tmp_path / "in")
    text = (folder / "instances.json").read_text()
    (folder / "instances.json").rename(folder / "instances_val.json")
    change, said = DAMAGES[damage]
    data = change(text)
    path = folder / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    if place == "a/x.json" and damage in ("empty", "blank", "pointer", "login", "quotes", "compressed"):
        assert find_annotations(folder, None) == [(None, folder / "instances_val.json")]  # nothing says that it is one
        return
    with pytest.raises(SeamlineError, match=rf"^{place}: .*{said}.*; where it is not needed, pull\.annotations"):
        find_annotations(folder, None)
    assert find_annotations(folder, "instances_val.json") == [(None, folder / "instances_val.json")]


def test_a_compressed_split_is_not_left_out(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    text = (folder / "instances.json").read_text()
    (folder / "instances.json").rename(folder / "instances_val.json")
    (folder / "instances_train.json.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(SeamlineError, match=r"^instances_train\.json\.gz: is compressed with gzip; unpack it"):
        find_annotations(folder, None)


def test_an_old_file_is_not_taken_for_one_that_is_cut(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    text = (folder / "instances.json").read_text()
    (folder / "old").mkdir()
    (folder / "old" / "v1.json").write_text(text)
    (folder / "instances.json").write_text(text[:300])
    with pytest.raises(SeamlineError, match=r"^instances\.json: is cut short"):
        read_source(folder, None, None)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (".vscode/settings.json", "{ // a comment\n}"), ("photos/001.json", "{"), ("meta/001.png.json", ""),
        ("captions_train.json", "{"), ("tools/package.json", "{'a': 1}"), ("package.json", '{"name": "x"}'),
    ],
)  # fmt: skip
def test_what_has_nothing_to_do_with_annotations_stops_nothing(tmp_path: Path, place: str, text: str) -> None:
    folder = write_dataset(tmp_path / "in")
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text(text)
    assert find_annotations(folder, None) == [(None, folder / "instances.json")]


def test_what_is_left_aside_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_dataset(tmp_path / "in")
    (folder / "tools").mkdir()
    (folder / "tools" / "package.json").write_text("{'a': 1}")
    find_annotations(folder, None)
    assert "left aside: tools/package.json (is not JSON, as it has single quotes" in capsys.readouterr().out


# As the tools' own pages show them, each for one photo.
SHAPE = {"label": "shirt", "points": [[1, 2], [30, 4], [50, 60]], "shape_type": "polygon"}
REGION = {"shape_attributes": {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}}
FORMATS: dict[str, tuple[str, Any, str]] = {
    "labelme": ("a.json", {"version": "5", "shapes": [SHAPE], "imagePath": "a.jpg"}, "is a labelme file"),
    "VIA": ("a.json", {"a.jpg12": {"filename": "a.jpg", "size": 12, "regions": [REGION]}}, "is VGG's annotator's own"),
    "VIA's project": ("a.json", {"_via_settings": {}, "_via_img_metadata": {}}, "is a project of VGG's annotator"),
    "Label Studio": ("a.json", [{"id": 1, "data": {"image": "a"}, "annotations": []}], "is Label Studio's own JSON"),
    "Supervisely": ("a.jpg.json", {"size": {"height": 1, "width": 1}, "objects": []}, "is a Supervisely file"),
    "Create ML": ("a.json", [{"image": "a.jpg", "annotations": []}], "is Create ML's JSON"),
    "YOLO": ("labels/a.txt", "0 .1 0.2 .3 4e-1 0.5 .6\n", "is a YOLO label"),
    "VOC": ("a.xml", "<annotation><object/></annotation>", "is Pascal VOC's XML"),
    "CVAT": ("annotations.xml", '<?xml version="1.0"?>\n<annotations>', "is CVAT's XML"),
    "an archive": ("a.7z", "7z", "is an archive of a kind that is not unpacked"),
    "other JSON": ("a.json", {"images": []}, "is a JSON object without annotations and categories"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_without_a_coco_file_what_is_there_is_said(tmp_path: Path, name: str) -> None:
    file, content, said = FORMATS[name]
    folder = write_dataset(tmp_path / "in")
    (folder / "instances.json").unlink()
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(SeamlineError, match=rf"has no COCO annotation file \(.*\); {file} {said}"):
        read_source(folder, None, None)
    shutil.copy(folder / file, (folder / file).with_name(f"b{Path(file).suffix}"))
    with pytest.raises(SeamlineError, match=f"{file} and 1 more: each {said}"):
        read_source(folder, None, None)


def test_archives_that_are_not_unpacked_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_dataset(tmp_path / "in")
    (folder / "more").mkdir()
    for name in ("train.rar", "more/b.7z", "c.tar.zst"):
        (folder / name).write_bytes(b"Rar!")
    read_source(folder, None, None)
    assert "left aside: c.tar.zst, more/b.7z, train.rar: archives of a kind" in capsys.readouterr().out


def test_a_coco_file_beside_deepfashion2s_folders_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_deepfashion2(tmp_path / "in")
    text = (write_dataset(tmp_path / "other") / "instances.json").read_text()
    (folder / "keypoints_val_vis_and_occ.json").write_text(text)  # DeepFashion2's own
    assert read_source(folder, None, None).layout == "deepfashion2"
    assert capsys.readouterr().out == ""
    (folder / "train" / "instances.json").write_text(text)
    assert read_source(folder, None, None).layout == "deepfashion2"
    assert "looks like deepfashion2 and is read as that; pull.layout chooses coco" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_list_that_is_there_twice_is_refused(tmp_path: Path, key: str) -> None:
    """json, too, takes the last, which may be empty."""
    folder = write_dataset(tmp_path / "in")
    text = (folder / "instances.json").read_text().rstrip()
    doubled = f'{text[:-1]}, "{key}": []}}'
    assert json.loads(doubled)[key] == []
    (folder / "instances.json").write_text(doubled)
    with pytest.raises(SeamlineError, match=f"has {key} twice"):
        read_source(folder, None, None)
    (folder / "instances.json").write_text(f'{text[:-1]}, "info": {{"{key}": [], "more": {{"{key}": 2}}}}}}')
    assert len(read_source(folder, None, None).parts[0].annotations) == 12


def test_categories_that_differ_only_in_form_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_dataset(tmp_path / "in")
    coco = json.loads((folder / "instances.json").read_text())
    names = ["Shirt", "shirt ", "sh\u200birt", "T-shirt", "t_shirt", "skirt", "shorts"]
    coco["categories"] += [{"id": 50 + number, "name": name} for number, name in enumerate(names)]
    (folder / "instances.json").write_text(json.dumps(coco))
    (tmp_path / "out").mkdir()
    report = canonicalise(read_source(folder, None, None), tmp_path / "out", copy)
    said = capsys.readouterr().out.splitlines()
    assert report["categories"] == 2 + len(names)
    assert [line.split(" differ")[0] for line in said if "differ only in form" in line] == [
        "the categories 'Shirt', 'shirt ', 'sh\\u200birt'", "the categories 'T-shirt', 't_shirt'",
    ]  # fmt: skip
    coco["categories"][-1]["name"] = " "
    (folder / "instances.json").write_text(json.dumps(coco))
    (tmp_path / "blank").mkdir()
    with pytest.raises(SeamlineError, match="needs an id and a name"):
        canonicalise(read_source(folder, None, None), tmp_path / "blank", copy)
