"""Which files of a source are its COCO files, and of which split each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from seamline.base.coco import Coco, data_to_coco, json_damage, tolerant_coco
from seamline.base.errors import SeamlineError
from seamline.base.escaping import to_terminal
from seamline.ingest.archives import files_below
from seamline.ingest.layouts.text import read_json_text, to_utf8

SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
# How COCO's files for other tasks than instances begin, and those of tools that write them all.
OTHER_TASKS = ("captions", "coco_captions", "image_info", "labels", "panoptic", "person_keypoints", "stuff")


def read_annotation_file(path: Path) -> Coco:
    """A COCO file in UTF-8, UTF-16 or UTF-32.

    Raises:
        SeamlineError: when it is not one.
    """
    return data_to_coco(read_json_text(path), path)


def find_annotations(folder: Path, named: str | Mapping[str, str] | None) -> dict[str | None, Path]:
    """The annotation files by split: those named, else the only COCO file there, else one for each split.

    Those in hidden folders, such as editors' copies, count only where there is no other.

    Raises:
        SeamlineError: when a named file is missing, or none are found, or several that are not one a split.
    """
    if named is not None:
        by_split = {None: named} if isinstance(named, str) else named
        paths: dict[str | None, Path] = {split: folder / name for split, name in by_split.items()}
        for path, name in zip(paths.values(), by_split.values(), strict=True):
            if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
                raise SeamlineError(f"pull.annotations: {name!r} is not a file of the source.")
        return paths
    found = coco_files(folder)
    candidates = [path for path in found if not is_hidden(path.relative_to(folder))] or found
    if len(candidates) < len(found):
        hidden = [path for path in found if path not in candidates]
        print(f"left aside: {listed(folder, hidden)}, in a hidden folder; pull.annotations chooses another")
    if not candidates:
        for path in files_below(folder, (".json",)):
            damage = None if is_hidden(path.relative_to(folder)) else json_damage(to_utf8(path.read_bytes())[0])
            if damage is not None:
                raise SeamlineError(
                    f"pull.source: has no COCO annotation file, and {path.name} {damage}; copy or export it again."
                )
        raise SeamlineError(
            "pull.source: has no COCO annotation file (a JSON object with images, annotations and categories)."
        )
    candidates = of_instances(folder, candidates)
    if len(candidates) == 1:
        return {None: candidates[0]}
    splits = [split_of_file(path.relative_to(folder)) for path in candidates]
    if None in splits or len(set(splits)) < len(splits):
        raise SeamlineError(
            f"pull.source: has several COCO files ({listed(folder, candidates)}); name one in pull.annotations, or one "
            "a split: {train: ..., val: ...}."
        )
    return dict(sorted(zip(splits, candidates, strict=True), key=lambda item: list(SPLIT_WORDS).index(str(item[0]))))


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


def split_of_file(path: PurePosixPath | Path) -> str | None:
    """The split that a path's last part says, or else the one before: instances_train2017.json, valid/_annotations."""
    for part in reversed(path.parts):
        words = "".join(letter if letter.isalpha() else " " for letter in part.lower()).split()
        splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
        if splits:
            return splits.pop() if len(splits) == 1 else None
    return None


def looks_like_coco(path: Path) -> bool:
    """Whether a JSON file has COCO's three lists at its top, or one of them and is damaged: reading it will tell."""

    class Lists(msgspec.Struct):
        images: msgspec.Raw
        annotations: msgspec.Raw
        categories: msgspec.Raw

    data, _ = to_utf8(path.read_bytes())
    found = [f'"{key}"'.encode() in data for key in Lists.__struct_fields__]
    if not all(found):
        return any(found[:2]) and data.lstrip()[:1] == b"{" and json_damage(data) is not None
    try:
        lists = msgspec.json.decode(data, type=Lists)
    except msgspec.ValidationError:
        return False
    except RecursionError:
        return True
    except (msgspec.DecodeError, UnicodeDecodeError):
        return tolerant_coco(data) is not None or json_damage(data) is not None
    return all(bytes(raw).startswith(b"[") for raw in (lists.images, lists.annotations, lists.categories))
