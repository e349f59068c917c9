"""Which photos a user's words name: files, folders, globs, addresses, and lists of those."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seamline.base.errors import SeamlineError
from seamline.base.files import mode_of, temporary_beside
from seamline.base.progress import CountProgress
from seamline.base.urls import is_remote, shown
from seamline.images.files import SUFFIXES
from seamline.photos.listing import Photo, PhotoList, key_of
from seamline.photos.remote import Remote, check_scheme
from seamline.photos.suffixes import check_named, is_wanted, passed_over_text, suffix_of

OURS = ("overlays", "crops", "unfinished")  # folders in OUT
UNREADABLE = ("folder", "cannot be read")


class Word(NamedTuple):
    """What a user has named, and where, if not on the command line."""

    text: str
    where: str = ""


def words(arguments: Sequence[str], lists: Sequence[str]) -> Iterator[Word]:
    """The arguments, and the lines of the lists; a list called - is the standard input.

    Raises:
        SeamlineError: when a list cannot be read.
    """
    yield from map(Word, arguments)
    for name in lists:
        what = "standard input" if name == "-" else name
        try:
            with contextlib.nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    text = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).rstrip("\r\n")
                    if text.strip():
                        yield Word(text, f"{what}, line {number}: ")
        except OSError as error:
            raise SeamlineError(f"{what}: cannot be read as a list of photos ({error.strerror}).") from None


def find_photos(named: Iterable[Word], out: Path, remote: Remote) -> PhotoList:
    """What the words name, in their order, sorted within each, none twice.

    What an earlier run wrote below `out` is found only by its name.

    Raises:
        SeamlineError: when one names nothing, or cannot be read.
    """
    photos = PhotoList()
    with contextlib.closing(CountProgress("found", "photos")) as progress:
        for word in named:
            try:
                find_word(word.text, out, remote, photos, progress)
            except SeamlineError as error:
                raise SeamlineError(f"{word.where}{error}") from None
    if not len(photos):
        raise SeamlineError("the list of photos is empty.")
    return photos


def find_word(text: str, out: Path, remote: Remote, photos: PhotoList, progress: CountProgress) -> None:
    before = photos.passed_over.copy()
    if is_remote(text):
        check_scheme(text)
        found = remote.photos(text, photos.passed_over)
    else:
        found = local_photos(text, out, photos)
    anything = False
    for photo in found:
        photos.add(photo)
        progress.add()
        anything = True
    if not anything:
        left = passed_over_text(photos.passed_over - before)
        raise SeamlineError(
            f"{shown(text)}: there is no image there ({', '.join(sorted(SUFFIXES))}){'; ' + left if left else ''}."
        )


def local_photos(text: str, out: Path, photos: PhotoList) -> Iterator[Photo]:
    path = Path(text)
    try:
        mode = mode_of(path) if text else 0
        if stat.S_ISREG(mode):
            check_named(text)
            yield path_to_photo(path)
        elif stat.S_ISDIR(mode):
            yield from photos_below(path, our_folders(out), photos)
        elif glob.has_magic(text):
            yield from matching_photos(text, [folder.resolve() for folder in our_folders(out)], photos)
        else:
            what = "is not a file and not a folder" if mode else "there is no such file or folder"
            raise SeamlineError(f"{shown_path(path) if text else repr(text)}: {what}.")
    except OSError as error:
        raise SeamlineError(f"{shown_path(path)}: cannot be read ({error.strerror}).") from None
    except ValueError:  # a zero byte, as in a list that is written in UTF-16
        raise SeamlineError(f"{text!r}: cannot be the name of a file.") from None


def our_folders(out: Path) -> list[Path]:
    """What a run makes in OUT, and what a kill may have left of it."""
    made = [out / name for name in OURS]
    real = [folder.resolve() for folder in made]
    return [*made, *(temporary_beside(folder, ending) for folder in real for ending in ("tmp", "old.tmp", "copy.tmp"))]


def photos_below(folder: Path, skipped: Sequence[Path], photos: PhotoList) -> Iterator[Photo]:
    """A folder's photos in the order of their paths' parts; no more than one folder's names are held at once.

    Links to folders are followed, into each folder once; those to files are photos of their own, since DVC may have
    linked two photos to one cached file.
    """
    seen = {numbers_of(path) for path in skipped if path.is_dir()}
    waiting = [opened_folder(folder, seen, photos)]
    while waiting:
        place, real, names, folders = waiting[-1]
        if not names:
            waiting.pop()
            continue
        name = names.pop()
        path = place / name
        if name in folders:
            if name != "__MACOSX":
                waiting.append(opened_folder(path, seen, photos))
        elif is_wanted(name, photos.passed_over):
            try:
                status = path.stat()
            except OSError:
                photos.passed_over[suffix_of(name), "link to nothing"] += 1
                continue
            if stat.S_ISREG(status.st_mode):
                yield status_to_photo(path, real, status)


def opened_folder(
    folder: Path, seen: set[tuple[int, int]], photos: PhotoList
) -> tuple[Path, str, list[str], frozenset[str]]:
    """The folder, where it really is, its names from last to first, and which of them are folders."""
    nothing: tuple[Path, str, list[str], frozenset[str]] = (folder, "", [], frozenset())
    try:
        numbers = numbers_of(folder)
        if numbers in seen:
            return nothing
        seen.add(numbers)
        with os.scandir(folder) as entries:
            is_folder = {entry.name: entry.is_dir() for entry in entries}
    except OSError:
        photos.passed_over[UNREADABLE] += 1
        return nothing
    folders = frozenset(name for name, is_one in is_folder.items() if is_one)
    return folder, os.path.realpath(folder), sorted(is_folder, reverse=True), folders


def numbers_of(path: Path) -> tuple[int, int]:
    """What a folder has once, by whatever name it is reached."""
    status = path.stat()
    return status.st_dev, status.st_ino


def matching_photos(pattern: str, skipped: Sequence[Path], photos: PhotoList) -> Iterator[Photo]:
    # Path.glob takes no absolute pattern, and finds no files for one that ends in **.
    matches = (Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
    asked = {suffix_of(pattern) or ".jpg"}  # *.xyz names them, and * does not
    for path in sorted(match for match in matches if match.is_file()):
        if is_wanted(path.name, photos.passed_over, asked) and not any(
            path.parent.resolve().is_relative_to(folder) for folder in skipped
        ):
            yield path_to_photo(path)


def path_to_photo(path: Path) -> Photo:
    return status_to_photo(path, os.path.realpath(path.parent), path.stat())


def status_to_photo(path: Path, real_folder: str, status: os.stat_result) -> Photo:
    stamp = f"{status.st_size}-{status.st_mtime_ns}"
    return Photo(shown_path(path), str(path), stamp, status.st_size, key_of(f"{real_folder}/{path.name}"))


def shown_path(path: Path) -> str:
    """A path as text that can be written down, also where its name is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")
