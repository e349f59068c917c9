"""What an interrupted training needs to go on as if nothing had happened, in a folder named by what it depends on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from seamline.errors import SeamlineError
from seamline.files import sha256_of, whole_file
from seamline.parallel import in_threads

State = dict[str, Any]
STATE = "state.pt"
KEPT_UNFINISHED = 3  # a large model's state takes half a gigabyte


def run_key(values: dict[str, Any], files: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits that change with the parameters, any byte of the files, torch or ultralytics."""
    listed = sorted(files)
    contents = {str(path): digest for path, digest in zip(listed, in_threads(sha256_of, listed), strict=True)}
    libraries = {name: version(name) for name in ("torch", "ultralytics")}
    text = json.dumps([values, contents, libraries], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def data_sha256(files: Iterable[Path]) -> str:
    """One hash of the files' names, without the folders above their own, and of every byte of them."""
    listed = sorted(files)
    lines = (
        f"{path.parent.name}/{path.name} {digest}\n"
        for path, digest in zip(listed, in_threads(sha256_of, listed), strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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


def discard_old(scratch: Path, key: str) -> None:
    """Delete the folders of unfinished trainings of other data or parameters, but for the latest few."""
    others = [path for path in scratch.glob(f"*/{STATE}") if path.parent.name != key]
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_UNFINISHED:]:
        shutil.rmtree(path.parent, ignore_errors=True)
