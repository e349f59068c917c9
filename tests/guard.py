"""Tests are of the code, whatever is in the workspace: a test that reads what the workspace has beside it fails.

A user's params.yaml, data, models and results differ from ours, and their tests have to pass all the same. Tests have
a workspace of their own: tests/workspace.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
FILES = tuple(str(PROJECT / name) for name in ("params.yaml", "dvc.lock"))
FOLDERS = tuple(str(PROJECT / name) for name in ("data", "models", "reports", "predictions", ".dvc"))
EVENTS = ("open", "os.listdir", "os.scandir")


def is_of_the_workspace(path: str) -> bool:
    return path in FILES or any(path == folder or path.startswith(folder + os.sep) for folder in FOLDERS)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook (sys.addaudithook), which Python calls before it opens a file or lists a folder."""
    if event in EVENTS and isinstance(arguments[0], str | bytes | os.PathLike):
        if event == "open" and arguments[1] is None and not Path(os.fsdecode(arguments[0])).is_absolute():
            return  # os.open(), which may have been given a folder that the name is relative to
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100
        if is_of_the_workspace(path):
            raise AssertionError(f"a test reads {path}, which is the workspace's; tests/workspace is there for tests")


def switch_on() -> None:
    """For this process and those that are forked from it."""
    sys.addaudithook(refuse)
