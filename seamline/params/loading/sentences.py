"""msgspec's errors as sentences: the key, its value and what is allowed."""

from __future__ import annotations

import difflib
import functools
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec

from seamline.params.loading.types import Section

# A few lines of YAML can say a list of a billion items, by naming others.
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxlist, SHORT.maxdict, SHORT.maxstring, SHORT.maxother = 2, 10, 10, 200, 200

# msgspec's names of types, and what they are called in YAML.
WORDS = {
    "object": "mapping",
    "array": "list",
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
}


def validation_error_to_sentence(message: str, values: Any, file: type[Section]) -> str:
    """Turn msgspec's "Expected `int` >= 1 - at `$.train.epochs`" into a sentence with key, value and remedy.

    Args:
        message: of msgspec's ValidationError.
        values: what was checked.
        file: the type that it was checked against.
    """
    text, _, path = message.partition(" - at ")
    if path.startswith("`key` in"):
        key = ".".join(re.findall(r"[\w-]+", path.removeprefix("`key` in").strip().strip("`")))
        return f"{key}: every name in it has to be text; put numbers in quotes."
    path, inside_mapping, _ = path.strip("`").removeprefix("$").partition("[...]")
    keys = re.findall(r"[\w-]+", path)
    dotted = ".".join(keys)
    if inside_mapping:
        key, value = refused_item(keys, values, file)
        return f"{dotted}.{key}: {value!r} is not allowed; {plain_words(text)}."
    if unknown := re.search(r"unknown field `(.*)`", text):
        return unknown_key_to_sentence([*keys, unknown[1]], field_type(keys, file))
    if missing := re.search(r"missing required field `(.*)`", text):
        return f"{'.'.join([*keys, missing[1]])}: is missing."
    value = values
    for key in keys:
        value = value[int(key)] if isinstance(value, list) and key.isdigit() else value.get(key, {})
    if text.startswith("Invalid enum value"):
        text = f"Expected one of {', '.join(get_args(field_type(keys, file)))}"
    if text.startswith("Expected"):
        wanted = plain_words(text) + nearest_multiples(text, value)
        return f"{dotted or 'top level'}: {SHORT.repr(value)} is not allowed; {wanted}."
    return f"{dotted}: {text}."


def unknown_key_to_sentence(keys: Sequence[str], section: type[Section]) -> str:
    *_, key = keys
    if reason := section.refused.get(key):
        return f"{'.'.join(keys)}: cannot be set; {reason}."
    allowed = section.allowed_keys()
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{'.'.join(keys)}: unknown key; {hint}allowed here: {', '.join(allowed)}."


def refused_item(keys: Sequence[str], values: Any, file: type[Section]) -> tuple[str, Any]:
    """Which item of the mapping that `keys` lead to is refused: msgspec's message does not say."""
    mapping: Mapping[str, Any] = functools.reduce(lambda inside, key: inside[key], keys, values)
    for item in mapping.items():
        try:
            msgspec.convert(dict([item]), field_type(keys, file))
        except msgspec.ValidationError:
            return item
    raise AssertionError(f"{keys}: every item of it is allowed by itself")


def plain_words(text: str, words: Mapping[str, str] = WORDS) -> str:
    """ "Expected `object | array`, got `str`" as "expected mapping or list, got text"."""

    def worded(quoted: re.Match[str]) -> str:
        return " or ".join(words.get(word, word) for word in quoted[1].split(" | "))

    plain = re.sub(r"`([^`]*)`", worded, text)
    return plain[:1].lower() + plain[1:]


def nearest_multiples(text: str, value: Any) -> str:
    """What to take in place of a number that has to be a multiple of another; "" where that is not what is wrong."""
    found = re.search(r"multiple of (\d+)$", text)
    if found is None or not isinstance(value, int):
        return ""
    step = int(found[1])
    below = value // step * step
    return f", such as {below} or {below + step}" if below > 0 else f", such as {step}"


def field_type(keys: Sequence[str], file: type[Section]) -> Any:
    """The type of what `keys` lead to."""
    kind: Any = file
    for key in keys:
        kind = {field.name: field.type for field in msgspec.structs.fields(kind)}[key]
    return kind
