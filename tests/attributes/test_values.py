"""Cells as values: spellings of one code, what no table may pass on, and names that are taken."""

from __future__ import annotations

import re
from typing import Any

import pytest

from seamline.attributes.values import (
    Vocabulary,
    cell_to_value,
    check_alike,
    check_names,
    label_to_vocabulary,
    ordered_values,
    value_below,
)
from seamline.base.errors import SeamlineError
from seamline.params.attributes import Label


def vocabulary(values: dict[str, str | None] | None, missing: tuple[str, ...] = ("None", "#N/A")) -> Vocabulary:
    return label_to_vocabulary("neck", Label("column", values), missing)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1", "round"), ("1.0", "round"), (" 01.000 ", "boat"), (1, "round"), ("V", "v-neck"), ("v", "v-neck"),
        ("TRUE", "yes"), (True, "yes"), ("9", None), ("none", "bare"), ("#n/a", None), ("", None),
        (None, None), ("cafe\u0301", "latin"), ("a", "small"), ("A", "large"),
    ],
)  # fmt: skip
def test_one_code_is_spelled_in_several_ways(cell: object, value: str | None) -> None:
    values = {
        "1.0": "round", "01": "boat", "v": "v-neck", "true": "yes", "9": None, "none": "bare", "caf\u00e9": "latin",
        "a": "small", "A": "large",
    }  # fmt: skip
    assert cell_to_value(cell, vocabulary(values), "row 2") == value


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("2", "row 2: column has the value '2', and attributes.labels.neck.values does not name it; allowed are 1, a,"),
        ("1,0", "does not name it"),
        ("None", "row 2: column has the value 'None', which may be 'none' or a missing one; name it in "),
        ("B", "does not name it"),
        ("XL", "does not name it"),  # which of two?
    ],
)  # fmt: skip
def test_a_code_without_a_name_is_refused(cell: str, sentence: str) -> None:
    with pytest.raises(SeamlineError, match=re.escape(sentence)):
        cell_to_value(cell, vocabulary({"1": "x", "a": "y", "none": "z", "xl": "u", "Xl": "w"}), "row 2")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("=1+1", "a spreadsheet would take for a formula"),
        ("@x", "a spreadsheet would take for a formula"),
        ("#REF!", "is a spreadsheet's error"),
        ("#NAME?", "is a spreadsheet's error"),
        ("v\nneck", "has a line break or another control character in it"),
        ("\u200bv", "has a character in it that cannot be seen"),
        ("\u202ev", "has a character in it that cannot be seen"),
        ("x" * 61, "has more than 60 characters"),
    ],
)
def test_what_no_table_may_pass_on_is_refused_and_may_be_named(cell: str, reason: str) -> None:
    with pytest.raises(SeamlineError, match=f"{re.escape(reason)}; give it a name in .*neck.values, or list it in"):
        cell_to_value(cell, vocabulary(None), "row 2")
    assert cell_to_value(cell, vocabulary({cell: "v"}), "row 2") == "v"
    assert cell_to_value(cell, vocabulary(None, (cell,)), "row 2") is None
    for labels in ({cell: Label()}, {"neck": Label(None, {"1": cell})}):
        with pytest.raises(SeamlineError, match=r"attributes.labels: the name .* choose another"):
            check_names(labels)


def test_letters_that_others_write_stay() -> None:
    for cell in (
        "x" * 60,
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f9b0",
        "a, b",
        "#1",
    ):
        assert cell_to_value(cell, vocabulary(None), "row 2") == cell


def test_a_code_that_is_named_twice_is_refused() -> None:
    with pytest.raises(SeamlineError, match=r"attributes.labels.neck.values: names a code twice, such as 1 and 1.0"):
        vocabulary({"1": "a", "1.0": "b"})


@pytest.mark.parametrize("name", ["split", "group", "id", "x1", "score", "class"])
def test_an_attribute_is_not_called_as_a_column_of_our_tables(name: str) -> None:
    with pytest.raises(SeamlineError, match=f"cannot be called '{name}', .* with `field: {name}`"):
        check_names({name: Label()})
    check_names({"kind": Label(name)})


def test_values_that_differ_in_capitals_alone_are_refused() -> None:
    check_alike({"neck": ["v", "round"], "sleeve": ["V"]})
    with pytest.raises(SeamlineError, match=r"'neck' has the values 'V' and 'v', .* in attributes.labels.neck.values"):
        check_alike({"sleeve": ["a"], "neck": ["V", "round", "v"]})


def test_values_are_in_the_order_of_the_mapping_or_of_numbers_and_letters() -> None:
    assert ordered_values({"x", "y"}, vocabulary({"2": "y", "1": "x", "3": "y", "9": None, "4": "z"})) == ["y", "x"]
    assert ordered_values({"10", "9", "b", "a"}, vocabulary(None)) == ["9", "10", "a", "b"]
    assert ordered_values({"0", "-1", "-10", "1", "-", "2-3"}, vocabulary(None)) == ["-10", "-1", "0", "1", "-", "2-3"]
    assert ordered_values({"\u00b2", "10", "\u0663"}, vocabulary(None)) == ["\u0663", "10", "\u00b2"]  # 3, and not 2


def test_a_field_is_found_by_its_name_or_its_path() -> None:
    record: dict[str, Any] = {"a": {"b": {"c": 1}, "d": ""}, "a.b": "own", "e": None, "g": ""}
    found = [value_below(record, field) for field in ("a.b", "a.b.c", "a.d", "e", "a.x.y", "f", "g")]
    assert found == ["own", 1, None, None, None, None, None]
