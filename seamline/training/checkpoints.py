"""What an interrupted training needs to go on as if nothing had happened, in a folder named by what it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of, whole_file
from seamline.base.parallel import in_threads

State = dict[str, Any]
STATE = "state.pt"


def run_key(values: dict[str, Any], files: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits that change with the values, any byte of the files, torch or ultralytics.

    Where the files lie, and what they are called, changes nothing.
    """
    contents = sorted(in_threads(sha256_of, files))
    libraries = {name: version(name) for name in ("torch", "ultralytics")}
    text = json.dumps([values, contents, libraries], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def data_sha256(split: Path, yolo: Path) -> str:
    """One hash of all that training reads of the data, wherever the two folders lie.

    Of the lists it takes the images' names alone, since a line also says where data/yolo lies from there.
    """
    lines = [f"data.yaml {sha256_of(split / 'data.yaml')}"]
    for part in ("train", "val"):
        names = listed_images(split / f"{part}.txt")
        images = [yolo / "images" / name for name in names]
        labels = [(yolo / "labels" / name).with_suffix(".txt") for name in names]
        hashes = zip(in_threads(sha256_of, images), in_threads(sha256_of, labels), strict=True)
        lines += [f"{part} {name} {image} {label}" for name, (image, label) in zip(names, hashes, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def listed_images(path: Path) -> list[str]:
    """Names of the images in a split's list."""
    return [Path(line).name for line in path.read_text(encoding="utf-8").splitlines()]


def write_state(folder: Path, state: State) -> None:
    """Replace the folder's state whole; a kill leaves the one before."""
    with whole_file(folder / STATE) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)


def read_state(folder: Path) -> State | None:
    """The state of an earlier run; None where there is none.

    Raises:
        SeamlineError: when the file is damaged.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        state["epoch"], state["history"], state["finished"]
    except Exception as error:  # torch raises a dozen kinds on broken files
        reason = str(error).partition("\n")[0]
        raise SeamlineError(
            f"{path}: the state of an interrupted training cannot be read ({reason[:200]}); "
            f"delete {folder} to train anew."
        ) from None
    return state
