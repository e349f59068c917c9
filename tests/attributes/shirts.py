"""Small sources of attributes: photos of noise, which are nobody's duplicates, and a CSV beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import yaml

from seamline.params.attributes import Attributes
from tests.conftest import PARAMS

PLAIN: dict[str, Any] = {"labels": None, "classes": None, "ratios": {"train": 0.5, "val": 0.25, "test": 0.25}}


def options(**changes: Any) -> Attributes:
    """Section attributes of params.yaml with changes; all columns are taken unless `labels` says which."""
    values = yaml.safe_load(PARAMS.read_text())["attributes"]
    return msgspec.convert(values | PLAIN | changes, Attributes)


def write_photo(path: Path, seed: int, side: int = 24) -> Path:
    """Noise of its seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix.lower(), pixels)[1].tobytes())
    return path


def write_source(folder: Path, csv: str | bytes, photos: Iterable[str] = ()) -> Path:
    """A folder with attributes.csv, and photos of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(photos):
        write_photo(folder / name, seed)
    (folder / "attributes.csv").write_bytes(csv if isinstance(csv, bytes) else csv.encode())
    return folder
