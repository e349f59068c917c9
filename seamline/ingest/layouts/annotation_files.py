"""Which files of a source are its COCO files, and of which split each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from seamline.base.coco import Coco, data_to_coco, tolerant_coco
from seamline.base.errors import SeamlineError, some
from seamline.base.escaping import to_terminal
from seamline.ingest.archives import files_below
from seamline.ingest.layouts.other_files import (
    JSON_ENDS,
    LISTS,
    is_twice_at_top,
    may_be_meant,
    nearly_coco,
    problem_of,
    what_is_there,
)
from seamline.ingest.layouts.split_names import SPLIT_WORDS, split_of_file
from seamline.ingest.layouts.text import read_json_text, to_utf8

Named = str | Sequence[str] | Mapping[str, str] | None  # pull.annotations

# How COCO's files for other tasks than instances begin, and those of tools that write them all.
MAX_PARSED_BYTES = 1 << 26  # by Python's own reader, which takes seconds for more
OTHER_TASKS = ("captions", "coco_captions", "image_info", "labels", "panoptic", "person_keypoints", "stuff")


class AnnotationFile(NamedTuple):
    """A COCO file, and the split that all its images are of; None where it says none."""

    split: str | None
    path: Path


def read_annotation_file(path: Path) -> Coco:
    """A COCO file in UTF-8, UTF-16 or UTF-32.

    Raises:
        SeamlineError: when it is not one.
    """
    data = path.read_bytes()
    problem = problem_of(data)
    if problem is not None:
        raise SeamlineError(f"{path}: {problem}.")
    if b'"segments_info"' in data and b'"segmentation"' not in data:
        raise SeamlineError(
            f"{path}: is of panoptic segmentation, with masks in PNG files; export the instances as COCO."
        )
    data = read_json_text(path)
    keys = LISTS if len(data) < MAX_PARSED_BYTES else ()
    twice = next((key for key in keys if data.count(f'"{key}"'.encode()) > 1 and is_twice_at_top(data, key)), None)
    if twice is not None:
        raise SeamlineError(f"{path}: has {twice} twice, of which JSON means the last; put all records into one list.")
    return data_to_coco(data, path)


def find_annotations(folder: Path, named: Named) -> list[AnnotationFile]:
    """The annotation files: those named, else the only COCO file there, else one for each split.

    Those in hidden folders, such as editors' copies, count only where there is no other.

    Raises:
        SeamlineError: when a named file is missing, or none are found, or several that are not one a split, or when
            one that may be meant cannot be read: what it says would be lost, or another one be taken for it.
    """
    if named is not None:
        return named_files(folder, named)
    found = coco_files(folder)
    candidates = [path for path in found if not is_hidden(path.relative_to(folder))] or found
    refuse_unreadable(folder, found)
    if len(candidates) < len(found):
        hidden = [path for path in found if path not in candidates]
        print(f"left aside: {listed(folder, hidden)}, in a hidden folder; pull.annotations chooses another")
    if not candidates:
        there = what_is_there(folder)
        raise SeamlineError(
            "pull.source: has no COCO annotation file (a JSON object with the lists images, annotations and "
            f"categories); {there or 'it has no JSON file at all'}."
        )
    candidates = of_instances(folder, candidates)
    if len(candidates) == 1:
        return [AnnotationFile(None, candidates[0])]
    splits = [split_of_file(path.relative_to(folder)) for path in candidates]
    if None in splits or len(set(splits)) < len(splits):
        raise SeamlineError(
            f"pull.source: has several COCO files ({listed(folder, candidates)}); name in pull.annotations the one "
            "that is meant, one a split ({train: ..., val: ...}), or several that are to be read together ([..., ...])."
        )
    order = list(SPLIT_WORDS)
    return sorted(map(AnnotationFile, splits, candidates), key=lambda file: order.index(str(file.split)))


def named_files(folder: Path, named: str | Sequence[str] | Mapping[str, str]) -> list[AnnotationFile]:
    """The files that pull.annotations names; raises SeamlineError when one is not there."""
    if isinstance(named, Mapping):
        pairs: list[tuple[str | None, str]] = list(named.items())
    else:
        pairs = [(None, name) for name in ([named] if isinstance(named, str) else named)]
    files = [AnnotationFile(split, folder / name) for split, name in pairs]
    for (_, path), (_, name) in zip(files, pairs, strict=True):
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            raise SeamlineError(f"pull.annotations: {name!r} is not a file of the source.")
    return files


def refuse_unreadable(folder: Path, found: Sequence[Path]) -> None:
    """Say which JSON files cannot be read and have nothing to do with the annotations.

    Args:
        folder: the source.
        found: its COCO files. Without any, what is there is said with that.

    Raises:
        SeamlineError: for one that may be of annotations.
    """
    aside = []
    for path in files_below(folder, JSON_ENDS) if found else ():
        place = path.relative_to(folder)
        if path in found or is_hidden(place) or path.name.startswith(OTHER_TASKS):
            continue
        data = path.read_bytes()
        problem = problem_of(data) or nearly_coco(data)
        if problem is None:
            continue
        if may_be_meant(path, folder, found):
            raise SeamlineError(
                f"{to_terminal(place)}: {problem}; where it is not needed, pull.annotations names the files that are."
            )
        aside.append(f"{to_terminal(place)} ({problem})")
    if aside:
        print(f"left aside: {some(aside)}; pull.annotations chooses another")


def listed(folder: Path, paths: Sequence[Path]) -> str:
    return ", ".join(to_terminal(path.relative_to(folder)) for path in paths)


def of_instances(folder: Path, candidates: Sequence[Path]) -> list[Path]:
    """Without files for other tasks, and without those that have no mask where another of their split has some."""
    usable = [path for path in candidates if not path.name.startswith(OTHER_TASKS)] or list(candidates)
    splits = [split_of_file(path.relative_to(folder)) for path in usable]
    if len(set(splits)) < len(splits):
        masked = [b'"segmentation"' in to_utf8(path.read_bytes())[0] for path in usable]
        better = {split for split, has_masks in zip(splits, masked, strict=True) if has_masks}
        chosen = zip(usable, splits, masked, strict=True)
        usable = [path for path, split, has_masks in chosen if has_masks or split not in better]
    left = [path for path in candidates if path not in usable]
    if left:
        print(f"left aside: {listed(folder, left)}, of other tasks or without masks; pull.annotations chooses another")
    return usable


def coco_files(folder: Path) -> list[Path]:
    return [path for path in files_below(folder, (".json",)) if looks_like_coco(path)]


def is_hidden(path: PurePosixPath | Path) -> bool:
    """Whether a folder of the path is one that systems and programs hide, as .git, .ipynb_checkpoints and @eaDir."""
    return any(part.startswith((".", "@eaDir")) for part in path.parts[:-1])


def looks_like_coco(path: Path) -> bool:
    """Whether a JSON file has COCO's three lists at its top."""

    class Lists(msgspec.Struct):
        images: msgspec.Raw
        annotations: msgspec.Raw
        categories: msgspec.Raw

    data, _ = to_utf8(path.read_bytes())
    if not all(f'"{key}"'.encode() in data for key in LISTS):
        return False
    try:
        lists = msgspec.json.decode(data, type=Lists)
    except msgspec.ValidationError:
        return False
    except RecursionError:
        return True
    except (msgspec.DecodeError, UnicodeDecodeError):
        return tolerant_coco(data) is not None
    return all(bytes(raw).startswith(b"[") for raw in (lists.images, lists.annotations, lists.categories))
