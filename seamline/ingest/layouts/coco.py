"""COCO folders: one annotation file, or one for each split; the images anywhere below the folder."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from seamline.base.coco import Record, raw_to_record
from seamline.base.errors import SeamlineError
from seamline.base.escaping import to_terminal
from seamline.base.urls import shown
from seamline.images.files import PIPELINE_SUFFIXES
from seamline.ingest.archives import files_below
from seamline.ingest.canonical.changes import Changes, Place
from seamline.ingest.canonical.source import Part, Source
from seamline.ingest.layouts.annotation_files import AnnotationFile, Named, find_annotations, read_annotation_file
from seamline.ingest.layouts.matching import ADDRESS, Matches, Split, is_address, lies_beside_photos, names_to_paths
from seamline.ingest.layouts.split_names import split_of_file

NO_IMAGES = {".json", ".mat", ".txt", ".xml", ".csv", ".md", ".html", ".yaml", ".zip"}
OTHER_FORM = "image: its file was found under another form of its name"
OTHER_FIELD = "image: its file name was in another field, taken from there"
MAX_COMPARED = 5000  # names with which one without a file is compared
FRAME = re.compile(r"(?:^|/)frame_?\d+\.\w+$", re.IGNORECASE)
UNUSED_IN_CP1252 = {0x81, 0x8D, 0x8F, 0x90, 0x9D}


class Head(msgspec.Struct, gc=False):
    file_name: object = None
    id: object = ""
    filename: object = None
    coco_url: object = None


def read(folder: Path, named: Named, images: str | None = None) -> Source:
    """The COCO file or files below a folder.

    Args:
        folder: with the annotation file or files and the images.
        named: pull.annotations: the file, several, or one a split; None to find them.
        images: pull.images: the photos' folder; None where they may lie anywhere.
    """
    return files_to_source("coco", folder, find_annotations(folder, named), images)


def files_to_source(layout: str, folder: Path, paths: Sequence[AnnotationFile], images: str | None = None) -> Source:
    """The source that annotation files are."""
    base = photos_folder(folder, images)
    files = image_files(base)
    parts, tables = [], []
    used: set[str] = set()
    changes = Changes()
    several = len({path.name for _, path in paths}) < len(paths)
    roots = own_folders([path.relative_to(base).parts[:-1] if path.is_relative_to(base) else () for _, path in paths])
    for (split, path), root in zip(paths, roots, strict=True):
        coco = read_annotation_file(path)
        records = named_images(coco.images, path.name, changes)
        heads = image_heads(records)
        found = paths_of_images(heads, files, path, base, Own(split, root, roots), changes)
        used.update(file for file in found if file is not None)
        tables.append(coco.attributes)
        parts.append(
            Part(
                title=str(path.relative_to(folder)) if several else path.name,
                images=records,
                files=[None if file is None else base / file for file in found],
                annotations=coco.annotations,
                categories=[category_record(raw, path) for raw in coco.categories],
                split=split,
            )
        )
    photos = [file for file in files if file.lower().endswith(tuple(PIPELINE_SUFFIXES))]
    unlisted = [file for file in photos if file not in used]
    say_other_frames([file for file in used if FRAME.search(file)], [file for file in unlisted if FRAME.search(file)])
    say_left_aside([file for file in unlisted if lies_beside_photos(file)])
    changes.leave([(base / file).relative_to(folder).as_posix() for file in unlisted])
    return Source(layout, parts, changes, attributes=tables[0])


class Own(NamedTuple):
    """Which photos are likely those of one annotation file of several."""

    split: str | None
    folder: str  # that only this file lies in, with / at its end; "" for none
    folders: Sequence[str]  # of all

    def files(self) -> Split | None:
        """By split where the file has one, else by its folder."""
        if self.split is not None:
            return Split(
                lambda file: split_of_folder(file.rpartition("/")[0]) == self.split,
                lambda file: split_of_folder(file.rpartition("/")[0]) not in (None, self.split),
            )
        others = tuple(folder for folder in self.folders if folder and folder != self.folder)
        return (
            Split(lambda file: file.startswith(self.folder), lambda file: file.startswith(others)) if others else None
        )


def own_folders(folders: Sequence[tuple[str, ...]]) -> list[str]:
    """For each of several files the outermost folder in which none of the others lies; "" where there is none."""
    found = []
    for index, parts in enumerate(folders):
        others = [other for at, other in enumerate(folders) if at != index]
        lengths = range(1, len(parts) + 1)
        own = (length for length in lengths if all(other[:length] != parts[:length] for other in others))
        length = next(own, 0)
        found.append("/".join(parts[:length]) + "/" if length else "")
    return found


def photos_folder(folder: Path, images: str | None) -> Path:
    """Raises SeamlineError when the folder that is named is not there, or lies outside of the source."""
    if images is None:
        return folder
    base = folder / images
    if not base.is_dir() or not base.resolve().is_relative_to(folder.resolve()):
        raise SeamlineError(f"pull.images: {images!r} is not a folder of the source.")
    return base


def image_files(folder: Path) -> list[str]:
    """The files below a folder that may be images, as paths below it."""
    top = len(folder.parts)
    found = (path for path in files_below(folder) if path.suffix.lower() not in NO_IMAGES)
    return ["/".join(path.parts[top:]) for path in found]


def category_names(paths: Sequence[AnnotationFile]) -> list[str]:
    """The names in annotation files, each once."""
    records = (category_record(raw, path) for _, path in paths for raw in read_annotation_file(path).categories)
    return list(dict.fromkeys(str(record.get("name")) for record in records))


def category_record(raw: msgspec.Raw, path: Path) -> Record:
    """A category; where it is not UTF-8, as Windows-1252 reads it, in which other bytes are another name; said.

    Raises:
        SeamlineError: with the file's name when it is not an object.
    """
    data = bytes(raw)
    try:
        data.decode()
    except UnicodeDecodeError:
        text = "".join(bytes([byte]).decode("cp1252" if byte not in UNUSED_IN_CP1252 else "latin-1") for byte in data)
        raw = msgspec.Raw(text.encode())
        print(f"{to_terminal(path.name)}: a category is not UTF-8, and was read as Windows-1252: {to_terminal(text)}")
    try:
        return raw_to_record(raw)
    except SeamlineError as error:
        raise SeamlineError(f"{path.name}: {error}") from None


def named_images(images: Sequence[msgspec.Raw], title: str, changes: Changes) -> list[msgspec.Raw]:
    """Image records with `file_name`, also where another tool calls it `filename`, or LVIS has only an address."""
    named = list(images)
    for index, (raw, head) in enumerate(zip(images, image_heads(images), strict=True)):
        other = next((name for name in (head.filename, head.coco_url) if isinstance(name, str) and name), None)
        if head.file_name is None and other is not None:
            name = ADDRESS.sub("", other).lstrip("/") if is_address(other) else other
            named[index] = msgspec.Raw(msgspec.json.encode({**raw_to_record(raw), "file_name": name}))
            changes.repair(OTHER_FIELD, Place(title, name, head.id))
    return named


def image_heads(images: Sequence[msgspec.Raw]) -> list[Head]:
    """What every image record says its file and its id are; an empty one where it cannot be read."""
    decoder = msgspec.json.Decoder(Head)
    heads = []
    for raw in images:
        try:
            heads.append(decoder.decode(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            heads.append(Head())
    return heads


def paths_of_images(
    heads: Sequence[Head], files: Sequence[str], annotation_file: Path, base: Path, mine: Own, changes: Changes
) -> list[str | None]:
    """The file that each record's file_name means; what is not certain is said, and other forms are counted.

    Raises:
        SeamlineError: when several files fit a name equally well.
    """
    names = [head.file_name if isinstance(head.file_name, str) else "" for head in heads]
    own = annotation_file.parent
    beside = own.relative_to(base).as_posix() if own.is_relative_to(base) else ""

    wanted = dict.fromkeys(name for name in names if name)
    try:
        matches = names_to_paths(wanted, files, "" if beside == "." else beside, mine.files())
    except SeamlineError as error:
        raise SeamlineError(f"{annotation_file.name}: {error}") from None
    for name, head in zip(names, heads, strict=True):
        if name in matches.other_form:
            place = Place(annotation_file.name, name, head.id)
            changes.repair(OTHER_FORM, place, f"file {matches.paths[name]}")
    say_missing(annotation_file.name, wanted, matches, files)
    return [matches.paths.get(name) for name in names]


@functools.lru_cache(4096)
def split_of_folder(folder: str) -> str | None:
    return split_of_file(PurePosixPath(folder))


def say_missing(title: str, wanted: Mapping[str, None], matches: Matches, files: Sequence[str]) -> None:
    """What helps where names have no file: addresses, and files of their last part that are not certain.

    Raises:
        SeamlineError: when all are addresses and none has a file: nothing else would be said of them.
    """
    missing = [name for name in wanted if name not in matches.paths]
    addresses = [name for name in missing if is_address(name)]
    if addresses:
        sentence = (
            f"{title}: file_names are addresses ({len(addresses)}), such as {shown(addresses[0])!r}, and no file of "
            "the source ends like them; download the photos into the source."
        )
        if len(addresses) == len(wanted):
            raise SeamlineError(sentence)
        print(to_terminal(sentence))
    twins = {name: files for name, files in matches.left_aside.items() if are_twins(name, files)}
    if twins:
        name, paths = next(iter(twins.items()))
        print(
            to_terminal(
                f"{title}: several files differ from a file_name only in their form ({len(twins)}), such as "
                f"{paths[0]!r} and {paths[1]!r} from {name!r}; rename the one that is meant"
            )
        )
    others = {name: files for name, files in matches.left_aside.items() if name not in twins}
    if others:
        name, paths = next(iter(others.items()))
        print(
            to_terminal(
                f"{title}: files that may be those of file_names, but not for certain, are left aside "
                f"({len(others)}), such as {paths[0]!r} for {name!r}; pull.images names the photos' folder"
            )
        )
    elsewhere = [name for name in missing if name not in matches.left_aside and not is_address(name)]
    taken = set(matches.paths.values())
    near = nearest(elsewhere[0], [file for file in files if file not in taken]) if elsewhere else None
    if near is not None:
        print(to_terminal(f"{title}: no file is called {elsewhere[0]!r}; the nearest is {near!r}"))


def are_twins(name: str, files: Sequence[str]) -> bool:
    """Whether several files of one folder may be meant, none of which is written as the name is."""
    folders = {file.rpartition("/")[0] for file in files}
    written = [file.rpartition("/")[2] for file in files]
    return len(files) > 1 and len(folders) == 1 and name.rpartition("/")[2] not in written


def nearest(name: str, files: Sequence[str]) -> str | None:
    """The file whose name is most alike, for people to look at."""
    last = {file.rpartition("/")[2]: file for file in files[:MAX_COMPARED]}
    close = difflib.get_close_matches(name.replace("\\", "/").rpartition("/")[2], last, n=1)
    return last[close[0]] if close else None


def say_other_frames(used: Sequence[str], others: Sequence[str]) -> None:
    """Frames that somebody took out of the video anew may be numbered otherwise, and then each mask is on another."""
    if len(used) > 1 and others:
        print(
            to_terminal(
                f"{len(used)} photos are frames of a video, such as {min(used)!r}, and {len(others)} more frames have "
                "no record; if they were taken out of the video anew, their numbers have to be those of the annotation "
                "tool: CVAT counts from 0, ffmpeg from 1 without -start_number 0"
            )
        )


def say_left_aside(files: Sequence[str]) -> None:
    if files:
        folders = list(dict.fromkeys(file.rpartition("/")[0] for file in files))
        more = ", ..." if len(folders) > 3 else ""
        print(
            to_terminal(
                f"left aside: {len(files)} pictures without a record in hidden folders, or folders of masks or "
                f"thumbnails ({', '.join(folders[:3])}{more}); pull.images chooses a folder"
            )
        )
