"""CSV files as spreadsheets, pandas and people write them: delimiters, byte-order marks, quoted lines, ragged rows."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from seamline.base.errors import SeamlineError, counted, some
from seamline.base.escaping import to_terminal

DELIMITERS = (",", ";", "\t", "|")
SAMPLE_ROWS = 50  # that show which delimiter it is
WORKBOOKS = {b"PK\x03\x04": "an Excel workbook or another zip", b"\xd0\xcf\x11\xe0": "an old Excel workbook"}
SHOWN_CHARACTERS = 80
LONGEST_CELL = 10_000_000  # characters; csv's own limit, 131,072, is that of a whole process
NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0e-\x1a\x7f]")  # but for tabs, ends of lines and escapes


class Row(NamedTuple):
    """A record of the file."""

    number: int  # as a spreadsheet counts them: the header is row 1
    cells: list[str]


class Table(NamedTuple):
    """A CSV file; blank rows are left out."""

    name: str
    header: list[str]
    rows: list[Row]
    notes: list[str]  # of how it is written, as the end of a sentence

    def column(self, name: str) -> int | None:
        """The position of a column, by its name or one that differs in case alone; None where there is none.

        Raises:
            SeamlineError: when several columns are called so.
        """
        for form in (str, str.casefold):
            found = [at for at, one in enumerate(self.header) if form(one) == form(name)]
            if len(found) > 1:
                raise SeamlineError(
                    f"{self.name}: the column {shown(name)} is in the header {len(found)} times; rename all but one."
                )
            if found:
                return found[0]
        return None


def read_table(path: Path, name: str | None = None) -> Table:
    """Read a CSV file whatever its delimiter (comma, semicolon, tab, bar), byte-order mark and ends of lines are.

    Args:
        name: what errors call it; None: its own name, without the folder.

    Raises:
        SeamlineError: when it is empty or not text, or a row has another number of cells than the header.
    """
    name = to_terminal(path.name if name is None else name)
    text, notes = data_to_text(path.read_bytes(), name)
    return text_to_table(text, name, notes)


def data_to_text(data: bytes, name: str) -> tuple[str, list[str]]:
    """Text of UTF-8 or UTF-16, else of Windows' code page, and what had to be assumed.

    Raises:
        SeamlineError: when it is not text.
    """
    for start, kind in WORKBOOKS.items():
        if data.startswith(start):
            raise SeamlineError(f"{name}: is {kind}, and not a CSV; save it as CSV (UTF-8).")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding, note = "utf-16", "is in UTF-16"
    elif data[:400].count(0) > len(data[:400]) // 4:  # without a mark: every second byte of plain letters is 0
        encoding, note = ("utf-16-le" if data[1:2] == b"\0" else "utf-16-be"), "is in UTF-16 without a byte-order mark"
    else:
        encoding, note = "utf-8-sig", ""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        if note:
            raise SeamlineError(f"{name}: is not text; it has to be a CSV in UTF-8 or UTF-16.") from None
        text, note = data.decode("cp1252", "replace"), "is not in UTF-8, and was read as Windows-1252"
    if NOT_IN_TEXT.search(text):
        raise SeamlineError(f"{name}: is not text; it has to be a CSV in UTF-8 or UTF-16.")
    return text, [note] if note else []


def text_to_table(text: str, name: str, notes: list[str]) -> Table:
    delimiter = None
    if text[:4].lower() == "sep=" and "\n" in text:  # what Excel reads the delimiter from
        first, _, text = text.partition("\n")
        delimiter = first[4:].strip(" \r")[:1] or None
    if not text.strip():
        raise SeamlineError(f"{name}: is empty; its first row has to name the columns.")
    found = records_of(text, delimiter or delimiter_of(text), name)
    header_at = next(at for at, row in enumerate(found) if not is_blank(row))
    header = [cell.strip() for cell in found[header_at].cells]
    # Columns without a name at the end, which spreadsheets leave, may be missing in a row.
    named = max((at + 1 for at, name in enumerate(header) if name), default=0)
    rows = []
    for row in found[header_at + 1 :]:
        if is_blank(row):
            continue
        cells = [cell.strip() for cell in row.cells]
        if len(cells) < named or any(cells[len(header) :]):
            what = (
                "write its empty cells too"
                if len(cells) < named
                else "put a cell that contains the delimiter into quotes"
            )
            raise SeamlineError(
                f"{name}: row {row.number} ({shown(cells[0])}) has {counted(len(cells), 'cell')}, and the header "
                f"{len(header)}; {what}."
            )
        rows.append(Row(row.number, cells[:named]))
    if not rows:
        raise SeamlineError(f"{name}: has a header ({some(header)}) and no rows.")
    return Table(name, header[:named], rows, notes)


def delimiter_of(text: str) -> str:
    """The one that gives most rows the header's number of cells, and of those the most cells."""
    scores = {}
    for delimiter in DELIMITERS:
        counts = []
        try:
            for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
                if any(map(str.strip, record)):
                    counts.append(len(record))
                if len(counts) == SAMPLE_ROWS:
                    break
        except csv.Error:
            pass
        alike = Counter(counts)[counts[0]] / len(counts) if counts and counts[0] > 1 else 0
        scores[delimiter] = (alike > 0.5, alike if alike <= 0.5 else 1, counts[0] if counts else 0)
    return max(DELIMITERS, key=lambda delimiter: scores[delimiter])  # the first of equals


def records_of(text: str, delimiter: str, name: str) -> list[Row]:
    """Every record, blank ones too.

    Raises:
        SeamlineError: when a quote is never closed, or a cell is longer than csv reads.
    """
    csv.field_size_limit(LONGEST_CELL)
    found: list[Row] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            found.append(Row(len(found) + 1, cells))
    except csv.Error as error:
        raise SeamlineError(
            f"{name}: row {len(found) + 1} cannot be read ({error}); double a quote inside a cell, and put the cell "
            "into quotes."
        ) from None
    return found


def is_blank(row: Row) -> bool:
    return not any(map(str.strip, row.cells))


def shown(text: str) -> str:
    """A cell in a sentence: on one line, in quotes, cut where it is long."""
    plain = to_terminal(text)
    return f"'{plain[:SHOWN_CHARACTERS]}{'...' if len(plain) > SHOWN_CHARACTERS else ''}'"
