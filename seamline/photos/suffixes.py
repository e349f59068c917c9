"""What a file's name says: a photo, or what looks like one and cannot be read, which is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from seamline.base.errors import SeamlineError
from seamline.base.urls import shown
from seamline.images.files import SUFFIXES, UNREAD_SUFFIXES
from seamline.ingest.archives import SUFFIXES as ARCHIVES
from seamline.ingest.archives import is_junk


def is_wanted(name: str, passed_over: Counter[tuple[str, str]], asked: Iterable[str] = ()) -> bool:
    """Whether a file of this name is a photo; those that look like one and cannot be read are counted."""
    suffix = suffix_of(name)
    if is_junk(name):
        return False
    if suffix in SUFFIXES or suffix in asked:
        return True
    if suffix in UNREAD_SUFFIXES:
        passed_over[suffix, UNREAD_SUFFIXES[suffix]] += 1
    return False


def suffix_of(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def check_named(name: str) -> None:
    """Raise a SeamlineError for a file that holds photos and is not one."""
    suffix = suffix_of(name)
    if "video" in UNREAD_SUFFIXES.get(suffix, ""):
        raise SeamlineError(
            f"{shown(name)}: is a video; save its frames as images and name their folder: "
            "ffmpeg -i VIDEO -r 1 frames/%06d.jpg takes one a second."
        )
    if name.lower().endswith(ARCHIVES):
        raise SeamlineError(f"{shown(name)}: is an archive; unpack it, and name the folder.")


def passed_over_text(passed_over: Counter[tuple[str, str]]) -> str:
    """For people: "12 files were passed over: 10 .heic (pip install pillow-heif), 2 .mov (video)"."""
    count = sum(passed_over.values())
    kinds = ", ".join(f"{number:,} {suffix} ({reason})" for (suffix, reason), number in passed_over.most_common())
    return f"{count:,} file{'s were' if count != 1 else ' was'} passed over: {kinds}" if count else ""
