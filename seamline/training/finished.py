"""Trainings stored in the project's scratch, by a hash of all that makes them, so that nothing is trained twice.

    <key>/            a training that is not finished yet (seamline/training/checkpoints.py)
    finished/<key>/   the best weights, the facts with the history, and the hashes of these two files
    locks/<key>       held by the one process that trains or uses the results

Copies of the project in which DVC runs experiments (`dvc exp run --temp`, the queue, a sweep's trials) share them. A
stored training whose files have changed is noticed, and trained again.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import copy, delete, read_json, sha256_of, whole_folder, write_json
from seamline.base.process import SCRATCH

MAX_UNFINISHED = 3  # the state of a large model takes half a gigabyte
MAX_FINISHED = 5
MAX_FINISHED_BYTES = 5_000_000_000
FINISHED = "finished"
WEIGHTS, FACTS, HASHES = "best.pt", "facts.json", "sha256.json"
CLOCKS_DIFFER_NS = 3_600 * 10**9  # the clock of another machine, whose disk this may be
KEY = re.compile(r"[0-9a-f]{16}")


class Training(NamedTuple):
    """What a trainer makes, whatever its family."""

    weights: Path  # of the best epoch
    facts: Record  # best_epoch and resumed_after, device and threads, revision and hashes
    history: list[Record]  # one record an epoch


def project_around() -> Path:
    """The project whose copy this is, where `dvc exp run --temp` and the queue run; else the project itself."""
    here = Path.cwd().parts
    return Path(*here[: here.index(".dvc")]) if ".dvc" in here else Path.cwd()


def trainings_folder() -> Path:
    return (project_around() / SCRATCH / "train").resolve()


def weights_folder() -> Path:
    """Where pretrained weights are looked for, and downloaded to."""
    return project_around() / SCRATCH / "train" / "weights"


@contextmanager
def holding(scratch: Path, key: str, wait: bool = True) -> Iterator[bool]:
    """Whether this is the only process that works with the training of this key; by default it waits until it is."""
    path = scratch / "locks" / key  # never deleted: who waits for a deleted file does not wait for its successor
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            print("another process is at work on the same training; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield True
        finally:  # also for processes that were forked meanwhile and still have the file open
            fcntl.flock(lock, fcntl.LOCK_UN)


def store_training(scratch: Path, key: str, training: Training, most: int = MAX_FINISHED) -> Training:
    """Store what a training has made, whole or not at all; then delete its state, and the oldest finished trainings."""
    target = scratch / FINISHED / key
    if target.is_symlink() or target.is_file():  # put there by somebody, in the place of a training
        target.unlink()
    with whole_folder(target) as folder:
        copy(training.weights, folder / WEIGHTS)
        write_json(folder / FACTS, {**training.facts, "history": training.history})
        write_json(folder / HASHES, {name: sha256_of(folder / name) for name in (WEIGHTS, FACTS)})
    shutil.rmtree(scratch / key)
    discard_finished(scratch, most)
    return read_training(target)


def stored_training(scratch: Path, key: str) -> Training | None:
    """The finished training of this key; None where there is none, or where its files are damaged, which is printed."""
    folder = scratch / FINISHED / key
    if not os.path.lexists(folder):
        return None
    try:
        hashes = read_json(folder / HASHES)
        whole = all(hashes[name] == sha256_of(folder / name) for name in (WEIGHTS, FACTS))
    except (SeamlineError, OSError, KeyError, TypeError):
        whole = False
    if not whole:
        print(f"{folder}: the training that was stored here is damaged; it is trained again", flush=True)
        delete(folder)
        return None
    os.utime(folder)  # those used last are not discarded
    shutil.rmtree(scratch / key, ignore_errors=True)  # left when a kill came after storing and before deleting
    return read_training(folder)


def read_training(folder: Path) -> Training:
    facts = read_json(folder / FACTS)
    return Training(folder / WEIGHTS, facts, facts.pop("history"))


def discard_unfinished(scratch: Path, key: str) -> None:
    """Delete other trainings that are not finished, except the latest few and those at work."""
    others = [path for path in latest_first(scratch) if path.name != key]
    for path in others[MAX_UNFINISHED:]:
        delete_unless_held(scratch, path)


def discard_finished(scratch: Path, most: int = MAX_FINISHED) -> None:
    """Delete finished trainings beyond the latest few, or beyond their size; never the latest one."""
    total = 0
    for number, path in enumerate(latest_first(scratch / FINISHED)):
        total += bytes_of(path)
        if number > 0 and (number >= most or total > MAX_FINISHED_BYTES):
            delete_unless_held(scratch, path)


def delete_unless_held(scratch: Path, folder: Path) -> bool:
    """Whether the training's folder was deleted: not while a process works with it."""
    with holding(scratch, folder.name, wait=False) as free:
        if free:
            shutil.rmtree(folder, ignore_errors=True)
    return free


def latest_first(folder: Path) -> list[Path]:
    """Folders of trainings, the one that was written or used last first."""
    found = [path for path in folder.glob("*") if KEY.fullmatch(path.name)]
    return sorted(found, key=lambda path: (changed_ns(path), path.name), reverse=True)


def changed_ns(path: Path) -> int:
    """0 for a time in the future, of a clock that was wrong: that training would stay the latest until then."""
    try:
        found = path.stat().st_mtime_ns
        return found if found <= time.time_ns() + CLOCKS_DIFFER_NS else 0
    except FileNotFoundError:  # another process has deleted it just now
        return 0


def bytes_of(folder: Path) -> int:
    """Size of the files below a folder, links not followed."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).lstat().st_size
    return total
