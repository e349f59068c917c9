"""Fashionpedia as it is handed out: instances_attributes_train2020.json and _val2020.json beside the images.

They are COCO files with attribute_ids on every annotation and the table of attributes beside; masks are polygons or
RLE, ids start from 0. attributes_*.json, which has attributes of whole images and no masks, is left alone. The
official test split has no annotations; the official val images lie in the folder `test`.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from seamline.base.errors import SeamlineError
from seamline.ingest.archives import files_below
from seamline.ingest.canonical.source import Source
from seamline.ingest.layouts.annotation_files import AnnotationFile, is_hidden
from seamline.ingest.layouts.coco import files_to_source
from seamline.ingest.layouts.split_names import split_of_file

PATTERN = "instances_attributes_*.json"


def annotation_files(folder: Path) -> list[Path]:
    found = (path for path in files_below(folder, (".json",)) if fnmatch(path.name, PATTERN))
    return [path for path in found if not is_hidden(path.relative_to(folder))]


def read(folder: Path, images: str | None = None) -> Source:
    """The annotation files by split, with their images; `images` is pull.images.

    Raises:
        SeamlineError: when there are none, or two of one split.
    """
    return files_to_source("fashionpedia", folder, found_annotation_files(folder), images)


def found_annotation_files(folder: Path) -> list[AnnotationFile]:
    """By split; raises SeamlineError when there are none, or two of one split."""
    found = annotation_files(folder)
    paths = {split_of_file(Path(path.name)): path for path in found}
    if not found or len(paths) < len(found):
        names = ", ".join(str(path.relative_to(folder)) for path in found) or "none"
        raise SeamlineError(f"pull.source: Fashionpedia has one {PATTERN} a split; found {names}.")
    return [AnnotationFile(split, path) for split, path in paths.items()]
