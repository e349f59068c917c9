"""What a training took: processor time and time, added up over the runs that it was interrupted in."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.files import read_json, write_json
from seamline.training.finished import FINISHED

NOTED_EVERY_S = 10.0  # so much is lost by a kill
NOTHING = {"processor_s": 0.0, "wall_s": 0.0}


def compute_file(scratch: Path, key: str) -> Path:
    return scratch / "compute" / f"{key}.json"


def compute_of(scratch: Path, key: str) -> Record | None:
    """processor_s and wall_s of a training; None where it was made, or begun, without being counted."""
    file = compute_file(scratch, key)
    return read_json(file) if file.is_file() else None


@contextmanager
def counted_compute(scratch: Path, key: str) -> Iterator[None]:
    """Add what the block takes, processes that it has waited for included, to the note of a training.

    Nothing is noted of a training that is finished already, or was begun by somebody who did not count.

    Args:
        scratch: folder of the trainings.
        key: of the one that the block makes.
    """
    file = compute_file(scratch, key)
    if (scratch / FINISHED / key).exists() or ((scratch / key).exists() and not file.is_file()):
        yield
        return
    before = read_json(file) if (scratch / key).exists() else NOTHING
    begun, over = (processor_seconds(), time.monotonic()), threading.Event()

    def note() -> None:
        spent = (processor_seconds() - begun[0], time.monotonic() - begun[1])
        values = zip(NOTHING, spent, strict=True)
        write_json(file, {name: round(before[name] + seconds, 1) for name, seconds in values})

    def note_now_and_then() -> None:
        while not over.wait(NOTED_EVERY_S):
            note()

    note()
    thread = threading.Thread(target=note_now_and_then, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        note()


def processor_seconds() -> float:
    """Of this process and of those that it has waited for, so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
