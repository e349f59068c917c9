"""Names of an archive's members as text: archives of old say not, or not always, how names are coded."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Sequence
from typing import Any

WIDE_BACKSLASH = "\uff3c"
# Of the zip format (APPNOTE 4.4.4, 4.6.9).
UTF8_FLAG, UNICODE_PATH = 0x800, 0x7075


def zip_name(info: Any) -> str:
    """A member's name: what Info-ZIP says it is, else UTF-8 where it is that, else as in DOS.

    Programs of macOS and old ones of Linux write UTF-8 without saying so. Names in other code pages are matched with
    the annotations' later.
    """
    if info.flag_bits & UTF8_FLAG or info.orig_filename.isascii():
        return str(info.filename)
    raw = info.orig_filename.encode("cp437")
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == UNICODE_PATH and length > 5 and struct.unpack("<L", extra[5:9])[0] == zlib.crc32(raw):
            return str(extra[9 : 4 + length].decode("utf-8", "replace"))
        extra = extra[4 + length :]
    try:
        return str(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return str(info.filename)


def with_kept_backslashes(names: Sequence[str]) -> list[str]:
    """Names as DOS reads them, in which a backslash that is half of a character separates no folders.

    In Shift-JIS, GBK and Big5 the second byte of a character may be that of a backslash. It is kept as a wide one,
    which no name read as in DOS has, and matching puts it back. Where backslashes separate folders in the archive they
    stay: a European folder's last letter may look like half of such a character.
    """
    odd = {name: raw for name in names if "\\" in name and (raw := dos_bytes(name)) is not None}
    if not odd:
        return list(names)
    halves = {name: half_backslashes(raw) for name, raw in odd.items()}
    slashes = any("/" in name for name in names)
    separating = any(name.count("\\") > len(halves.get(name, ())) for name in names)
    if separating and not slashes:
        return list(names)
    return [
        "".join(WIDE_BACKSLASH if at in halves.get(name, ()) else letter for at, letter in enumerate(name))
        for name in names
    ]


def dos_bytes(name: str) -> bytes | None:
    """The bytes that were read as in DOS; None of a name that was read as UTF-8, or is ASCII."""
    try:
        return None if name.isascii() else name.encode("cp437")
    except UnicodeEncodeError:
        return None


def half_backslashes(raw: bytes) -> set[int]:
    """Where a backslash is the second byte of a character, in the first code page that the name can be of."""
    for page in ("cp932", "gbk", "big5"):
        try:
            characters = [character.encode(page) for character in raw.decode(page)]
        except UnicodeError:
            continue
        ends = itertools.accumulate(map(len, characters))
        found = {end - 1 for end, character in zip(ends, characters, strict=True) if character[1:] == b"\\"}
        if found and b"".join(characters) == raw:
            return found
    return set()


def tar_name(name: str) -> str:
    """A member's name; bytes that are not UTF-8, which not every disk takes, are read as in DOS, as zip's are.

    Names in other code pages are matched with the annotations' later.
    """
    try:
        return name.encode().decode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("cp437")
