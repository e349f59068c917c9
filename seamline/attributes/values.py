"""Cells and fields as values of attributes: missing ones, codes, names, and what no table may pass on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from seamline.attributes.csv_tables import shown
from seamline.base.errors import SeamlineError
from seamline.base.escaping import FORMULA, has_control_character
from seamline.dataset.groups import has_value
from seamline.params.attributes import Label

# What pandas makes of a whole number in a column in which others are missing.
FLOAT = re.compile(r"([+-]?\d+)\.0+")
LONGEST = 60  # characters of a value's name: it is drawn in charts and a column of tables
MOST_VALUES = 200  # of an attribute; more are names or numbers of garments


class Vocabulary(NamedTuple):
    """How one attribute is read."""

    name: str
    field: str
    values: Mapping[str, str | None] | None  # what stands there -> the value's name; None: as it is
    missing: Collection[str]  # in small letters


def label_to_vocabulary(name: str, label: Label, missing: Sequence[str]) -> Vocabulary:
    return Vocabulary(name, label.field or name, label.values, {word.strip().casefold() for word in missing})


def cell_to_value(cell: object, vocabulary: Vocabulary, where: str) -> str | None:
    """The name of a value; None where it is missing.

    Args:
        cell: text, or a field of JSON.
        vocabulary: of its attribute.
        where: file, row and photo, or the annotation, for the message.

    Raises:
        SeamlineError: for a value that the mapping does not name, or that looks like a formula.
    """
    code = plain_code(cell)
    if vocabulary.values is not None and code in vocabulary.values:
        return vocabulary.values[code]
    if not code or code.casefold() in vocabulary.missing:
        return None
    if vocabulary.values is not None:
        raise SeamlineError(
            f"{where}: {vocabulary.field} has the value {shown(code)}, and attributes.labels.{vocabulary.name}.values "
            f"does not name it; allowed are {', '.join(vocabulary.values)}, and what attributes.missing lists."
        )
    if reason := odd_name(code):
        raise SeamlineError(
            f"{where}: {vocabulary.field} has the value {shown(code)}, which {reason}; give it a name in "
            f"attributes.labels.{vocabulary.name}.values."
        )
    return code


def plain_code(cell: object) -> str:
    """A code as text: 1.0 is 1, as pandas writes whole numbers beside missing ones; true and false as in JSON."""
    if isinstance(cell, bool):
        return str(cell).lower()
    text = "" if cell is None else str(cell).strip()
    whole = FLOAT.fullmatch(text)
    return whole[1] if whole else text


def odd_name(name: str) -> str:
    """What is wrong with a value's name, as the end of a sentence; "" where nothing is."""
    if FORMULA.match(name):
        return "a spreadsheet would take for a formula"
    if has_control_character(name):
        return "has a line break or another control character in it"
    return f"has more than {LONGEST} characters" if len(name) > LONGEST else ""


def check_names(labels: Mapping[str, Label]) -> None:
    """Raises SeamlineError for names of attributes and values that no table may have."""
    for name, label in labels.items():
        for word in (name, *(value for value in (label.values or {}).values() if value is not None)):
            if reason := odd_name(word):
                raise SeamlineError(f"attributes.labels: the name {shown(word)} {reason}; choose another.")


def listed_values(values: Sequence[Any], vocabulary: Vocabulary) -> tuple[str | None, list[str]]:
    """The value of a list such as Fashionpedia's attribute_ids, in which other attributes have their values too.

    Returns:
        The one value of the list that the mapping names, None for none or several; and those several.
    """
    named = vocabulary.values or {}
    found = sorted({name for code in map(plain_code, values) if (name := named.get(code)) is not None})
    return (found[0], []) if len(found) == 1 else (None, found)


def value_below(record: Mapping[str, Any], field: str) -> Any:
    """A field of a record, by its own name or by a path with dots; None where there is nothing."""
    if field in record:
        return record[field] if has_value(record[field]) else None
    found: Any = record
    for key in field.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found if has_value(found) else None


def ordered_values(seen: Collection[str], vocabulary: Vocabulary) -> list[str]:
    """Those of an attribute's values that were seen, in the order of the mapping, else sorted, numbers as numbers."""
    if vocabulary.values is not None:
        named = dict.fromkeys(name for name in vocabulary.values.values() if name is not None)
        return [name for name in named if name in seen]
    return sorted(seen, key=lambda name: (not name.lstrip("-").isdigit(), int(name) if name.isdigit() else 0, name))
