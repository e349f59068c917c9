"""A CSV joined to its photos: what is odd is counted, what cannot be read is one sentence."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from seamline.attributes import oddities
from seamline.attributes.from_csv import collect, is_free_text
from seamline.attributes.values import label_to_vocabulary
from seamline.base.errors import SeamlineError
from seamline.ingest.csv_tables import text_to_table
from seamline.params.attributes import Label
from tests.attributes.shirts import options, write_photo, write_source


def values_of(folder: Path, **changes: Any) -> dict[str, dict[str, str | None]]:
    return {one.file_name: one.values for one in collect(folder, options(**changes)).garments}


def test_rows_of_one_photo_are_put_together(tmp_path: Path) -> None:
    rows = (
        "filename,neck,sleeve\na.jpg,round,#N/A\na.jpg,round,#N/A\na.jpg,#N/A,long\n"  # the same, and more
        "b.jpg,v,short\nb.jpg,v,long\nb.jpg,v,short\n"  # a contradiction stays one
        "c.jpg,v,nan\nd.jpg,,NULL\ngone.jpg,v,long\n,v,long\n"
    )
    source = write_source(tmp_path, rows, ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"])
    found = collect(source, options())
    assert {one.file_name: one.values for one in found.garments} == {
        "a.jpg": {"neck": "round", "sleeve": "long"},
        "b.jpg": {"neck": "v", "sleeve": None},
        "c.jpg": {"neck": "v", "sleeve": None},
    }
    assert found.oddities.counts() == {
        oddities.REPEATED: 2,
        oddities.COMPLETED: 1,
        oddities.CONTRADICTING: 1,
        oddities.CONTRADICTED: 1,
        oddities.WITHOUT_VALUE: 1,
        oddities.WITHOUT_PHOTO: 1,
        oddities.WITHOUT_ROW: 1,
        oddities.NAMELESS: 1,
    }
    assert found.rows == 10
    assert found.values == {"neck": ["round", "v"], "sleeve": ["long"]}


def test_codes_get_names_and_keep_their_order(tmp_path: Path) -> None:
    source = write_source(tmp_path, "filename,n,p\na.jpg,1.0,7\nb.jpg,0,8\nc.jpg,9,?\n", ["a.jpg", "b.jpg", "c.jpg"])
    labels = {
        "neck": {"field": "n", "values": {"0": "round", "1": "v", "9": None}},
        "pattern": {"field": "p", "values": {"8": "check", "7": "check"}},
    }
    found = collect(source, options(labels=labels))
    assert {one.file_name: one.values for one in found.garments} == {
        "a.jpg": {"neck": "v", "pattern": "check"},
        "b.jpg": {"neck": "round", "pattern": "check"},
    }
    assert found.values == {"neck": ["round", "v"], "pattern": ["check"]}
    assert found.names == {
        "file": "filename",
        "columns": {"neck": "n", "pattern": "p"},
        "codes": {"neck": {"round": "0", "v": "1"}, "pattern": {"check": "8"}},
    }


def test_a_value_that_the_mapping_names_is_never_missing(tmp_path: Path) -> None:
    source = write_source(tmp_path, "filename,pattern\na.jpg,none\nb.jpg,None\n", ["a.jpg", "b.jpg"])
    labels = {"pattern": {"values": {"none": "solid", "None": None}}}
    assert values_of(source, labels=labels) == {"a.jpg": {"pattern": "solid"}}


def test_copies_are_one_photo_whose_rows_are_put_together(tmp_path: Path) -> None:
    source = write_source(tmp_path, "filename,n,p\na.jpg,1,\nb.jpg,2,3\nc.jpg,1,4\n", ["a.jpg", "b.jpg", "c.jpg"])
    for name in ("b.jpg", "c.jpg"):
        (source / name).write_bytes((source / "a.jpg").read_bytes())
    found = collect(source, options())
    assert [(one.file_name, one.values) for one in found.garments] == []
    assert found.oddities.counts() == {oddities.COPY: 2, oddities.CONTRADICTED: 2, oddities.WITHOUT_VALUE: 1}


def test_a_photo_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    source = write_source(tmp_path, "filename,n\na.jpg,1\nb.jpg,2\nc.jpg,2\n", ["a.jpg", "b.jpg"])
    (source / "a.jpg").write_bytes((source / "b.jpg").read_bytes()[:300])
    write_photo(source / "c.jpg", 3, side=4)
    found = collect(source, options())
    assert [one.file_name for one in found.garments] == ["b.jpg"]
    assert found.oddities.counts() == {"image: cannot be decoded": 1, "image: a side has fewer than 10 pixels": 1}


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("IMG 1 (2).JPG", "photos/IMG 1 (2).JPG"),
        ("photos\\sub\\1.jpg", "photos/sub/1.jpg"),
        ("sub/1.jpg", "photos/sub/1.jpg"),
        ("/home/me/shirts/photos/1.jpg", "photos/1.jpg"),
        ("15970", "images/15970.jpg"),
        ("15970.0", "images/15970.jpg"),
        ("shirt.jpeg", "images/SHIRT.JPEG"),
        (unicodedata.normalize("NFC", "grün.jpg"), unicodedata.normalize("NFD", "images/grün.jpg")),
        (unicodedata.normalize("NFD", "grün.jpg"), unicodedata.normalize("NFC", "images/grün.jpg")),
        ("a%20b.jpg", "images/a b.jpg"),
        ("https://shop.example/p/1.jpg?w=200", "1.jpg"),
    ],
)
def test_photos_are_found_by_the_names_that_people_write(tmp_path: Path, written: str, file: str) -> None:
    source = write_source(tmp_path, f"nr,picture,neck\n7,{written},1\n", [file, "other/x.jpg"])
    assert values_of(source, file_column="picture", labels={"neck": {}}) == {file: {"neck": "1"}}


def test_the_column_that_names_photos_is_found(tmp_path: Path) -> None:
    source = write_source(tmp_path, "gender,id,kind\nMen,1,shirt\nWomen,2,top\n", ["images/1.jpg", "images/2.jpg"])
    assert values_of(source) == {
        "images/1.jpg": {"gender": "Men", "kind": "shirt"},
        "images/2.jpg": {"gender": "Women", "kind": "top"},
    }


def test_one_name_in_two_spellings_is_one_photo(tmp_path: Path) -> None:
    source = write_source(tmp_path, "filename,n,p\nA.JPG,1,\na.jpg,,2\n", ["a.jpg"])
    found = collect(source, options())
    assert [(one.file_name, one.values) for one in found.garments] == [("a.jpg", {"n": "1", "p": "2"})]
    assert found.oddities.counts() == {oddities.COMPLETED: 1}


def test_names_are_below_the_csv_and_one_photo_has_all_of_its_rows_in_their_order(tmp_path: Path) -> None:
    source = write_source(tmp_path, "unused", ["men/1.jpg", "women/1.jpg"])
    (source / "men" / "shirts.csv").write_text("filename,n,p,item\n1.jpg,1,,\nmen/1.jpg,,2,x\n1.jpg,,,y\n")
    found = collect(source, options(csv="men/shirts.csv", group_by="item"))
    [one] = found.garments
    assert (one.file_name, one.values, one.belongs_to) == ("men/1.jpg", {"n": "1", "p": "2"}, "x")


def test_splits_are_called_as_people_call_them(tmp_path: Path) -> None:
    names = ["Train", "training", "dev", "VALID", "validation", "testing", "Test", ""]
    rows = "".join(f"{number}.jpg,{number % 2},{name}\n" for number, name in enumerate(names))
    source = write_source(tmp_path, "filename,neck,part\n" + rows, [f"{number}.jpg" for number in range(8)])
    found = collect(source, options(split_column="part"))
    assert [one.official for one in found.garments] == ["train"] * 2 + ["val"] * 3 + ["test"] * 2 + [None]
    assert list(found.values) == ["neck"]


LABELS = {"neck": {"values": {"0": "round", "1": "v"}}}


@pytest.mark.parametrize(
    ("rows", "changes", "sentence"),
    [
        (
            "filename,neck\na.jpg,0\nb.jpg,7\n",
            {"labels": LABELS},
            "attributes.csv: row 3 (b.jpg): neck has the value '7', and attributes.labels.neck.values does not "
            "name it; allowed are 0, 1,",
        ),
        (
            "filename,neck\na.jpg,=cmd|' /C calc'!A0\n",
            {},
            "attributes.csv: row 2 (a.jpg): neck has the value '=cmd|' /C calc'!A0', which a spreadsheet would",
        ),
        ('filename,neck\na.jpg,"a\nb"\n', {}, "row 2 (a.jpg): neck has the value 'a\\nb', which has a line break"),
        ("filename,neck\na.jpg," + "x" * 70 + "\n", {}, "which has more than 60 characters"),
        (
            "filename,hem\na.jpg,0\n",
            {"labels": LABELS},
            "has no column 'neck' (attributes.labels.neck); there are file",
        ),
        (
            "filename,neck\na.jpg,0\n",
            {"labels": {"neck": {"field": "Filename"}}},
            "attributes.labels.neck: 'Filename' is the column that names the photos.",
        ),
        ("filename,neck\na.jpg,0\n", {"file_column": "file"}, "has no column 'file' (attributes.file_column)"),
        ("filename,neck,neck\na.jpg,0,1\n", {}, "the column 'neck' is in the header 2 times"),
        ("filename,neck\nx.jpg,0\n", {}, "none of its 1 row names a photo of the source, such as 'a.jpg'; the first"),
        ("neck,sleeve\n0,1\n", {}, "no column names photos of the source; name it in attributes.file_column"),
        ("filename,neck,split\na.jpg,0,lost\n", {"split_column": "split"}, "'lost' is not a split"),
        (
            "filename,neck,split\na.jpg,0,train\na.jpg,0,test\n",
            {"split_column": "split"},
            "rows 2 and 3 put one photo, 'a.jpg', into the splits train and test",
        ),
        ("filename\na.jpg\n", {}, "has no column with attributes"),
        ("a.jpg,0\nb.jpg,1\n", {}, "its first row names the photo 'a.jpg'; it has to name the columns"),
        (
            "filename,neck\na.jpg,0\n",
            {"csv": "other.csv"},
            "'other.csv' is not in the source; CSV files in it: attr",
        ),
        ("filename,neck\na.jpg,0\n", {"csv": "../../etc/passwd"}, "is not in the source"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, rows: str, changes: dict[str, Any], sentence: str) -> None:
    source = write_source(tmp_path, rows, ["a.jpg", "b.jpg"])
    with pytest.raises(SeamlineError, match=re.escape(sentence)) as caught:
        collect(source, options(**changes))
    assert "\n" not in str(caught.value)


def test_a_name_that_fits_two_photos_is_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path, "filename,neck\n1.jpg,0\n", ["men/1.jpg", "women/1.jpg"])
    with pytest.raises(
        SeamlineError, match=r"'1\.jpg' fits 2 files, such as men/1\.jpg, women/1\.jpg; it has to name the"
    ):
        collect(source, options())


def test_a_csv_outside_of_the_source_is_not_read(tmp_path: Path) -> None:
    source = write_source(tmp_path / "in", "filename,neck\na.jpg,1\n", ["a.jpg"])
    (tmp_path / "out.csv").write_text("filename,neck\na.jpg,1\n")
    for name in ("../out.csv", str(tmp_path / "out.csv")):
        with pytest.raises(
            SeamlineError, match=f"{re.escape(repr(name))} is not in the source; CSV files in it: attrib"
        ):
            collect(source, options(csv=name))


def test_the_group_of_a_photo_is_what_one_of_its_rows_says(tmp_path: Path) -> None:
    rows = "filename,neck,item\na.jpg,1,\na.jpg,1,x\nb.jpg,2,x\nc.jpg,2,\n"
    source = write_source(tmp_path, rows, ["a.jpg", "b.jpg", "c.jpg"])
    found = collect(source, options(group_by="item"))
    assert [one.belongs_to for one in found.garments] == ["x", "x", None] and list(found.values) == ["neck"]


def test_sources_without_a_csv_or_photos_are_refused(tmp_path: Path) -> None:
    write_photo(tmp_path / "a" / "1.jpg", 0)
    with pytest.raises(SeamlineError, match="has no CSV file"):
        collect(tmp_path / "a", options())
    with pytest.raises(SeamlineError, match=r"has no photos beside attributes\.csv"):
        collect(write_source(tmp_path / "b", "filename,neck\n1.jpg,0\n"), options())
    (write_source(tmp_path / "a", "filename,neck\n1.jpg,0\n") / "more.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        SeamlineError, match=r"several CSV files \(attributes.csv, more.csv\); name one in attributes.csv"
    ):
        collect(tmp_path / "a", options())
    assert values_of(tmp_path / "a", csv="attributes.csv") == {"1.jpg": {"neck": "0"}}


def test_free_text_is_not_an_attribute_unless_it_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{number}.jpg" for number in range(42)]
    rows = "".join(f"{name},{number % 21},No. {min(number, 21)}\n" for number, name in enumerate(names))
    source = write_source(tmp_path, "filename,neck,title\n" + rows, names)
    assert set(collect(source, options()).values) == {"neck"}  # whose 21 values stand in two rows each
    assert "the column 'title' has 22 values, and is left out" in capsys.readouterr().out
    assert set(collect(source, options(labels={"title": {}})).values) == {"title"}


@pytest.mark.parametrize(
    ("count", "rows", "is_one"), [(20, 20, False), (21, 21, True), (200, 400, False), (201, 900, True)]
)
def test_how_many_values_free_text_has(count: int, rows: int, is_one: bool) -> None:
    lines = [
        "neck,other",
        *(f"v{number % count}," for number in range(rows)),
        *[",x"] * 500,
    ]  # blank cells do not count
    table = text_to_table("\n".join(lines), "a.csv", [])
    assert is_free_text(table, label_to_vocabulary("neck", Label(), [])) == is_one
