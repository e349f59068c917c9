"""A process of its own: replaces a folder again and again, is killed at many moments of it, and looks at what is left.

    python -m tests.killed FOLDER FILES MOMENTS [without]

Without the exchange of names where that is said. Every line of seamline/base/files.py that runs is such a moment, and
MOMENTS of those that delete. Prints how many there were, and where the folder was missing; anything else is an error.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from seamline.base import files


def write(path: Path, source: Path, count: int) -> None:
    """A folder of so many names of one file."""
    with files.whole_folder(path) as folder:
        for number in range(count):
            os.link(source, folder / f"{number}.txt")


def inodes(path: Path) -> list[int]:
    return [entry.inode() for entry in os.scandir(path)]


def counted(module: ModuleType, done: Callable[[], None]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that calls `done` at every line of the module."""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            done()
        return trace

    return trace


def killed(work: Callable[[], None], module: ModuleType, moment: int) -> bool:
    """Whether the work, in a process of its own, came to this line of the module, at which it was killed."""
    child = os.fork()
    if child == 0:
        seen = 0

        def kill() -> None:
            nonlocal seen
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.settrace(counted(module, kill))
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def lines_of(work: Callable[[], None], module: ModuleType) -> int:
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1

    sys.settrace(counted(module, count))
    work()
    sys.settrace(None)
    return seen


def refuse(one: Path, other: Path) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(other))


def moments_of(work: Callable[[], None], count: int) -> list[tuple[ModuleType, int]]:
    """Every line of files.py, and so many lines while files are deleted."""
    deleting = lines_of(work, shutil)
    evenly = [round((at + 1) * deleting / (count + 1)) for at in range(count)]
    return [(files, at) for at in range(1, lines_of(work, files) + 1)] + [(shutil, at) for at in evenly]


def main() -> None:
    path, count, moments = Path(sys.argv[1], "f"), int(sys.argv[2]), int(sys.argv[3])
    if "without" in sys.argv:
        files.exchange = refuse
    old, new = path.with_name("old"), path.with_name("new")
    old.write_text("old")
    new.write_text("new")
    whole = {name: [source.stat().st_ino] * count for name, source in (("old", old), ("new", new))}
    write(path, old, count)
    tried = missing = 0
    left = set()
    for module, moment in moments_of(lambda: write(path, old, count), moments):
        assert killed(lambda: write(path, new, count), module, moment)
        tried += 1
        missing += not path.exists()
        if not path.exists():
            files.repair(path)  # as every start does
        found = [name for name, expected in whole.items() if inodes(path) == expected]
        assert found, f"{module.__name__}, line {moment} that ran: {len(inodes(path))} files"
        left.update(found)
        write(path, old, count)
        assert inodes(path) == whole["old"]
    for moment in range(1, 8):  # the start after that, killed too
        path.rename(path.with_name(".f.old.tmp"))
        path.with_name(".f.tmp").mkdir()
        assert killed(lambda: files.repair(path), files, moment)
        files.repair(path)
        assert inodes(path) == whole["old"]
        tried += 1
        write(path, old, count)
    remains = sorted(entry.name for entry in path.parent.iterdir())
    assert remains == sorted(["new", "old", path.name]), remains
    print(tried, missing, ",".join(sorted(left)))


if __name__ == "__main__":
    main()
