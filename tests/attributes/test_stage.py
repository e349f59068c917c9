"""The stage attributes as a user meets it: a CSV with everything that is odd in real ones, and what it writes."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seamline.attributes import oddities
from seamline.attributes.sources import check_classes
from seamline.base.files import sha256_of
from tests.attributes.shirts import write_photo, write_source
from tests.stages.test_stage import is_one_sentence, run_stage, with_params

COMMAND = ("attributes", "out/attributes", "out/split", "--report", "out/report")
LABELS = {
    "neck": {"values": {str(code): name for code, name in enumerate(["round", "v", "polo", "high", "boat"])}},
    "sleeve_length": {"values": {"0": "short", "1": "long", "2": "none"}},
    "pattern": {"values": {str(code): f"pattern {code}" for code in range(10)}},
}
PHOTOS, ROWS = 1783, 2238
# Beside them rows of 1,760 photos, once each.
REPEATED, COMPLETED, CONTRADICTING, GONE = 380, 21, 42, 35


def source_projects_csv() -> tuple[bytes, int]:
    """A CSV of 2,238 rows as the source project's, and how many photos it gives no value."""
    rng = np.random.default_rng(28)
    named = PHOTOS - 23
    rows = [[f"{at}.jpg", *(str(rng.integers(count)) for count in (5, 3, 10))] for at in range(named)]
    for row in rows:
        for column in (1, 2, 3):
            if rng.random() < 0.35:
                row[column] = "#N/A"
    for row in rows[: REPEATED + COMPLETED + CONTRADICTING]:
        row[1:] = [cell if cell != "#N/A" else "1" for cell in row[1:]]
    more = [list(row) for row in rows[:REPEATED]]
    for row in rows[REPEATED : REPEATED + COMPLETED]:
        more.append([row[0], row[1], row[2], row[3]])
        row[2] = "#N/A"  # the first of the two rows lacks what the second has
    for row in rows[REPEATED + COMPLETED : REPEATED + COMPLETED + CONTRADICTING]:
        more.append([row[0], row[1], row[2], str((int(row[3]) + 1) % 10)])
    more += [[f"gone {at}.jpg", "1", "1", "1"] for at in range(GONE)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([["filename", *LABELS], *rows, *more])
    assert len(rows) + len(more) == ROWS
    return text.getvalue().encode("utf-8-sig"), sum(set(row[1:]) == {"#N/A"} for row in rows)


def run(place: Path) -> Any:
    return run_stage(COMMAND[0], place, *COMMAND[1:])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8", newline="")))


def test_a_csv_of_2238_rows_goes_through_and_everything_odd_is_counted(tmp_path: Path) -> None:
    data, without_value = source_projects_csv()
    source = write_source(tmp_path / "shirts", data, (f"images/{at}.jpg" for at in range(PHOTOS)))
    (source / "images" / "3.jpg").write_bytes((source / "images" / "3.jpg").read_bytes()[:400])
    shutil.copy(source / "images" / "1500.jpg", source / "images" / "1501.jpg")
    with zipfile.ZipFile(tmp_path / "shirts.zip", "w") as archive:
        for path in sorted(one for one in source.rglob("*") if one.is_file()):
            archive.write(path, path.relative_to(source).as_posix())
    with_params(tmp_path, {"attributes": {"source": "shirts.zip", "labels": LABELS}})
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    said = read(tmp_path / "out" / "report" / "data.json")
    assert (said["rows"], said["photos_in_source"]) == (ROWS, PHOTOS)
    found = said["oddities"]
    # 1500 and 1501 have rows of their own, which may contradict each other.
    contradicted = found.pop(oddities.CONTRADICTED)
    assert CONTRADICTING <= contradicted <= CONTRADICTING + 3
    empty = found.pop(oddities.WITHOUT_VALUE)
    assert without_value - 1 <= empty <= without_value + 1
    assert found == {
        oddities.REPEATED: REPEATED,
        oddities.COMPLETED: COMPLETED,
        oddities.CONTRADICTING: CONTRADICTING,
        oddities.WITHOUT_PHOTO: GONE,
        oddities.WITHOUT_ROW: 23,
        oddities.COPY: 1,
        "image: cannot be decoded": 1,
    }
    assert said["garments"] == PHOTOS - 23 - 2 - empty
    # Every row is of a photo, or is counted.
    assert ROWS == (PHOTOS - 23) + REPEATED + COMPLETED + CONTRADICTING + GONE
    listed = table(tmp_path / "out" / "report" / "oddities.csv")
    assert len(listed) == sum(found.values()) + contradicted + empty
    rows = table(tmp_path / "out" / "attributes" / "garments.csv")
    assert len(rows) == said["garments"]
    photos = {path.stem for path in (tmp_path / "out" / "attributes" / "photos").iterdir()}
    assert photos == {row["id"] for row in rows}
    shares = [sum(row["split"] == split for row in rows) / len(rows) for split in ("train", "val", "test")]
    assert np.allclose(shares, (0.7, 0.15, 0.15), atol=0.01)
    for name, one in said["attributes"].items():
        assert one["observed"] + one["missing"] == len(rows)
        assert one["missing"] == sum(row[name] == "" for row in rows)
        assert all(min(counts.values()) > 0 for counts in one["values"].values())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a source of twelve photos."""
    rows = "".join(f"{at}.jpg,{at % 2},{at % 3}\n" for at in range(12))
    write_source(tmp_path / "shirts", "filename,neck,pattern\n" + rows, (f"{at}.jpg" for at in range(12)))
    with_params(tmp_path, {"attributes": {"source": "shirts", "labels": None}})
    return tmp_path


def test_what_it_writes_is_the_form_that_training_reads_and_the_same_each_time(place: Path) -> None:
    assert run(place).returncode == 0
    out = place / "out" / "attributes"
    lines = (out / "garments.csv").read_text().splitlines()
    assert lines[0] == "id,file_name,split,group,x1,y1,x2,y2,has_mask,neck,pattern"
    assert [line.split(",")[0] for line in lines[1:]] == [str(number) for number in range(1, 13)]
    facts = read(out / "attributes.json")
    assert facts["attributes"] == {"neck": ["0", "1"], "pattern": ["0", "1", "2"]}
    assert facts["names"]["file"] == "filename" and facts["classes"] == ["short sleeve top"]
    # Small JPEGs are taken as they are.
    assert (out / "photos" / "1.jpg").read_bytes() == (place / "shirts" / "0.jpg").read_bytes()
    before = {path: sha256_of(path) for path in sorted(place.glob("out/**/*")) if path.is_file()}
    assert run(place).returncode == 0
    assert {path: sha256_of(path) for path in sorted(place.glob("out/**/*")) if path.is_file()} == before
    assert {path.name for path in (place / "out" / "report").iterdir()} == {
        "data.json", "oddities.csv", "counts.csv", "counts.png", "cooccurrence.csv", "cooccurrence.png",
        "contact_neck.jpg", "contact_pattern.jpg",
    }  # fmt: skip
    assert not (place / ".seamline" / "attributes" / "unpacked").exists()


def test_near_duplicates_of_another_size_and_name_stay_together(place: Path) -> None:
    pixels = cv2.GaussianBlur(np.random.default_rng(99).integers(0, 256, (200, 160, 3), dtype=np.uint8), (31, 31), 0)
    pixels = np.asarray(np.clip((pixels.astype(int) - 128) * 6 + 128, 0, 255), np.uint8)
    cv2.imwrite(str(place / "shirts" / "12.jpg"), pixels)
    cv2.imwrite(str(place / "shirts" / "13.png"), cv2.resize(pixels, (120, 150)))
    with (place / "shirts" / "attributes.csv").open("a") as stream:
        stream.write("12.jpg,1,1\n13.png,1,1\n")
    assert run(place).returncode == 0
    rows = {row["file_name"]: row for row in table(place / "out" / "attributes" / "garments.csv")}
    assert rows["12.jpg"]["group"] == rows["13.png"]["group"]
    assert rows["12.jpg"]["split"] == rows["13.png"]["split"]
    assert read(place / "out" / "report" / "data.json")["near_duplicates"] == 1


def test_no_formula_reaches_a_table(place: Path) -> None:
    write_photo(place / "shirts" / "=1+1.jpg", 50)
    write_photo(place / "shirts" / "@x.jpg", 51)
    with (place / "shirts" / "attributes.csv").open("a") as stream:
        stream.write("=1+1.jpg,1,1\n\"=cmd|' /C calc'!A0.jpg\",1,1\n")
    assert run(place).returncode == 0
    cells = [cell for path in place.glob("out/**/*.csv") for row in csv.reader(path.open(newline="")) for cell in row]
    assert "'=1+1.jpg" in cells
    assert "'=cmd|' /C calc'!A0.jpg" in cells
    assert "'@x.jpg" in cells
    assert not [cell for cell in cells if cell[:1] in "=+@\t" and cell]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attributes": {"enabled": False}}, "Attributes are switched off"),
        (
            {"pull": {"source": "mine"}, "attributes": {"source": "samples/tshirts.zip"}},
            "No attributes are learned: attributes.source is the sample's T-shirts",
        ),
    ],
)
def test_switched_off_it_says_so_and_leaves_the_files_that_others_read(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with_params(tmp_path, changes)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    for name in ("attributes/attributes.json", "report/data.json"):
        found = read(tmp_path / "out" / name)
        assert found["attributes"] == {}
        assert said in found["reason"]


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("filename,neck\n0.jpg,1\n", ("attributes: 1 group of photos cannot fill 3 splits",)),
        ("filename,neck\n" + "".join(f"{at}.jpg,1\n" for at in range(9)), ("no attribute has two values in train",)),
        ("filename,neck\n0.jpg,#N/A\n", ("no garment with a photo that can be read has a value of any attribute",)),
        ("filename;neck\n0.jpg;1;2\n", ("attributes.csv: row 2 ('0.jpg') has 3 cells",)),
    ],
)
def test_what_cannot_be_learned_from_is_one_sentence_and_leaves_nothing(
    place: Path, rows: str, parts: tuple[str, ...]
) -> None:
    (place / "shirts" / "attributes.csv").write_text(rows)
    done = run(place)
    assert is_one_sentence(done, *parts), done.stderr
    assert not list((place / "out").glob("*"))


def test_an_attribute_that_is_wholly_missing_is_left_out_and_said(place: Path) -> None:
    rows = "".join(f"{at}.jpg,{at % 2},nan,long\n" for at in range(12))
    (place / "shirts" / "attributes.csv").write_text("filename,neck,pattern,hem\n" + rows)
    done = run(place)
    assert done.returncode == 0, done.stderr
    assert "pattern: left out, no garment has a value of it" in done.stdout
    said = read(place / "out" / "report" / "data.json")
    assert list(said["attributes"]) == ["neck"]
    assert set(said["left_out"]) == {"pattern", "hem"}
    header = (place / "out" / "attributes" / "garments.csv").read_text().splitlines()[0]
    assert header.endswith(",has_mask,neck")


def test_classes_that_the_pipeline_does_not_learn_are_refused(place: Path) -> None:
    split = place / "out" / "split"
    split.mkdir(parents=True)
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "Dress"}, {"id": 2, "name": "skirt"}]}
    (split / "train.json").write_text(json.dumps(coco))
    for classes in (["dress", "top"], None):
        check_classes(classes, split)
    check_classes(["top"], place / "elsewhere")
    with_params(place, {"attributes": {"source": "shirts", "labels": None, "classes": ["shirt", "top"]}})
    assert is_one_sentence(run(place), "attributes.classes: the pipeline learns none of shirt, top, but Dress, skirt")


def test_a_source_that_is_not_there_is_named_as_this_ones(tmp_path: Path) -> None:
    with_params(tmp_path, {"attributes": {"source": "nowhere"}})
    assert is_one_sentence(run(tmp_path), "attributes.source: 'nowhere' does not exist")


def test_a_bucket_is_a_source_too(place: Path, bucket: Any) -> None:
    bucket.put({f"shirts/{path.name}": path.read_bytes() for path in (place / "shirts").iterdir()})
    with_params(place, {"attributes": {"source": bucket.url("shirts"), "labels": None}})
    done = run(place)
    assert done.returncode == 0, done.stderr
    assert len(table(place / "out" / "attributes" / "garments.csv")) == 12
