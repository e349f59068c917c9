"""Records of reports/ that name their file where they lack a key, as those of another version of Seamline do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import read_json


class Named(dict[str, Any]):
    """An object of a JSON file, which knows where it is from."""

    def __init__(self, values: Record, name: str) -> None:
        super().__init__({key: named(value, f"{name}: {key}") for key, value in values.items()})
        self.name = name

    def __missing__(self, key: str) -> Any:
        raise SeamlineError(f"{self.name}: lacks {key}, which this version of Seamline writes; run dvc repro.")


def named(value: Any, name: str) -> Any:
    """A value of a JSON file, whose objects then say what they lack."""
    if isinstance(value, dict):
        return Named(value, name)
    return [named(one, name) for one in value] if isinstance(value, list) else value


def read_record(path: Path) -> Record:
    """An object from a report.

    Raises:
        SeamlineError: when the file is missing or not one; later when a key is asked for that is not there.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise SeamlineError(f"{path}: is not an object, as this version of Seamline writes it; run dvc repro.")
    return Named(found, str(path))
