"""COCO folders: one annotation file, or one for each split; the images anywhere below the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from seamline.base.coco import Coco, raw_to_record, read_coco
from seamline.base.errors import SeamlineError
from seamline.images.files import PIPELINE_SUFFIXES
from seamline.ingest.archives import files_below
from seamline.ingest.canonical.changes import Changes
from seamline.ingest.canonical.source import Part, Source

SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

NO_IMAGES = {".json", ".mat", ".txt", ".xml", ".csv", ".md", ".html", ".yaml", ".zip"}


class Name(msgspec.Struct, gc=False):
    file_name: object = None


def read(folder: Path, named: str | Mapping[str, str] | None) -> Source:
    """The COCO file or files below a folder.

    Args:
        folder: with the annotation file or files and the images.
        named: pull.annotations: the file, or one a split; None to find them.
    """
    return files_to_source("coco", folder, find_annotations(folder, named))


def files_to_source(layout: str, folder: Path, paths: Mapping[str | None, Path]) -> Source:
    """The source that annotation files are, given by split; None where the only one belongs to no split."""
    files = image_files(folder)
    parts, tables = [], []
    used: set[Path] = set()
    for split, path in paths.items():
        coco = read_coco(path)
        found = files_of_images(image_names(coco), path, folder, files, split)
        used.update(file for file in found if file is not None)
        tables.append(coco.attributes)
        parts.append(
            Part(
                title=path.name,
                images=coco.images,
                files=found,
                annotations=coco.annotations,
                categories=[raw_to_record(raw) for raw in coco.categories],
                split=split,
            )
        )
    unlisted = sum(path not in used for path in files.by_path.values() if path.suffix.lower() in PIPELINE_SUFFIXES)
    return Source(layout, parts, Changes(), attributes=tables[0], files_without_record=unlisted)


def find_annotations(folder: Path, named: str | Mapping[str, str] | None) -> dict[str | None, Path]:
    """The annotation files by split: those named, else the only COCO file there, else one for each split.

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
    candidates = coco_files(folder)
    if not candidates:
        raise SeamlineError(
            "pull.source: has no COCO annotation file (a JSON object with images, annotations and categories)."
        )
    if len(candidates) == 1:
        return {None: candidates[0]}
    splits = [split_of_file(path.relative_to(folder)) for path in candidates]
    if None in splits or len(set(splits)) < len(splits):
        names = ", ".join(str(path.relative_to(folder)) for path in candidates)
        raise SeamlineError(
            f"pull.source: has several COCO files ({names}); name one in pull.annotations, or one a split: "
            "{train: ..., val: ...}."
        )
    return dict(sorted(zip(splits, candidates, strict=True), key=lambda item: list(SPLIT_WORDS).index(str(item[0]))))


def category_names(paths: Mapping[str | None, Path]) -> list[str]:
    """The names in annotation files, each once."""
    records = (raw_to_record(raw) for path in paths.values() for raw in read_coco(path).categories)
    return list(dict.fromkeys(str(record.get("name")) for record in records))


def coco_files(folder: Path) -> list[Path]:
    return [path for path in files_below(folder, (".json",)) if looks_like_coco(path)]


def split_of_file(path: Path) -> str | None:
    """The split that a path's last part says, or else the one before: instances_train2017.json, valid/_annotations."""
    for part in reversed(path.parts):
        words = "".join(letter if letter.isalpha() else " " for letter in part.lower()).split()
        splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
        if splits:
            return splits.pop() if len(splits) == 1 else None
    return None


def looks_like_coco(path: Path) -> bool:
    """Whether a JSON file has COCO's three lists."""

    class Lists(msgspec.Struct):
        images: msgspec.Raw
        annotations: msgspec.Raw
        categories: msgspec.Raw

    data = path.read_bytes()
    if not all(f'"{key}"'.encode() in data for key in ("images", "annotations", "categories")):
        return False
    try:
        lists = msgspec.json.decode(data, type=Lists)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True  # damaged or with NaN in it: reading it will tell
    return all(bytes(raw).startswith(b"[") for raw in (lists.images, lists.annotations, lists.categories))


def image_names(coco: Coco) -> list[str | None]:
    """What every image record says its file is; None where it does not."""
    decoder = msgspec.json.Decoder(Name)
    names: list[str | None] = []
    for raw in coco.images:
        try:
            name = decoder.decode(raw).file_name
        except msgspec.ValidationError:
            name = None
        names.append(name if isinstance(name, str) and name else None)
    return names


class Files(NamedTuple):
    """The files of a source that may be images."""

    by_path: dict[str, Path]  # by the path below the source
    by_end: dict[str, list[Path]]  # by the last one, two, ... parts of that


def image_files(folder: Path) -> Files:
    files = Files({}, {})
    for path in files_below(folder):
        if path.suffix.lower() in NO_IMAGES:
            continue
        parts = path.relative_to(folder).parts
        files.by_path["/".join(parts)] = path
        for length in range(1, len(parts) + 1):
            files.by_end.setdefault("/".join(parts[-length:]), []).append(path)
    return files


def files_of_images(
    names: Sequence[str | None], annotation_file: Path, folder: Path, files: Files, split: str | None = None
) -> list[Path | None]:
    """The file that each file_name means.

    A name may lack leading folders or have some that the source does not. So that a record whose own file is
    missing does not take another's of the same last part, exact paths are given away first: from the source's top
    and from the annotation file.
    """
    flat = [None if name is None else checked_name(name, annotation_file) for name in names]
    beside = annotation_file.parent.relative_to(folder)
    file_of: dict[str, Path | None] = {}
    for name in flat:
        if name is not None:
            exact = files.by_path.get(str(PurePosixPath(name))) or files.by_path.get(str(beside / name))
            if exact is not None:
                file_of[name] = exact
    taken = set(file_of.values())
    for name in flat:
        if name is not None and name not in file_of:
            path = file_of_image(name, annotation_file, folder, files, split)
            file_of[name] = None if path in taken else path
            taken.add(path)
    return [None if name is None else file_of[name] for name in flat]


def checked_name(name: str, annotation_file: Path) -> str:
    """The name with / between folders.

    Raises:
        SeamlineError: when it leads out of the source.
    """
    plain = name.replace("\\", "/")
    path = PurePosixPath(plain)
    if path.is_absolute() or ".." in path.parts or "\0" in plain or (path.parts and path.parts[0][1:] == ":"):
        raise SeamlineError(f"{annotation_file.name}: the file_name {name!r} leads out of the source.")
    return plain


def file_of_image(name: str, annotation_file: Path, folder: Path, files: Files, split: str | None) -> Path | None:
    """The file with the longest match of the name's end; of several the one in a folder of this split.

    Raises:
        SeamlineError: when several files match it equally well.
    """
    parts = PurePosixPath(name).parts
    for length in range(len(parts), 0, -1):
        matches = files.by_end.get("/".join(parts[-length:]), [])
        if len(matches) > 1 and split is not None:
            matches = [path for path in matches if split_of_file(path.parent.relative_to(folder)) == split] or matches
        if len(matches) == 1:
            return matches[0]
        if matches:
            found = ", ".join(str(path.relative_to(folder)) for path in matches[:3])
            raise SeamlineError(
                f"{annotation_file.name}: the file_name {name!r} fits {len(matches)} files, such as {found}; it has to "
                "name the folder as well."
            )
    return None
