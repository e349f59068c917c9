"""Locks on the project: who holds them, and which were left by processes that are gone.

DVC's lock files (.dvc/tmp/lock, rwlock.lock) and pull's are held by the system on behalf of a process, and free as soon
as it is gone: the files stay and are in nobody's way. DVC's rwlock is another matter: a list, in JSON, of processes
and what they work on. Of those that are gone DVC clears it by itself, but not where another process has got the number
since, and it refuses a list that was cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from pathlib import Path


def is_held(path: Path) -> bool:
    """Whether a process has the lock at this moment."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return False
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def holders(path: Path) -> list[int]:
    """The processes that have a file open, as far as we may see them."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # of another user, or gone in the meantime
            if any(Path(opened.path).samefile(path) for opened in process.open_files() if Path(opened.path).exists()):
                found.append(process.pid)
    return found


def living_processes(rwlock: Path) -> list[int]:
    """The processes that an rwlock names and that there are; [] without the file.

    Raises:
        ValueError: when DVC would refuse it.
    """
    import psutil

    if not rwlock.exists():
        return []
    return [process for process in rwlock_processes(rwlock.read_text()) if psutil.pid_exists(process)]


def rwlock_processes(text: str) -> list[int]:
    """The processes that DVC's rwlock names.

    Raises:
        ValueError: when DVC would refuse it.
    """
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    try:
        locks = SCHEMA(json.loads(text))
    except Invalid as error:
        raise ValueError(str(error)) from None
    writers = [info["pid"] for info in locks["write"].values()]
    readers = [info["pid"] for infos in locks["read"].values() for info in infos]
    return sorted({*writers, *readers})


def command_of(process: int) -> str:
    """Its command line; "" where it cannot be read."""
    import psutil

    try:
        return " ".join(psutil.Process(process).cmdline())
    except psutil.Error:
        return ""


def name_of(process: int) -> str:
    """The program's name alone: arguments may hold what is nobody's business."""
    import psutil

    try:
        return psutil.Process(process).name()
    except psutil.Error:
        return "a program that cannot be looked at"
