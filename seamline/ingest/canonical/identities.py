"""Ids as they come, text or number, and the whole numbers that they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from seamline.base.coco import Record
from seamline.ingest.canonical.source import Raw


def assigned_numbers(identities: Sequence[Any], lowest: int) -> list[int]:
    """A number of its own for every record: its id where that is a whole number and not taken, else the next free."""
    numbers = [whole_number(identity) for identity in identities]
    free = max((number for number in numbers if number is not None), default=0) + 1
    taken: set[int] = set()
    result = []
    for number in numbers:
        if number is None or number < lowest or number in taken:
            number, free = free, free + 1
        taken.add(number)
        result.append(number)
    return result


def is_changed(number: int, identity: Any) -> bool:
    return number != identity or isinstance(identity, str)


def lookup(identities: Sequence[Any]) -> dict[Any, int]:
    """What refers to a record -> its position: its id as it is, and as a whole number where that is unique."""
    positions: dict[Any, int] = {}
    for position, identity in enumerate(identities):
        number = whole_number(identity)
        if number is not None:
            positions[number] = -1 if number in positions else position
    positions = {number: position for number, position in positions.items() if position >= 0}
    return positions | {identity: position for position, identity in enumerate(identities)}


def found_in(positions: Mapping[Any, int], identity: Any) -> int | None:
    if not is_identity(identity):
        return None
    return positions.get(identity, positions.get(whole_number(identity)))


def is_identity(value: Any) -> bool:
    return isinstance(value, (int, str, float)) and not isinstance(value, bool)


def record_of(raw: Raw) -> Record | None:
    """A record; None where it is not an object, is not UTF-8 or has a number out of range."""
    try:
        record: Record = msgspec.json.decode(raw, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return record


def whole_number(value: Any) -> int | None:
    """An id as an integer, also from text such as "000042"; None where it is not one that fits 53 bits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None
