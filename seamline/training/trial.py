"""The channel between a sweep and the training it watches, in other processes and folders: two files."""

from __future__ import annotations

import os
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import write_json

DIVERGED = "the loss is NaN or infinite"  # in the error of a training whose hyperparameters are at fault
PROGRESS = "SEAMLINE_PROGRESS"  # environment variable: the file into which a training writes its epochs


class Stopped(SeamlineError):
    """The sweep has stopped this training."""


def stop_file(progress: Path) -> Path:
    return progress.with_suffix(".stop")


def tell_progress(history: list[Record]) -> None:
    """Write, for the sweep that is watching, how far the training is; nothing where none is watching.

    Raises:
        Stopped: when the sweep has asked for it.
    """
    if PROGRESS not in os.environ:
        return
    progress = Path(os.environ[PROGRESS])
    write_json(progress, history)
    if stop_file(progress).exists():
        raise Stopped(f"train: the sweep stopped this trial after epoch {len(history)}.")


def diverged(epoch: int, lr0: float, folder: Path) -> SeamlineError:
    """The error of a training whose loss is no longer a number, from which a sweep knows that lr0 is at fault."""
    return SeamlineError(
        f"train: {DIVERGED} in epoch {epoch}; train.lr0 {lr0:g} may be too high. "
        f"What was trained before that epoch is in {folder}."
    )
