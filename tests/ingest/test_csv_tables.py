"""CSV files as programs and people write them: read, or refused in a sentence with file, row and value."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some_of

from seamline.base.errors import SeamlineError
from seamline.ingest.csv_tables import read_table, text_to_table

HEADER = ["filename", "neck", "pattern"]
ROWS = [["a b.jpg", "0", "#N/A"], ["ü.jpg", "", "1"], ["c.jpg", "2", 'says; "a, b"\tc']]


def written(delimiter: str, terminator: str = "\n") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator=terminator).writerows([HEADER, *ROWS])
    return stream.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("terminator", ["\n", "\r\n", "\r"])
def test_delimiters_marks_and_ends_of_lines_are_read(
    tmp_path: Path, delimiter: str, encoding: str, terminator: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(written(delimiter, terminator).encode(encoding))
    table = read_table(path)
    assert table.header == HEADER
    assert [row.cells for row in table.rows] == ROWS
    assert [row.number for row in table.rows] == [2, 3, 4]
    assert bool(table.notes) == (encoding in ("utf-16", "utf-16-le", "utf-16-be", "cp1252"))


def test_what_excel_and_pandas_write_is_read(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"filename": ["1.jpg", "2.jpg"], "neck": [1, None], "pattern": ["a,b", "c\nd"]})
    frame.to_csv(tmp_path / "pandas.csv")
    table = read_table(tmp_path / "pandas.csv")
    assert table.header == ["", "filename", "neck", "pattern"]
    assert [row.cells for row in table.rows] == [["0", "1.jpg", "1.0", "a,b"], ["1", "2.jpg", "", "c\nd"]]
    (tmp_path / "excel.csv").write_bytes(
        b"sep=;\r\n\xef\xbb\xbf"[:7] + b"filename;neck;;\r\n1.jpg;0;;\r\n;;;\r\n2.jpg;1;;\r\n"
    )
    table = read_table(tmp_path / "excel.csv")
    assert table.header == ["filename", "neck"]
    assert [(row.number, row.cells) for row in table.rows] == [(2, ["1.jpg", "0"]), (4, ["2.jpg", "1"])]
    assert text_to_table("SEP=,\nfilename,neck;hem\n1.jpg,0;1\n", "x.csv", []).header == ["filename", "neck;hem"]


def test_columns_without_a_name_may_have_something_in_them(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("filename,neck,,\na.jpg,1,checked,by me\nb.jpg,2\n")
    table = read_table(tmp_path / "x.csv")
    assert table.header == ["filename", "neck"]
    assert [row.cells for row in table.rows] == [["a.jpg", "1"], ["b.jpg", "2"]]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [";", ",", "\t", "^"])
def test_the_delimiter_that_a_table_names_is_taken_whatever_another_would_give(delimiter: str, end: str) -> None:
    rows = [["a,b;c", "photo"], ["1,2;3", "x.png"]] if delimiter in "\t^" else [["a", "photo"], ["1", "x.png"]]
    if delimiter == ";":
        rows = [["a,b", "photo"], ["1,2", "x.png"]]  # a comma gives as many columns, and comes first
    text = end.join([f"sep={delimiter}", *(delimiter.join(row) for row in rows), ""])
    table = text_to_table(text, "x.csv", [])
    assert [table.header, *(row.cells for row in table.rows)] == rows


def test_a_long_cell_is_read() -> None:
    cell = "long " * 100_000
    [row] = text_to_table(f"filename,description\na.jpg,{cell}\n", "x.csv", []).rows
    assert row.cells == ["a.jpg", cell.strip()]


def test_one_column_has_no_delimiter(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("filename\na.jpg\nb.jpg\n")
    assert [row.cells for row in read_table(tmp_path / "x.csv").rows] == [["a.jpg"], ["b.jpg"]]


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"", ("is empty",)),
        (b"\xef\xbb\xbf \r\n\r\n", ("is empty",)),
        (b"filename,neck\n", ("has a header (filename, neck) and no rows",)),
        (
            b"filename,neck\na.jpg,1\nb.jpg\n",
            ("row 3 ('b.jpg') has 1 cell, and the header 2; write its empty cells too",),
        ),
        (
            b"filename,neck\na.jpg,1\nb.jpg,1,2\n",
            ("row 3 ('b.jpg') has 3 cells, and the header 2; put a cell that contains the delimiter into quotes",),
        ),
        (b'filename,neck\na.jpg,"1\nb.jpg,2\n', ("row 2 cannot be read", "quote")),
        (b"PK\x03\x04\x14\0\x06\0", ("Excel workbook", "save it as CSV")),
        (b"\xd0\xcf\x11\xe0", ("old Excel workbook",)),
        (b"a,b\n1,\0\0\0", ("is not text",)),
        (b"\x80\x04\x95abc", ("is not text",)),
        (b"\xff\xfea", ("is not text",)),
    ],
)
def test_what_cannot_be_read_is_a_sentence(tmp_path: Path, data: bytes, parts: tuple[str, ...]) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(SeamlineError) as caught:
        read_table(tmp_path / "x.csv")
    assert all(part in str(caught.value) for part in ("x.csv: ", *parts)), caught.value


def test_a_column_that_is_there_twice_is_refused_where_it_is_asked_for() -> None:
    table = text_to_table("f,neck,neck,Sleeve\na,1,2,3\n", "x.csv", [])
    assert table.column("sleeve") == 3
    assert table.column("hem") is None
    with pytest.raises(SeamlineError, match=r"x\.csv: the column 'neck' is in the header 2 times"):
        table.column("neck")
    table = text_to_table("f,neck,Neck\na,1,2\n", "x.csv", [])
    assert (table.column("neck"), table.column("Neck")) == (1, 2)
    with pytest.raises(SeamlineError, match="'NECK' is in the header 2 times"):
        table.column("NECK")


CELLS = some_of.text("ab,;|'\"\t\n=+é漢", min_size=1).map(lambda text: f"x{text}x")


@settings(max_examples=50)
@given(some_of.lists(some_of.tuples(CELLS, CELLS), min_size=2), some_of.sampled_from(",;\t|"))
def test_what_python_writes_is_read_back(rows: list[tuple[str, str]], delimiter: str) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("filename", "neck"), *rows])
    assert [tuple(row.cells) for row in text_to_table(stream.getvalue(), "x.csv", []).rows] == rows
