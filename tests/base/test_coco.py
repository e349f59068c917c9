"""Canonical data that somebody has edited by hand, or made to harm whoever runs stages on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seamline.base.coco import Coco, link_image, read_coco
from seamline.base.errors import SeamlineError
from tests.conftest import write_dataset
from tests.stages.test_stage import is_one_sentence, run_stage, with_params

BAD_NAMES = (
    "/etc/passwd", "../secret.png", "..", ".", "", "images/../../secret.png", "sub/001.png", "..\\secret.png",
    "C:\\Windows\\win.ini", "C:/Windows/win.ini", "001.png\0.txt", "001.png\nSecond.png", "001", ".png",
    "x" * 300 + ".png", "x" * 252 + ".png", "a\u2028b.png", "a\u2029b.png",
)  # fmt: skip


def coco_with(*names: str) -> Coco:
    images = [{"id": number, "file_name": name, "width": 4, "height": 4} for number, name in enumerate(names)]
    return Coco([msgspec.Raw(json.dumps(image).encode()) for image in images], [], [])


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused_wherever_images_are_read(name: str) -> None:
    with pytest.raises(SeamlineError, match=r"the dataset is not canonical .*is not a file's plain name") as error:
        coco_with(name).image_refs()
    assert "\n" not in str(error.value) and "\0" not in str(error.value)


def test_plain_names_in_any_language_pass() -> None:
    names = ["001.png", "Bob's photo.jpg", "日本 👗.jpg", "a..b.png", "..hidden.png", "x: y.webp", "$(touch PWNED).png"]
    names.append("x" * 251 + ".png")
    assert [ref.file_name for ref in coco_with(*names).image_refs()] == names


def test_two_images_of_one_label_are_refused() -> None:
    with pytest.raises(SeamlineError, match="two images are called 'a'"):
        coco_with("a.png", "b.png", "a.jpg").image_refs()


def test_a_class_without_a_name_is_one_sentence() -> None:
    with pytest.raises(SeamlineError, match="not canonical"):
        Coco([], [], [msgspec.Raw(b'{"id": 1}')]).category_refs()


def canonical(folder: Path, name: str) -> Path:
    """A canonical dataset whose first image has this name in the annotations."""
    write_dataset(folder.with_name("in"))
    done = run_stage("pull", folder.parent, folder.name, "--source=in")
    assert done.returncode == 0, done.stderr
    path = folder / "annotations.json"
    path.chmod(0o644)
    coco = json.loads(path.read_text())
    coco["images"][0]["file_name"] = name
    path.write_text(json.dumps(coco))
    return folder


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd"])
def test_stages_take_nothing_from_elsewhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    with_params(tmp_path, {"subset": {"images": None, "background": 0, "group_by": None}})
    canonical(tmp_path / "raw", name)
    for stage in ("subset", "convert"):
        done = run_stage(stage, tmp_path, "raw", "out")
        assert is_one_sentence(done, "the dataset is not canonical", repr(name)), done.stderr
        assert not (tmp_path / "out").exists()
    run_stage("subset", tmp_path, "raw", "made")
    done = run_stage("split", tmp_path, "raw", "out")
    assert is_one_sentence(done, "the dataset is not canonical", repr(name)), done.stderr


@pytest.mark.parametrize("stage", ["subset", "convert"])
def test_a_link_that_leads_outside_is_refused(stage: str, tmp_path: Path) -> None:
    with_params(tmp_path, {"subset": {"images": None, "background": 0, "group_by": None}})
    raw = canonical(tmp_path / "raw", "001.png")
    secret = tmp_path / "secret.png"
    (raw / "images" / "001.png").rename(secret)
    (raw / "images" / "001.png").symlink_to(secret)
    done = run_stage(stage, tmp_path, "raw", "out")
    assert is_one_sentence(done, "001.png: is a link to", "outside of the dataset"), done.stderr
    assert not (tmp_path / "out").exists()


def test_links_of_dvcs_and_inside_the_dataset_are_followed(tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "files" / "md5" / "0f" / ("a" * 30)
    images = tmp_path / "raw" / "images"
    for folder in (cached.parent, images, tmp_path / "out"):
        folder.mkdir(parents=True)
    cached.write_bytes(b"x")
    (tmp_path / "raw" / "photo").write_bytes(b"x")
    (images / "a.png").symlink_to(cached)
    (images / "b.png").symlink_to("../photo")
    for name in ("a.png", "b.png"):
        link_image(str(images / name), str(tmp_path / "out" / name), str(tmp_path / "raw"))
        assert (tmp_path / "out" / name).read_bytes() == b"x"


def test_an_image_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match=r"a\.png: is not there, and the dataset's annotations\.json names it"):
        link_image(str(tmp_path / "a.png"), str(tmp_path / "b.png"), str(tmp_path))


@pytest.mark.parametrize("depth", [1000, 200_000])
def test_json_that_is_nested_without_end_is_one_sentence(depth: int, tmp_path: Path) -> None:
    """Neither reader of JSON may end the process, as a stack that is used up does."""
    bomb = "[" * depth + "]" * depth
    for text in (bomb, f'{{"images": {bomb}, "annotations": [], "categories": []}}'):
        (tmp_path / "bomb.json").write_text(text)
        with pytest.raises(SeamlineError, match=r"bomb\.json: is not a COCO file"):
            read_coco(tmp_path / "bomb.json")
    (tmp_path / "bomb.json").write_text(
        f'{{"images": [{{"id": {bomb}}}], "annotations": [{{"segmentation": {bomb}}}], "categories": []}}'
    )
    with pytest.raises(SeamlineError):
        coco = read_coco(tmp_path / "bomb.json")
        list(coco.image_refs())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": 999}, "annotation 1 is of no image or no category of the file"),
        ({"category_id": 999}, "annotation 1 is of no image or no category of the file"),
        ({"image_id": "1"}, "Expected `int`, got `str`"),
    ],
)
def test_an_annotation_of_nothing_is_one_sentence(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with_params(tmp_path, {"split": {"group_by": None, "near_duplicate_bits": None}})
    path = canonical(tmp_path / "raw", "001.png") / "annotations.json"
    coco = json.loads(path.read_text())
    coco["annotations"][0] |= change
    path.write_text(json.dumps(coco))
    for stage, inputs in (("subset", ["raw"]), ("convert", ["raw"]), ("split", ["raw"])):
        done = run_stage(stage, tmp_path, *inputs, "out")
        assert is_one_sentence(done, "the dataset is not canonical", reason), done.stderr
        assert not (tmp_path / "out").exists()


def test_two_images_of_one_id_are_refused() -> None:
    coco = coco_with("a.png", "b.png")
    with pytest.raises(SeamlineError, match="two images have one id"):
        Coco([coco.images[0], coco.images[0]], [], []).image_refs()
