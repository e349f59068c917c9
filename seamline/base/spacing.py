"""A few items spread evenly over many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], count: int | None) -> list[Item]:
    """`count` items spread over the whole sequence, in its order; all where there are fewer, or count is None."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]
