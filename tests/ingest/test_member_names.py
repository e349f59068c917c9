"""Names of members as old archives have them: what is said beside them, and bytes that may mean either."""

from __future__ import annotations

import struct
import zlib
from types import SimpleNamespace
from typing import Any

import pytest

from seamline.ingest.member_names import WIDE_BACKSLASH, half_backslashes, with_kept_backslashes, zip_name

RAW = "élan.jpg".encode("cp1252")
PLAIN = RAW.decode("cp437")
TIME = struct.pack("<HHBL", 0x5455, 5, 1, 1_700_000_000)  # Info-ZIP writes it first


def member(extra: bytes, raw: bytes = RAW, flags: int = 0) -> Any:
    name = raw.decode("utf-8" if flags & 0x800 else "cp437")
    return SimpleNamespace(flag_bits=flags, orig_filename=name, filename=name, extra=extra)


def unicode_path(name: bytes, raw: bytes = RAW) -> bytes:
    return struct.pack("<HHBL", 0x7075, 5 + len(name), 1, zlib.crc32(raw)) + name


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (unicode_path("élan.jpg".encode()), "élan.jpg"),
        (TIME + unicode_path("élan.jpg".encode()), "élan.jpg"),
        (unicode_path("élan.jpg".encode()) + TIME, "élan.jpg"),
        (TIME, PLAIN),
        (unicode_path(b""), PLAIN),  # no file has an empty name
        (struct.pack("<HHB", 0x7075, 1, 1), PLAIN),  # cut off
        (struct.pack("<HH", 0x7075, 0), PLAIN),
        (b"\x75", PLAIN),
    ],
)
def test_the_name_beside_the_old_one_is_found_among_other_fields(extra: bytes, name: str) -> None:
    assert zip_name(member(extra)) == name


def test_a_name_that_says_it_is_utf_8_is_taken_as_it_is() -> None:
    """Also one whose letters DOS has not, and one whose bytes as in DOS would be UTF-8 again."""
    for name in ("红色.jpg", "été.jpg", "├⌐.jpg"):
        assert zip_name(member(b"", name.encode(), 0x800)) == name


def test_backslashes_separate_folders_where_slashes_do_not() -> None:
    half = b"\x95\\.jpg".decode("cp437")  # a Japanese character and its end
    kept = half.replace("\\", WIDE_BACKSLASH)
    assert with_kept_backslashes([half]) == [kept]
    assert with_kept_backslashes([half, "a\\b.jpg"]) == [half, "a\\b.jpg"]
    assert with_kept_backslashes([half, "a\\b.jpg", "a/c.jpg"]) == [kept, "a\\b.jpg", "a/c.jpg"]
    assert with_kept_backslashes(["a\\b.jpg"]) == ["a\\b.jpg"]


def test_the_first_code_page_whose_characters_hold_the_backslash_says_which() -> None:
    assert half_backslashes("表\\1.jpg".encode("cp932")) == {1}  # and not the third byte, which separates
    assert half_backslashes("癨.jpg".encode("gbk")) == {1}
    assert half_backslashes("功.jpg".encode("big5")) == {1}
    # In cp932 0xB1 is a letter of its own, and in GBK, which comes after it, half of one.
    assert half_backslashes(b"\x95\\\xb1\\1.jpg") == {1}
    assert half_backslashes(b"a\\b.jpg") == set()
