"""The data as the trainer of YOLO reads them, and the hash of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from seamline.base.errors import SeamlineError
from seamline.training.yolo_data import data_sha256, linked_dataset


def test_the_data_hash_changes_with_every_byte_and_with_no_place(data: tuple[Path, Path], tmp_path: Path) -> None:
    split, yolo = tmp_path / "elsewhere" / "my split", tmp_path / "my yolo"
    shutil.copytree(data[0], split)
    shutil.copytree(data[1], yolo)
    before = data_sha256(*data)
    assert data_sha256(split, yolo) == before
    files = [split / "data.yaml", *sorted(yolo.rglob("*.png")), *sorted(yolo.rglob("*.txt"))]
    assert len(files) == 1 + 2 * 10
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert data_sha256(split, yolo) != before, path
        path.write_bytes(content)
    assert data_sha256(split, yolo) == before
    lines = (split / "train.txt").read_text().splitlines(keepends=True)
    (split / "train.txt").write_text("".join(lines[:-1]))
    without = data_sha256(split, yolo)
    (split / "val.txt").write_text((split / "val.txt").read_text() + lines[-1])
    assert len({before, without, data_sha256(split, yolo)}) == 3


def test_the_data_hash_knows_the_names_of_images_and_which_part_they_are_of(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    """Names give the order in which the trainer takes them."""
    shutil.copytree(data[0].parent, tmp_path, dirs_exist_ok=True)
    split, yolo = tmp_path / "split", tmp_path / "yolo"
    before = data_sha256(split, yolo)
    train, val = ((split / f"{part}.txt").read_text().splitlines(keepends=True) for part in ("train", "val"))
    (split / "train.txt").write_text("".join(train[:-1]))
    (split / "val.txt").write_text("".join([train[-1], *val]))
    moved = data_sha256(split, yolo)
    for kind, ending in (("images", "png"), ("labels", "txt")):
        (yolo / kind / f"00.{ending}").rename(yolo / kind / f"zz.{ending}")
    (split / "train.txt").write_text("".join(train[:-1]).replace("00.png", "zz.png"))
    assert len({before, moved, data_sha256(split, yolo)}) == 3


def make_split(folder: Path, labels: dict[str, str]) -> tuple[Path, Path]:
    """A split of images 0, 1, ... into train with these label texts, val with the first of them."""
    split, yolo = folder / "split", folder / "yolo"
    for kind in ("images", "labels"):
        (yolo / kind).mkdir(parents=True)
    split.mkdir()
    for name, text in labels.items():
        (yolo / "labels" / f"{name}.txt").write_text(text)
    lines = [f"./images/{name}.jpg\n" for name in labels]
    (split / "train.txt").write_text("".join(lines))
    (split / "val.txt").write_text("".join(lines[:1]))
    (split / "data.yaml").write_text(yaml.safe_dump({"names": {0: "top", 1: "trousers"}}))
    return split, yolo


TRIANGLE = "0.1 0.1 0.9 0.1 0.5 0.9\n"


def test_the_trainer_sees_links_so_that_its_cache_falls_into_scratch(tmp_path: Path) -> None:
    split, yolo = make_split(tmp_path, {"a": f"0 {TRIANGLE}1 {TRIANGLE}", "b": ""})
    data = yaml.safe_load(linked_dataset(split, yolo, tmp_path / "scratch").read_text())
    assert data["names"] == {0: "top", 1: "trousers"}
    assert (data["train"], data["val"]) == ("train.txt", "val.txt")
    listed = (tmp_path / "scratch" / "train.txt").read_text().splitlines()
    assert listed == [str(tmp_path / "scratch" / "train" / "images" / f"{name}.jpg") for name in "ab"]
    assert (tmp_path / "scratch" / "train" / "labels").resolve() == yolo / "labels"


def test_a_class_nobody_shows_and_an_empty_split_are_one_sentence(tmp_path: Path) -> None:
    split, yolo = make_split(tmp_path, {"a": f"0 {TRIANGLE}"})
    with pytest.raises(SeamlineError, match="no training image shows 'trousers'"):
        linked_dataset(split, yolo, tmp_path / "scratch")
    (yolo / "labels" / "b.txt").write_text(f"1 {TRIANGLE}")
    (split / "val.txt").write_text("./images/a.jpg\n./images/b.jpg\n")
    with pytest.raises(SeamlineError, match="no training image shows 'trousers'"):
        linked_dataset(split, yolo, tmp_path / "scratch")
    (split / "val.txt").write_text("")
    (yolo / "labels" / "a.txt").write_text(f"0 {TRIANGLE}1 {TRIANGLE}")
    with pytest.raises(SeamlineError, match=r"val\.txt: is empty"):
        linked_dataset(split, yolo, tmp_path / "scratch")
