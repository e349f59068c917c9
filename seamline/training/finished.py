"""Trainings in the project's scratch, by a hash of all that makes them, so that nothing is trained twice.

    <key>/            a training that is not finished yet (seamline/training/checkpoints.py)
    finished/<key>/   the best weights, the facts, and the hashes of these two files
    locks/<key>       held by the one process that trains, or takes the results

Copies of the project in which DVC runs experiments (`dvc exp run --temp`, the queue, a sweep's trials) share it. What
is kept is not believed: files that are not what was written are noticed, and trained again.
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
from seamline.base.files import copy, read_json, sha256_of, write_json
from seamline.base.process import SCRATCH

KEPT_UNFINISHED = 3  # a large model's state takes half a gigabyte
KEPT_FINISHED = 5
KEPT_BYTES = 5_000_000_000
FINISHED = "finished"
WEIGHTS, FACTS, HASHES = "best.pt", "facts.json", "sha256.json"
CLOCKS_DIFFER_NS = 3_600 * 10**9  # of another machine's disk
KEY = re.compile(r"[0-9a-f]{16}")


class Training(NamedTuple):
    weights: Path
    facts: Record


def project_around() -> Path:
    """The project whose copy this is, where `dvc exp run --temp` and the queue run; else the project itself."""
    here = Path.cwd().parts
    return Path(*here[: here.index(".dvc")]) if ".dvc" in here else Path.cwd()


def trainings_folder() -> Path:
    return (project_around() / SCRATCH / "train").resolve()


@contextmanager
def holding(scratch: Path, key: str, wait: bool = True) -> Iterator[bool]:
    """Whether this is the only process that has the training of this key; waits until it is, unless told not to."""
    path = scratch / "locks" / key  # never deleted: one who waits for a deleted file waits for another than who comes
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


def keep_training(scratch: Path, key: str, weights: Path, facts: Record, most: int = KEPT_FINISHED) -> Training:
    """Take over what a training has made, whole or not at all; delete its state, and the oldest that are kept."""
    made, target = scratch / key / FINISHED, scratch / FINISHED / key
    shutil.rmtree(made, ignore_errors=True)
    copy(weights, made / WEIGHTS)
    write_json(made / FACTS, facts)
    write_json(made / HASHES, {name: sha256_of(made / name) for name in (WEIGHTS, FACTS)})
    target.parent.mkdir(exist_ok=True)
    delete(target)
    made.replace(target)
    shutil.rmtree(scratch / key)
    discard_finished(scratch, most)
    return Training(target / WEIGHTS, read_json(target / FACTS))


def kept_training(scratch: Path, key: str) -> Training | None:
    """The finished training of this key; None where there is none, or where its files are damaged, which is said."""
    folder = scratch / FINISHED / key
    if not os.path.lexists(folder):
        return None
    try:
        hashes = read_json(folder / HASHES)
        whole = all(hashes[name] == sha256_of(folder / name) for name in (WEIGHTS, FACTS))
    except (SeamlineError, OSError, KeyError, TypeError):
        whole = False
    if not whole:
        print(f"{folder}: the training that was kept here is damaged; it is trained again", flush=True)
        delete(folder)
        return None
    os.utime(folder)  # the last ones used are kept
    shutil.rmtree(scratch / key, ignore_errors=True)  # left when a kill came between keeping it and deleting its state
    return Training(folder / WEIGHTS, read_json(folder / FACTS))


def discard_unfinished(scratch: Path, key: str) -> None:
    """Delete other trainings that are not finished, but for the latest few and those at work."""
    others = [path for path in latest_first(scratch) if path.name != key]
    for path in others[KEPT_UNFINISHED:]:
        delete_unless_held(scratch, path)


def discard_finished(scratch: Path, most: int = KEPT_FINISHED) -> None:
    """Delete finished trainings beyond the latest few, or beyond their size; never the latest one."""
    total = 0
    for number, path in enumerate(latest_first(scratch / FINISHED)):
        total += bytes_of(path)
        if number > 0 and (number >= most or total > KEPT_BYTES):
            delete_unless_held(scratch, path)


def delete_unless_held(scratch: Path, folder: Path) -> bool:
    """Whether the training's folder was deleted: not while a process is at work with it."""
    with holding(scratch, folder.name, wait=False) as free:
        if free:
            shutil.rmtree(folder, ignore_errors=True)
    return free


def delete(path: Path) -> None:
    """Whatever is there: a folder, or the file or link that somebody put in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def latest_first(folder: Path) -> list[Path]:
    """Folders of trainings, the one that was written or used last first."""
    found = [path for path in folder.glob("*") if KEY.fullmatch(path.name)]
    return sorted(found, key=lambda path: (changed_ns(path), path.name), reverse=True)


def changed_ns(path: Path) -> int:
    """0 for a time to come, of a clock that was wrong: it would stay the latest for as long."""
    try:
        found = path.stat().st_mtime_ns
        return found if found <= time.time_ns() + CLOCKS_DIFFER_NS else 0
    except FileNotFoundError:  # another process has deleted it just now
        return 0


def bytes_of(folder: Path) -> int:
    """Of the files below a folder, links not followed."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).lstat().st_size
    return total
