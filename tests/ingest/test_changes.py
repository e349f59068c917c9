"""The list of changes, as Python's own reader of CSV reads it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from seamline.base.files import copy
from seamline.ingest.canonical.changes import Changes, Place
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.canonical.source import Reading
from seamline.ingest.layouts.recognition import read_source
from tests.conftest import write_dataset
from tests.stages.test_stage import run_stage, with_params


def test_every_change_is_a_row_photo_by_photo_in_the_words_of_the_source(tmp_path: Path) -> None:
    changes = Changes()
    changes.leave(["spare.jpg"])
    changes.drop("annotation: has no mask", Place("a.json", 'b, "2".jpg', 7, "x-9"), "=1")
    changes.repair("image: renamed", Place("a.json", "a\n1.jpg", 3))
    changes.drop("category: odd", Place("a.json"))
    changes.write(tmp_path / "changes.csv")
    with (tmp_path / "changes.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [list(row.values()) for row in rows] == [
        ["dropped", "category: odd", "a.json", "", "", "", ""],
        ["repaired", "image: renamed", "a.json", "a\n1.jpg", "3", "", ""],
        ["dropped", "annotation: has no mask", "a.json", 'b, "2".jpg', "7", "x-9", "'=1"],
        ["left out", "file: no record names it", "", "spare.jpg", "", "", ""],
    ]


# What a file is called, and how the table says it where that is not the same.
NAMES = {
    "=1+1.jpg": "'=1+1.jpg", "+49.jpg": "'+49.jpg", "-front.jpg": "'-front.jpg", "@home.jpg": "'@home.jpg",
    " =A1": "' =A1", "\t=A1": "'\t=A1", "'=A1": "'=A1",
    "a\nb.jpg": None, "a\r\nb.jpg": None, "a\rb.jpg": None, "\u2028.jpg": None, 'a "b", c;.jpg': None, '"': None,
    "jupe été.jpg": None, "\ufeffa.jpg": None, "0012": None, "NA": None, "": None,
    "\udce9t\udce9.jpg": r"\udce9t\udce9.jpg",  # été in Latin-1, as Python hands over what is not UTF-8
}  # fmt: skip


def test_whatever_a_photo_is_called_its_row_is_read_back_and_is_not_a_formula(tmp_path: Path) -> None:
    changes = Changes()
    for name in NAMES:
        changes.drop("image: file is missing", Place("a.json", name, name, name))
    changes.write(tmp_path / "changes.csv")
    wanted = {said or name for name, said in NAMES.items()}
    with (tmp_path / "changes.csv").open(encoding="utf-8", newline="") as stream:
        by_python = list(csv.DictReader(stream))
    by_pandas = pd.read_csv(tmp_path / "changes.csv", dtype=str, keep_default_na=False).to_dict("records")
    for rows in (by_python, by_pandas):
        assert len(rows) == len(NAMES)
        assert {row["image"] for row in rows} == wanted
        assert all(row["image"] == row["image_id"] == row["annotation_id"] for row in rows)
        assert {row["change"] for row in rows} == {"dropped"}


@pytest.mark.parametrize("identity", [-3, 1.5, True, [1, "=2"], {"a": None}, None])
def test_an_id_that_is_not_text_stays_as_it_is(tmp_path: Path, identity: object) -> None:
    changes = Changes()
    changes.drop("image: its record has no id or no file_name", Place("a.json", "1.jpg", identity))
    changes.write(tmp_path / "changes.csv")
    with (tmp_path / "changes.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["image_id"] for row in csv.DictReader(stream)] == ["" if identity is None else str(identity)]


def test_each_record_of_a_source_is_in_the_output_or_in_the_list(tmp_path: Path) -> None:
    coco = json.loads((write_dataset(tmp_path / "in") / "instances.json").read_text())
    (tmp_path / "in" / "photos" / "003.png").unlink()
    coco["annotations"][0]["segmentation"] = []
    coco["annotations"][3]["image_id"] = 99
    coco["annotations"][7].pop("bbox")
    (tmp_path / "in" / "instances.json").write_text(json.dumps(coco))
    with_params(tmp_path, {})
    done = run_stage("pull", tmp_path, "raw", "--source=in")
    assert done.returncode == 0, done.stderr
    raw = json.loads((tmp_path / "raw" / "annotations.json").read_text())
    report = json.loads((tmp_path / "raw-report.json").read_text())
    with (tmp_path / "raw-changes.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for verb in ("dropped", "repaired"):
        assert report[verb] == Counter(row["reason"] for row in rows if row["change"] == verb)
    dropped = [row for row in rows if row["change"] == "dropped"]
    assert {row["image_id"] for row in dropped if row["reason"].startswith("image:")} == {"3"}
    lost = [int(row["annotation_id"]) for row in dropped if row["reason"].startswith("annotation:")]
    assert sorted([*lost, *(record["id"] for record in raw["annotations"])]) == list(range(1, 13))
    assert sorted(lost) == [1, 4, 5, 6]
    assert report["annotations"] == len(raw["annotations"]) == 8
    assert {row["annotation_id"] for row in rows if "its box" in row["reason"]} == {"8"}
    assert {row["image"] for row in rows if row["annotation_id"] in ("5", "6")} == {"003.png"}


def test_a_row_says_what_its_reason_speaks_of(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    coco = json.loads((folder / "instances.json").read_text())
    Image.new("RGB", (40, 60)).save(folder / "photos" / "spare.png")
    coco["images"][4]["height"] = 71
    x, y, width, height = coco["annotations"][0]["bbox"]
    coco["annotations"][0]["bbox"] = [x + width, y, width, height]
    coco["annotations"][1]["category_id"] = "coat"
    coco["annotations"][2]["segmentation"] = {"size": [30, 20], "counts": [100, 100, 400]}
    (folder / "instances.json").write_text(json.dumps(coco))
    source = read_source(folder, None, None)
    (tmp_path / "out").mkdir()
    report = canonicalise(source, tmp_path / "out", copy, Reading(convention="drop"))
    details = {(row.place.image, row.place.annotation_id): row.detail for row in source.changes.rows}
    given, own = (f"[{left}, {y}, {width}, {height}]" for left in (x + width, x))
    assert details["001.png", 1] == f"IoU 0.00: box {given}, box of the mask {own}"
    assert details["001.png", 2] == "category_id 'coat'"
    assert details["002.png", 3] == "RLE 30 x 20, image 60 x 40 (height x width)"
    assert details["005.png", ""] == "record 71 x 40, file 60 x 40 (height x width)"
    assert (report["files_without_record"], details["photos/spare.png", ""]) == (1, "")
