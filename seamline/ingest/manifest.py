"""What was pulled: a row an object, with what it was verified against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from tqdm import tqdm

from seamline.base.files import sha256_of, write_csv
from seamline.base.parallel import in_threads


class Row(msgspec.Struct, frozen=True):
    key: str  # below the source
    size: int  # in bytes
    etag: str  # "" of local files
    version: str  # where the bucket keeps versions
    sha256: str
    proven: bool = False  # held against more than the size; in no manifest, since it says nothing of local files


COLUMNS = ("key", "size", "etag", "version", "sha256")


def files_to_rows(files: Sequence[tuple[str, Path]]) -> list[Row]:
    """The rows of local files, given with their keys."""
    hashes = in_threads(lambda file: sha256_of(file[1]), files)
    progress = tqdm(zip(files, hashes, strict=True), "hashing", len(files), unit="file", disable=None)
    return [Row(key, path.stat().st_size, "", "", sha256) for (key, path), sha256 in progress]


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """As CSV, in the order of the keys."""
    ordered = sorted(rows, key=lambda row: row.key)
    write_csv(path, COLUMNS, ([getattr(row, column) for column in COLUMNS] for row in ordered))
