"""A training run to its last epoch, whatever its family: alone or in several processes, its errors in one sentence."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import write_text
from seamline.base.process import ENDS_WITH
from seamline.training.checkpoints import State, read_state
from seamline.training.devices import processes_of
from seamline.training.memory import is_out_of_memory
from seamline.training.processes import train_in_processes
from seamline.training.trial import Stopped


def train_to_the_end(
    folder: Path, device: str, module: str, arguments: Callable[[], Record], alone: Callable[[], None]
) -> State:
    """The state after the last epoch.

    Args:
        module: what a process runs, where the device is several processors; it is given `arguments()`.
        alone: trains in this process.

    Raises:
        SeamlineError: when the training did not come to its end.
        Stopped: when a sweep has no use for it; then the folder is deleted, since nobody will resume it.
    """
    os.environ[ENDS_WITH] = str(os.getpid())
    processes = processes_of(device)
    try:
        if processes > 1:
            train_in_processes(module, arguments(), folder, processes)
        else:
            alone()
    except Stopped:
        shutil.rmtree(folder)
        raise
    state = read_state(folder)
    if state is None or not state["finished"]:
        raise SeamlineError(f"train: the training ended before its last epoch; run dvc repro to resume it ({folder}).")
    return state


@contextmanager
def errors_in_a_sentence(library: str, batch: int, imgsz: int, folder: Path) -> Iterator[None]:
    """Raises SeamlineError for any error of the library's: the cause is a value in params.yaml, or the data."""
    try:
        yield
    except SeamlineError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise SeamlineError(
                f"train: memory is too small for train.batch {batch} at train.imgsz {imgsz}; "
                f"take a smaller batch (train.nbs keeps its steps the same). What was trained is in {folder}."
            ) from None
        write_text(folder / "error.txt", traceback.format_exc())
        first = str(error).strip().partition("\n")[0]
        raise SeamlineError(
            f"train: {library} stopped with {type(error).__name__}: {first} ({folder / 'error.txt'} has all of it)."
        ) from None
