"""A dataset as an adapter hands it over: records as they came, and where each image's file is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from seamline.base.coco import Record
from seamline.ingest.canonical.changes import Changes

Raw = bytes | msgspec.Raw


class Reading(NamedTuple):
    """What the user says of how a source was written: pull.convention and pull.category_ids."""

    convention: str | float | None = None
    category_ids: str | None = None


class Part(msgspec.Struct):
    """One annotation file, or its equivalent: ids have a meaning only within it."""

    title: str  # what error messages call it
    images: Sequence[Raw]  # JSON objects with at least id and file_name
    files: Sequence[Path | None]  # each image's file
    annotations: Sequence[Raw]  # COCO-like JSON objects
    categories: Sequence[Record]  # with id and name
    split: str | None = None  # train, val or test, where the source says so


class Source(msgspec.Struct):
    """A dataset as an adapter found it."""

    layout: str
    parts: Sequence[Part]
    changes: Changes  # those of the adapter so far
    attributes: msgspec.Raw = msgspec.Raw(b"[]")  # Fashionpedia's table of them
