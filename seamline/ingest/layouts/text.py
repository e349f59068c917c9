"""JSON and file names as programs have written them, not always in UTF-8."""

from __future__ import annotations

import json
import re
from pathlib import Path

from seamline.base.escaping import to_terminal

# In JSON: a pair of escapes, which is one character; half of such a pair, which is none; any other escape.
ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
MAY_BE_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def read_json_text(path: Path) -> bytes:
    """A JSON file's text as `to_utf8` makes it; what had to be done is printed with the file's name."""
    data, note = to_utf8(path.read_bytes())
    if note:
        print(f"{to_terminal(path.name)}: {note}")
    return data


def to_utf8(data: bytes) -> tuple[bytes, str]:
    """JSON in UTF-8 and without halves of surrogate pairs, which are not text, and what had to be done for it.

    Bytes that are not UTF-8 stay: the records they are in are counted one by one.
    """
    notes = []
    encoding = json.detect_encoding(data[:4])
    if not encoding.startswith("utf-8"):
        try:
            data = without_surrogates(data.decode(encoding).removeprefix("\ufeff")).encode()
        except UnicodeDecodeError:
            return data, ""
        notes.append(f"is in {encoding.upper()}, and was read as that")
    halves = 0
    if MAY_BE_HALF.search(data):
        halves = sum(found[1] is not None for found in ESCAPE.finditer(data))
    if halves:
        data = ESCAPE.sub(lambda found: found[0] if found[1] is None else rb"\ufffd", data)
        notes.append(f"{halves} halves of characters (lone surrogates) are not text, and became U+FFFD")
    return data, "; ".join(notes)


def without_surrogates(name: str) -> str:
    """A name as text: what stands for bytes that are not UTF-8 becomes the sign for that, U+FFFD."""
    return SURROGATE.sub(REPLACEMENT, name)
