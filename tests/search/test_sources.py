"""Photos and what users know of them, from tables as people save them, folders and datasets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seamline.base.errors import SeamlineError
from seamline.photos.listing import Photo
from seamline.photos.remote import Remote
from seamline.search.sources import (
    Listing,
    cell_to_photo,
    csv_to_listing,
    find_listing,
    joined,
    to_cell,
    with_csv,
    words_to_listing,
)
from tests.conftest import write_dataset
from tests.search.made import write_photos


def listing_of(folder: Path, text: str | bytes, file_column: str | None = None) -> Listing:
    path = folder / "items.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return csv_to_listing(path, file_column, Remote())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_photos(tmp_path / "a", 4)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "file_name,colour\na/000.png,red\na/001.png,\n",
        "sep=;\r\nfile_name;colour\r\na/000.png;red\r\na/001.png;\r\n",
        "file_name,colour,,\na/000.png,red,,\na/001.png,,,\n",
        "file_name,colour\na/000.png,red,\na/001.png,,\n",
        "\n , \nfile_name, colour \na/000.png , red\na/001.png, \n",
        "\ufefffile_name,colour\r\na/000.png,red\r\na/001.png,\r\n",
        "file_name;colour\na/000.png;red\na/001.png;\n",
        "colour\tPhoto\nred\ta/000.png\n\ta/001.png\n",
        'colour,path\nred,"a/000.png"\n,a/001.png\n\n',
    ],
)
def test_tables_as_people_save_them(folder: Path, text: str) -> None:
    found = listing_of(folder, text)
    assert found.columns == ["colour"]
    assert [(one.photo.name, one.values, one.reason) for one in found.photos] == [
        ("a/000.png", ["red"], ""),
        ("a/001.png", [None], ""),
    ]
    assert found.oddities == []


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8-sig", []),
        ("utf-16", ["is in UTF-16."]),
        ("cp1252", ["is not in UTF-8, and was read as Windows-1252."]),
    ],
)
def test_a_table_of_excel_is_read_in_its_encoding_and_that_is_said(
    folder: Path, encoding: str, note: list[str]
) -> None:
    found = listing_of(folder, "file_name;colour\r\na/000.png;grün\r\n".encode(encoding))
    assert [one.values for one in found.photos] == [["grün"]]
    assert found.oddities == [(str(folder / "items.csv"), one) for one in note]


@pytest.mark.parametrize("text", ['"a,b,c";photo\n1;a/000.png\n', "photo\ta,b,c\na/000.png\t1\n"])
def test_what_divides_columns_is_what_gives_one_with_photos(folder: Path, text: str) -> None:
    found = listing_of(folder, text)
    assert (found.columns, [one.values for one in found.photos]) == (["a,b,c"], [["1"]])


def test_columns_called_id_and_photo_are_the_users(folder: Path) -> None:
    found = listing_of(folder, "id,photo,row,class\n7,x,1,hat\n", "id")
    assert found.columns == ["photo", "row", "class"]
    assert found.photos[0].values == ["x", "1", "hat"]


def test_a_file_that_is_not_there_is_listed_and_the_others_count(folder: Path) -> None:
    found = listing_of(folder, "file,x\na/000.png,1\nnothing.png,2\n")
    assert [(one.photo.name, one.reason) for one in found.photos] == [
        ("a/000.png", ""),
        ("nothing.png", "there is no such file."),
    ]


def test_a_photo_that_stands_twice_counts_once_and_is_said(folder: Path) -> None:
    found = listing_of(folder, "file,x\na/000.png,1\n./a/000.png,1\na/../a/000.png,2\n,3\na/001.png,4\n")
    assert [one.values for one in found.photos] == [["1"], ["4"]]
    assert found.oddities == [
        ("./a/000.png", "stands in row 2 and, with the same values, in row 3; the first counts."),
        ("a/../a/000.png", "stands in row 2 and, with other values, in row 4; the first counts."),
        (str(folder / "items.csv") + ", row 5", "names no photo."),
    ]


@pytest.mark.parametrize(
    ("text", "file_column", "sentence"),
    [
        ("", None, "is empty; its first row has to name the columns"),
        ("a,b\n1,2\n", None, "none of its columns is called file_name, filename, file, photo, image, path or url"),
        ("file,b\n1,2\n", "name", "has no column 'name'; it has file, b"),
        ("file,b,b\n1,2,3\n", None, "has two columns called 'b'"),
        ("file,,b\n1,2,3\n", None, "its column 1 has no name"),
        ("file,b\na/000.png,2,3\n", None, "items.csv: row 2 ('a/000.png') has 3 cells, and the header 2"),
        ("file,b\n", None, "has a header (file, b) and no rows"),
        ("file,b\n,1\n", None, "names no photo"),
        (
            "file,b\na/000.png,1\na/001.png\n",
            None,
            "items.csv: row 3 ('a/001.png') has 1 cell, and the header 2; write its empty cells too",
        ),
        ('file,b\na/000.png,"2\na/001.png,3\n', None, "items.csv: row 2 cannot be read (unexpected end of data)"),
        ("sep=;\n", None, "is empty; its first row has to name the columns"),
        (b"PK\x03\x04", None, "items.csv: is an Excel workbook"),
        ("file," + ",".join(map(str, range(501))) + "\n" + "1," * 501 + "1\n", None, "has 501 columns; at most 500"),
    ],
)
def test_what_is_not_such_a_table_is_said(folder: Path, text: Any, file_column: Any, sentence: str) -> None:
    with pytest.raises(SeamlineError) as caught:
        listing_of(folder, text, file_column)
    assert sentence in str(caught.value)


def test_a_dataset_has_its_photos_fields_and_splits(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "raw", 3)
    (folder / "instances.json").rename(folder / "annotations.json")
    (folder / "photos").rename(folder / "images")
    found = find_listing(str(folder), None, {"002.png": "val"}, Remote())
    assert found.columns == ["pair_id"]
    assert [(one.photo.name, one.values, one.split) for one in found.photos] == [
        ("001.png", ["1"], None),
        ("002.png", ["1"], "val"),
        ("003.png", ["2"], None),
    ]


def test_names_are_relative_to_the_folder_that_was_named(folder: Path) -> None:
    found = find_listing(str(folder), None, {}, Remote())
    assert [one.photo.name for one in found.photos] == [f"a/00{number}.png" for number in range(4)]


def test_a_photo_alone_has_its_own_name(folder: Path) -> None:
    assert [one.photo.name for one in find_listing(str(folder / "a" / "001.png"), None, {}, Remote()).photos] == [
        "001.png"
    ]


def test_tables_and_folders_are_joined_by_photo(folder: Path) -> None:
    first = listing_of(folder, "file,colour,size\na/000.png,red,M\na/001.png,blue,L\n")
    second = listing_of(folder, "file,size\na/001.png,XL\na/002.png,S\n")
    both = joined([words_to_listing([str(folder / "a")], Remote()), first, second])
    assert both.columns == ["colour", "size"]
    assert [one.values for one in both.photos] == [["red", "M"], ["blue", "XL"], [None, "S"], [None, None]]


def test_the_table_of_a_source_lies_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("photo\na.png\n")
    assert with_csv("shop", None) == "shop"
    assert with_csv(str(tmp_path), "items.csv") == str(tmp_path / "items.csv")
    for source, name in (("s3://shop", "items.csv"), (str(tmp_path), "other.csv"), (str(tmp_path), ".")):
        with pytest.raises(SeamlineError, match=r"^catalogue\.csv: '.*' is not a \.csv or \.tsv file in the folder"):
            with_csv(source, name)


def test_an_address_of_several_photos_is_not_one_of_them(folder: Path) -> None:
    listed = [Photo(f"s3://shop/a/{number}.png", "", "1", None, str(number)) for number in range(2)]
    several: Any = SimpleNamespace(photos=lambda name, _: listed if name == "s3://shop/a/" else listed[:1])
    found = cell_to_photo("s3://shop/a/", folder / "items.csv", several)
    assert (found[0].name, found[1]) == ("s3://shop/a/", "is not the address of one photo.")
    assert cell_to_photo("s3://shop/a/0.png", folder / "items.csv", several) == (listed[0], "")


def test_fields_are_text_and_whole_numbers_have_no_point() -> None:
    cells = [to_cell(value) for value in (2.0, 2.5, -3.0, 7, "a", True, None, [1], 1e300)]
    assert cells == ["2", "2.5", "-3", "7", "a", "True", None, None, "1e+300"]
