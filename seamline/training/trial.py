"""How a sweep and the training it watches talk to each other: through two files, in other processes and folders."""

from __future__ import annotations

import os
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import write_json

DIVERGED = "the loss is no number any more"  # what a training says whose hyperparameters are at fault
PROGRESS = "SEAMLINE_PROGRESS"  # environment variable: the file that a training tells its epochs in


class Stopped(SeamlineError):
    """The sweep has seen enough of this training."""


def stop_file(progress: Path) -> Path:
    return progress.with_suffix(".stop")


def tell_progress(history: list[Record]) -> None:
    """Tell a sweep, where one is watching, how far the training is.

    Raises:
        Stopped: when the sweep wants the training stopped.
    """
    if PROGRESS not in os.environ:
        return
    progress = Path(os.environ[PROGRESS])
    write_json(progress, history)
    if stop_file(progress).exists():
        raise Stopped(f"train: the sweep stopped this trial after epoch {len(history)}.")
