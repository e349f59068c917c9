"""Numbers on a command line, within limits."""

import argparse
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)
MOST_THREADS = 256  # and images in a batch: more is a typing error
MOST_PIXELS = 10**10


def number_from(kind: Callable[[str], Number], low: Number, high: Number) -> Callable[[str], Number]:
    """An argparse type: a number within these limits."""

    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"has to be a number from {low} to {high}, not {text!r}")
        return value

    return parse
