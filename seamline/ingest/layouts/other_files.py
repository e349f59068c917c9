"""Files beside the photos that are not COCO files, although they may have been meant as such: what they are instead."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from seamline.base.coco import json_damage
from seamline.base.errors import some
from seamline.base.escaping import to_terminal
from seamline.images.files import PIPELINE_SUFFIXES
from seamline.ingest.archives import files_below
from seamline.ingest.layouts.split_names import split_of_file
from seamline.ingest.layouts.text import to_utf8

LISTS = ("images", "annotations", "categories")
PACKED_JSON = (".json.gz", ".json.bz2", ".json.xz", ".json.zst")
JSON_ENDS = (".json", ".jsonl", ".ndjson", *PACKED_JSON)
# Archives that are not unpacked; those that are stand in archives.SUFFIXES.
PACKED = (".rar", ".7z", ".zst", ".lz4", ".lzma", ".tar.z", ".cab")
POINTER = b"version https://git-lfs.github.com/spec/"
MAX_POINTER_BYTES = 1024
NUMBER = re.compile(rb"-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
PACKED_BYTES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
MAX_NAMED = 3
ANNOTATED = re.compile("annot|coco|instance|label|result|export", re.IGNORECASE)
# By which keys other formats are known, and how they are called; the first that fits.
FORMATS = (
    ({"shapes", "imagePath"}, "a labelme file of one photo; labelme2coco makes a COCO file of them"),
    ({"_via_img_metadata"}, "a project of VGG's annotator; export it as COCO"),
    ({"size", "objects"}, "a Supervisely file of one photo; export the project as COCO"),
    ({"completions"}, "Label Studio's own JSON; export it as COCO"),
    ({"items", "categories"}, "Datumaro's own JSON; export it as COCO"),
    ({"samples"}, "FiftyOne's own JSON; export it as COCO"),
    ({"imgHeight", "objects"}, "a Cityscapes file of one photo"),
)


def problem_of(data: bytes) -> str | None:
    """Why a file of annotations cannot be read as JSON, as a part of a sentence; None where it can."""
    if not data.strip():
        return "is empty; copy or export it again"
    if data.startswith(POINTER) and len(data) <= MAX_POINTER_BYTES:
        return "is a pointer of Git LFS, and not the file itself; git lfs pull fetches it"
    for start, name in PACKED_BYTES.items():
        if data.startswith(start):
            return f"is compressed with {name}; unpack it"
    data, _ = to_utf8(data)
    try:
        msgspec.json.decode(data, type=msgspec.Raw)  # in a tenth of the time of Python's own reader
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    else:
        return None
    if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        return "is a web page or XML, and not JSON; download or export it again"
    damage = json_damage(data)
    if damage is None:
        return None
    if data.lstrip()[:2] in (b"{'", b"['"):
        return "is not JSON, as it has single quotes; write it with json.dump"
    lines = data.strip().splitlines()
    if len(lines) > 1 and lines[0].startswith(b"{") and all(json_damage(line) is None for line in lines[:2]):
        return "has a JSON object in each line, and not one JSON object; export it as COCO"
    return f"{damage}; copy or export it again"


def nearly_coco(data: bytes) -> str | None:
    """What a JSON file with masks lacks to be a COCO file, as a part of a sentence; None where it is something else."""
    document = top_of(data)
    if not isinstance(document, dict):
        return None
    kinds = {key: bytes(document[key]).lstrip()[:1] for key in LISTS if key in document}
    lists = [key for key, start in kinds.items() if start == b"["]
    if len(lists) == len(LISTS):
        return None
    others = [key for key in kinds if key not in lists]
    if len(kinds) == len(LISTS):
        return f"is nearly a COCO file, but its {others[0]} are not a list"
    missing = [key for key in LISTS if key not in kinds]
    if len(kinds) == len(LISTS) - 1 and b'"segmentation"' in data:
        return f"is nearly a COCO file, but has no {missing[0]}"
    return None


def top_of(data: bytes) -> Mapping[str, msgspec.Raw] | list[Any] | None:
    """A JSON document with the values of its top still as text; None where it is neither an object nor a list."""
    data, _ = to_utf8(data)
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:  # takes NaN
        found = json.loads(data.decode("utf-8", "replace"), parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        return {key: msgspec.Raw(json.dumps(value).encode()) for key, value in found.items()}
    return found if isinstance(found, list) else None


def is_twice_at_top(data: bytes, key: str) -> bool:
    """Whether a JSON object has a key twice; readers take the last without a word."""
    pairs: list[tuple[str, Any]] = []

    def keep_pairs(found: list[tuple[str, Any]]) -> None:
        nonlocal pairs
        pairs = found  # the outermost object comes last

    try:
        json.loads(data.decode("utf-8-sig", "replace"), object_pairs_hook=keep_pairs)
    except (ValueError, RecursionError):
        return False
    return sum(name == key for name, _ in pairs) > 1


def format_of(data: bytes) -> str | None:
    """Whose format a JSON file is in, as a part of a sentence; None where it is not known."""
    document = top_of(data)
    if isinstance(document, list):
        first = top_of(bytes(document[0])) if document and isinstance(document[0], msgspec.Raw) else None
        if isinstance(first, dict) and {"image", "annotations"} <= first.keys():
            return "Create ML's JSON; export it as COCO"
        if isinstance(first, dict) and "data" in first and {"annotations", "completions"} & first.keys():
            return "Label Studio's own JSON; export it as COCO, with masks as polygons or brushes"
        return "a list, and a COCO file is an object"
    if document is None:
        return None
    for keys, name in FORMATS:
        if keys <= document.keys():
            return name
    values = [top_of(bytes(value)) for value in list(document.values())[:1]]
    if values and isinstance(values[0], dict) and {"regions", "filename"} <= values[0].keys():
        return "VGG's annotator's own JSON; export it as COCO"
    missing = [key for key in LISTS if key not in document]
    return f"a JSON object without {' and '.join(missing)}" if missing else None


def may_be_meant(path: Path, folder: Path, annotation_files: Sequence[Path]) -> bool:
    """Whether a file that cannot be read may be one of annotations: by its place, its name or what is left in it.

    One with a photo's name is of that photo alone, as labelme and Supervisely write them.
    """
    shown = files_below(folder, tuple(PIPELINE_SUFFIXES))
    if path.stem in {name for photo in shown for name in (photo.stem, photo.name)}:
        return False
    folders = {folder, *(file.parent for file in (*annotation_files, *shown))}
    is_named = split_of_file(path.relative_to(folder)) is not None or ANNOTATED.search(path.name)
    data = path.read_bytes()
    return bool(path.parent in folders or is_named or any(f'"{key}"'.encode() in data for key in LISTS[:2]))


def what_is_there(folder: Path) -> str:
    """What the files of a source are that may hold its annotations, each kind once; "" where there is none."""
    kinds: dict[str, list[Path]] = {}
    for path in files_below(folder, (*JSON_ENDS, ".xml", ".txt", *PACKED)):
        kind = kind_of(path)
        if kind is not None:
            kinds.setdefault(kind, []).append(path)
    found = []
    for kind, paths in kinds.items():
        more = f" and {len(paths) - 1} more: each" if len(paths) > 1 else ""
        found.append(f"{to_terminal(paths[0].relative_to(folder))}{more} {kind}")
    return "; ".join(found[:MAX_NAMED])


def say_packed(folder: Path) -> None:
    """Archives that nothing here unpacks may hold a part of the dataset."""
    packed = [path for path in files_below(folder, PACKED) if not path.name.lower().endswith(PACKED_JSON)]
    if packed:
        names = some([to_terminal(path.relative_to(folder)) for path in packed])
        print(
            f"left aside: {names}: archives of a kind that is not unpacked here; unpack them if they are of the dataset"
        )


def kind_of(path: Path) -> str | None:
    """What a file is, as a part of a sentence; None where it can have nothing to do with annotations."""
    name = path.name.lower()
    if name.endswith(PACKED) and not name.endswith(PACKED_JSON):
        return "is an archive of a kind that is not unpacked here; unpack it"
    data = path.read_bytes()
    if name.endswith(".xml"):
        head = data[:4096]
        if b"<annotations" in head:
            return "is CVAT's XML; export it as COCO 1.0"
        return "is Pascal VOC's XML of one photo, with boxes" if b"<annotation" in head else None
    if name.endswith(".txt"):
        lines = [line.split() for line in data[:4096].splitlines()[:3]]
        is_yolo = bool(lines) and all(len(line) >= 5 and all(map(NUMBER.fullmatch, line)) for line in lines)
        return "is a YOLO label of one photo; export the masks as COCO" if is_yolo else None
    problem = problem_of(data) or nearly_coco(data)
    if problem is not None:
        return problem
    known = format_of(data)
    return f"is {known}" if known else "is not a COCO file"
