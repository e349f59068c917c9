"""What a catalogue says of itself, and what its files are called.

catalogue.json     these facts
vectors.npy        (garments, dimension) f16, each of length 1; row i belongs to row i of the table
garments.sqlite    photos, garments, their attributes and crops, and photos that cannot be used
index.usearch      only where the catalogue is large: a graph that finds near vectors without looking at all
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from seamline.base.errors import SeamlineError
from seamline.base.files import write_json

VERSION = 1
FACTS, VECTORS, TABLE, INDEX = "catalogue.json", "vectors.npy", "garments.sqlite", "index.usearch"
FILES = (FACTS, VECTORS, TABLE, INDEX)
EXACT: Final = "exact"
HNSW: Final = "hnsw"


class Version(msgspec.Struct):
    """What the facts of every version have."""

    version: int


class CatalogueFacts(msgspec.Struct, frozen=True):
    embedder: dict[str, Any]  # its facts
    embedder_identity: str  # the same for embedders whose vectors can be compared
    detector: dict[str, Any]  # what found the garments: sha256 of the model, its names, the score threshold
    dimension: int  # numbers in a vector
    columns: list[str]  # of the user's
    photos: int
    garments: int
    classes: dict[str, int]  # garments of each class that the detector knows
    unusable: int  # photos
    photos_twice: int  # photos with the bytes of another one
    index: Literal["exact", "hnsw"]
    vectors_sha256: str
    table_sha256: str
    version: int = VERSION


def read_facts(folder: Path) -> CatalogueFacts:
    """
    Raises:
        SeamlineError: when the folder has no catalogue, or one that this version does not read.
    """
    path = folder / FACTS
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise SeamlineError(
            f"{folder}: has no {FACTS}, so it is not a catalogue; seamline catalogue add makes one."
        ) from None
    except OSError as error:
        raise SeamlineError(f"{path}: cannot be read ({error.strerror}).") from None
    try:
        version = msgspec.json.decode(data, type=Version).version
        if version != VERSION:
            raise SeamlineError(f"{path}: is of version {version}, and this Seamline reads version {VERSION}.")
        return msgspec.json.decode(data, type=CatalogueFacts)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SeamlineError(f"{path}: does not describe a catalogue ({error}).") from None


def write_facts(folder: Path, facts: CatalogueFacts) -> None:
    write_json(folder / FACTS, msgspec.to_builtins(facts))


def check_embedder(facts: CatalogueFacts, identity: str, name: str, folder: Path | str) -> None:
    """
    Raises:
        SeamlineError: when the catalogue's vectors are of another embedder, with which they cannot be compared.
    """
    if facts.embedder_identity != identity:
        raise SeamlineError(
            f"{folder}: its vectors are of the embedder {facts.embedder.get('name', '?')} "
            f"({facts.embedder_identity[:12]}), and {name} ({identity[:12]}) makes others, which cannot be compared; "
            "open the embedder that it was made with, or make the catalogue again."
        )
