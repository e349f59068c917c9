"""Cells and fields as values of attributes: missing ones, codes, names, and what no table may pass on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from unicodedata import category, normalize

from seamline.attributes.garments import COLUMNS
from seamline.base.errors import SeamlineError
from seamline.base.escaping import FORMULA, has_control_character
from seamline.dataset.groups import has_value
from seamline.ingest.csv_tables import shown
from seamline.params.attributes import Label

# What pandas makes of a whole number in a column in which others are missing.
FLOAT = re.compile(r"([+-]?\d+)\.0+")
WHOLE = re.compile(r"-?\d+")
JOINERS = "\u200c\u200d"  # of letters in Persian, and of emoji
LONGEST = 60  # characters of a value's name: it is drawn in charts and a column of tables
MOST_VALUES = 200  # of an attribute; more are names or numbers of garments
FEW_VALUES = 20  # of an attribute, though each may stand in one row alone
# What a spreadsheet writes where a formula has failed.
FAILED = re.compile(r"#(REF|VALUE|DIV/0|NAME|NUM|NULL|SPILL|CALC)[!?]")
TABLES_OWN = {*COLUMNS, "image_id", "class", "score", "x", "y", "width", "height", "mask_area_px", "person", "crop"}


class Vocabulary(NamedTuple):
    """How one attribute is read."""

    name: str
    field: str
    values: Mapping[str, str | None] | None  # what stands there -> the value's name; None: as it is
    missing: Collection[str]  # in small letters


def label_to_vocabulary(name: str, label: Label, missing: Sequence[str]) -> Vocabulary:
    """
    Raises:
        SeamlineError: when two codes are the same one.
    """
    values = None if label.values is None else {plain_code(code): value for code, value in label.values.items()}
    if values is not None and len(values) < len(label.values or {}):
        raise SeamlineError(
            f"attributes.labels.{name}.values: names a code twice, such as 1 and 1.0, which are the same one."
        )
    return Vocabulary(name, label.field or name, values, {word.strip().casefold() for word in missing})


def as_named(code: str, values: Mapping[str, str | None]) -> str | None:
    """The code of a mapping that stands in a cell, in capitals or not; None where none or several do."""
    if code in values:
        return code
    found = [own for own in values if own.casefold() == code.casefold()]
    return found[0] if len(found) == 1 else None


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
    own = None if vocabulary.values is None else as_named(code, vocabulary.values)
    is_missing = not code or code.casefold() in vocabulary.missing
    if own is not None and own != code and is_missing:  # Python's None beside the value none
        raise SeamlineError(
            f"{where}: {vocabulary.field} has the value {shown(code)}, which may be {shown(own)} or a missing one; "
            f"name it in attributes.labels.{vocabulary.name}.values, as what it is or as null."
        )
    if vocabulary.values is not None and own is not None:
        return vocabulary.values[own]
    if is_missing:
        return None
    if vocabulary.values is not None:
        raise SeamlineError(
            f"{where}: {vocabulary.field} has the value {shown(code)}, and attributes.labels.{vocabulary.name}.values "
            f"does not name it; allowed are {', '.join(vocabulary.values)}, and what attributes.missing lists."
        )
    if reason := odd_name(code):
        raise SeamlineError(
            f"{where}: {vocabulary.field} has the value {shown(code)}, which {reason}; give it a name in "
            f"attributes.labels.{vocabulary.name}.values, or list it in attributes.missing."
        )
    return code


def plain_code(cell: object) -> str:
    """A code as text: 1.0 is 1, as pandas writes whole numbers beside missing ones; true and false as in JSON.

    Letters with accents are one character, however a system has written them.
    """
    if isinstance(cell, bool):
        return str(cell).lower()
    text = "" if cell is None else normalize("NFC", str(cell)).strip()
    whole = FLOAT.fullmatch(text)
    return whole[1] if whole else text


def odd_name(name: str) -> str:
    """What is wrong with a value's name, as the end of a sentence; "" where nothing is."""
    if FORMULA.match(name):
        return "a spreadsheet would take for a formula"
    if FAILED.fullmatch(name):
        return "is a spreadsheet's error"
    if has_control_character(name):
        return "has a line break or another control character in it"
    if any(category(letter) == "Cf" and letter not in JOINERS for letter in name):
        return "has a character in it that cannot be seen"
    return f"has more than {LONGEST} characters" if len(name) > LONGEST else ""


def check_names(labels: Mapping[str, Label]) -> None:
    """Raises SeamlineError for names of attributes and values that no table may have."""
    for name, label in labels.items():
        if name in TABLES_OWN:
            raise SeamlineError(
                f"attributes.labels: an attribute cannot be called {shown(name)}, as a column of the tables that are "
                f"written is; give it another name, with `field: {name}`."
            )
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


def check_alike(values: Mapping[str, Sequence[str]]) -> None:
    """Raises SeamlineError for values of an attribute that differ in capitals alone: nothing says whether that means
    anything."""
    for name, own in values.items():
        first: dict[str, str] = {}
        for value in own:
            other = first.setdefault(value.casefold(), value)
            if other != value:
                raise SeamlineError(
                    f"attributes: {name!r} has the values {shown(other)} and {shown(value)}, which differ in capitals "
                    f"alone; name both in attributes.labels.{name}.values, as one or as two."
                )


def ordered_values(seen: Collection[str], vocabulary: Vocabulary) -> list[str]:
    """Those of an attribute's values that were seen, in the order of the mapping, else sorted, numbers as numbers."""
    if vocabulary.values is not None:
        named = dict.fromkeys(name for name in vocabulary.values.values() if name is not None)
        return [name for name in named if name in seen]
    return sorted(seen, key=lambda name: (0, int(name), name) if WHOLE.fullmatch(name) else (1, 0, name))
