"""Which column of a CSV names photos: never the number of a row, where another column has the photos' names."""

from __future__ import annotations

import re

import pytest

from seamline.attributes.file_columns import file_column_of
from seamline.base.errors import SeamlineError
from seamline.ingest.csv_tables import text_to_table

PHOTOS = [f"shirts/{number}.jpg" for number in range(8)]


def column(lines: list[str], name: str | None = None, photos: list[str] = PHOTOS) -> str:
    table = text_to_table("\n".join(lines), "a.csv", [])
    return table.header[file_column_of(table, name, photos)]


def test_numbers_of_rows_are_not_names_though_they_name_more_photos() -> None:
    rows = [f"{7 - number},{number % 5}.jpg,1" for number in range(8)]  # as pandas writes its index
    assert column([",picture,neck", *rows]) == "picture"
    assert column(["Unnamed: 0,picture,neck", *rows]) == "picture"
    assert column(["Unnamed: 0,picture,neck", *rows], "unnamed: 0") == "Unnamed: 0"


def test_addresses_are_names_with_endings() -> None:
    rows = [f"https://shop.example/a/{number}.jpg?sig={7 - number}.x,{number}" for number in range(8)]
    assert column(["link,code", *rows]) == "link"
    assert column(["link,code", "../../etc/passwd,1", "3.jpg,2"]) == "link"  # half of them are names
    odd = [f"what?{number}.jpg" for number in range(8)]  # not an address
    assert column(["link,file", *(f"{name},what" for name in odd)], photos=odd) == "link"
    rows = [f"https://shop.example/a/{number}.jpg#main,{number}" for number in range(8)]
    assert column(["link,code", *rows]) == "link"


def test_without_endings_the_usual_name_decides_or_nothing_does() -> None:
    rows = [f"{7 - number},{number},{number % 2}" for number in range(8)]
    assert column(["row,id,neck", *rows]) == "id"
    assert column(["code,Image,neck", *rows]) == "Image"
    with pytest.raises(SeamlineError, match=re.escape("a.csv: the columns 'row' and 'code' both name photos")):
        column(["row,code,neck", *rows])
    assert column(["row,code,neck", *rows], "row") == "row"
    same = [f"{number},{number},{number % 2}" for number in range(8)]
    assert column(["row,code,neck", *same]) == "row"  # which says the same
    few = [f"{number % 3},{number},{number % 2}" for number in range(8)]
    assert column(["sleeve,code,neck", *few]) == "code"  # codes name photos, too, but few of them


def test_two_columns_with_endings_that_differ_are_refused_but_where_one_names_few() -> None:
    rows = [f"{number}.jpg,{7 - number}.jpg,1" for number in range(8)]
    with pytest.raises(SeamlineError, match=re.escape("the columns 'front' and 'back' both name photos")):
        column(["front,back,neck", *rows])
    assert column(["back,file,neck", *rows]) == "file"
    others = [f"{number}.jpg,{'7.jpg' if number else ''},1" for number in range(8)]
    assert column(["front,cover,neck", *others]) == "front"


def test_where_no_photo_is_named_the_usual_name_is_taken_so_that_rows_are_counted() -> None:
    assert column(["neck,Photo", "v,a.jpg"]) == "Photo"
    with pytest.raises(SeamlineError, match=r"no column names photos of the source; name it in attributes.file_column"):
        column(["neck,x", "v,a"])
    with pytest.raises(SeamlineError, match=r"has no column 'y' \(attributes.file_column\); there are neck, x"):
        column(["neck,x", "v,a"], "y")
    with pytest.raises(SeamlineError, match=r"its first row names the photo 'shirts/0.jpg'; it has to name"):
        column(["shirts/0.jpg,1", "shirts/1.jpg,0"])
