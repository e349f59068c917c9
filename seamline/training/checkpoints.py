"""The state of an interrupted training: all that it needs to resume as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from seamline.base.errors import SeamlineError
from seamline.base.files import whole_file

State = dict[str, Any]
STATE = "state.pt"


def write_state(folder: Path, state: State) -> None:
    """Replace the folder's state whole; a kill leaves the old one or the new one."""
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
            f"delete {folder} to train from the start."
        ) from None
    return state
