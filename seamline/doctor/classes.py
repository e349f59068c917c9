"""The classes to learn, compared with the names in the source before it is pulled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from seamline.base.coco import read_coco
from seamline.base.errors import SeamlineError
from seamline.base.urls import is_remote
from seamline.dataset.selection import source_ids_by_class
from seamline.doctor.finding import Finding
from seamline.doctor.repository import locked_stages
from seamline.ingest.archives import SUFFIXES, files_below, folder_of
from seamline.ingest.layouts.recognition import category_names
from seamline.params.pull import Pull
from seamline.params.subset import Subset

PULLED = Path("data/raw/annotations.json")


def classes_in_source(pull: Pull, subset: Subset) -> Finding:
    """Whether the source has the classes, as far as that is known without fetching or unpacking it.

    Only names are compared; pull and subset check that each class has an instance.
    """
    try:
        names = pulled_names(pull) or names_in(pull)
        return classes_finding(subset, names)
    except SeamlineError as error:
        return Finding("FAIL", "classes", str(error), "correct pull or subset in params.yaml, or the source")


def classes_finding(subset: Subset, names: Sequence[str] | None) -> Finding:
    """Raises subset's own SeamlineError when the source lacks a category."""
    if names is None:
        found = "checked when the source is pulled, since it is an archive or remote"
        return Finding("ok", "classes", found)
    ids = {name: number for number, name in enumerate(names)}
    classes = source_ids_by_class(subset.sources_by_class(names), ids, set(ids.values()))
    return Finding("ok", "classes", f"{len(classes)} to learn, and the source has them")


def pulled_names(pull: Pull) -> list[str] | None:
    """The categories of data/raw; None when data/raw was pulled from another source."""
    entry = locked_stages().get("pull", {}).get("params")
    found = entry.get("params.yaml") if isinstance(entry, dict) else None
    if not isinstance(found, dict) or found.get("pull") != msgspec.to_builtins(pull) or not PULLED.is_file():
        return None
    return [category.name for category in read_coco(PULLED).category_refs()]


def names_in(pull: Pull) -> list[str] | None:
    """The categories of a folder; None when something would have to be fetched or unpacked."""
    folder = Path(pull.source)
    if is_remote(pull.source) or not folder.is_dir():
        return None
    if not all(folder_of(archive).is_dir() for archive in files_below(folder, SUFFIXES)):
        return None
    return category_names(folder, pull.layout, pull.annotations)
