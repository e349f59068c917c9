"""What a run of predict has done, in OUT/unfinished: after a kill the same command resumes from it.

    run.json       what the run is; one with another model or other options is another run
    done.jsonl     a line for each photo that was predicted or cannot be used, added as they come
    crops/         each instance cut out, by its photo's key
    overlays/      photos with what was found drawn in, by their keys
    lock           held while a run is at work

A kill at any moment leaves at most a last line that is cut off. It is a line's photo and stamp that count: a photo that
has changed is predicted again. The folder goes when all is written that belongs into OUT, and stays while some photos
could not be fetched, so that the next run tries those alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from seamline.base.errors import SeamlineError
from seamline.base.files import write_json

FOLDER = "unfinished"
NAMES = {"run.json", ".run.json.tmp", "done.jsonl", "crops", "overlays", "lock"}
VERSION = 1  # of the lines
DELIVERED = "delivered"  # in run.json, when OUT is complete but for what could not be fetched
# What makes it another run, in words for people.
OPTIONS = {
    "model": "model",
    "confidence": "--confidence",
    "classes": "--classes",
    "format": "--format",
    "crops": "--crops",
    "precision": "--precision",
    "device": "--device",
    "batch": "--batch",
    "max_pixels": "--max-pixels",
    "people": "--people",
    "person_class": "--person-class",
    "person_confidence": "--person-confidence",
    "most_people": "--most-people",
    "attributes": "--attributes",
    "embed": "--embed",
    "likeliest": "--likeliest",
}


class Done(msgspec.Struct):
    """A photo's line: what was found in it, or why it cannot be used."""

    photo: str  # its key
    stamp: str
    name: str
    height: int = 0
    width: int = 0
    instances: list[dict[str, Any]] = []
    persons: list[dict[str, Any]] | None = None  # None where nobody looked for people
    reason: str = ""
    again: bool = False  # whether the reason may be gone another time


class Known(msgspec.Struct):
    """What of a line is needed to find it again."""

    photo: str
    stamp: str
    again: bool = False


class Journal:
    def __init__(self, folder: Path, lines: IO[bytes]) -> None:
        self.folder = folder
        self._lines = lines
        self._end = lines.seek(0, os.SEEK_END)

    def add(self, done: msgspec.Struct) -> int:
        """Write a line, and say where it is."""
        at = self._end
        self._end += self._lines.write(msgspec.json.encode(done) + b"\n")
        self._lines.flush()
        return at

    def at(self, position: int) -> Done:
        return msgspec.json.decode(self.line_at(position), type=Done)

    def line_at(self, position: int) -> bytes:
        self._lines.seek(position)
        return self._lines.readline()

    def known(self) -> dict[str, tuple[int, str]]:
        """By the photos' keys, where their last lines are and the stamps in them; not those to be tried again."""
        found: dict[str, tuple[int, str]] = {}
        for position, line in self.lines():
            known = msgspec.json.decode(line, type=Known)
            found.pop(known.photo, None)
            if not known.again:
                found[known.photo] = position, known.stamp
        return found

    def lines(self) -> Iterator[tuple[int, bytes]]:
        position = 0
        self._lines.seek(0)
        for line in self._lines:
            yield position, line
            position += len(line)

    def cut_torn(self) -> None:
        """Cut off what a kill has left of a last line, and whatever lies behind damage."""
        whole = 0
        for position, line in self.lines():
            try:
                msgspec.json.decode(line, type=Known)
            except msgspec.DecodeError:
                break
            if not line.endswith(b"\n"):
                break
            whole = position + len(line)
        self._lines.truncate(whole)
        self._end = whole

    def finish(self, keep: bool) -> None:
        """When OUT has everything: remove the folder, or keep the lines for a run that tries the others again."""
        if keep:
            run = json.loads((self.folder / "run.json").read_text())
            write_json(self.folder / "run.json", {**run, DELIVERED: True})
        else:
            shutil.rmtree(self.folder)


@contextlib.contextmanager
def open_journal(out: Path, run: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal in OUT: that of a run like this one which was cut, or an empty one.

    Args:
        out: the folder for the results.
        run: by the names in OPTIONS, what changes the results.

    Raises:
        SeamlineError: while another run is at work there, or what another one has left is not finished.
    """
    folder = out / FOLDER
    foreign = sorted({path.name for path in folder.iterdir()} - NAMES) if folder.is_dir() else []
    if foreign:
        raise SeamlineError(
            f"{folder / foreign[0]}: is not of an unfinished run, and would be lost; name another --out."
        )
    with locked(folder, out):
        path = folder / "run.json"
        now = {"version": VERSION, **run}
        before = read_run(path)
        delivered = before.pop(DELIVERED, False)
        done = folder / "done.jsonl"
        if before and before != now:
            if not delivered and done.exists() and done.stat().st_size:
                raise SeamlineError(other_run(folder, before, now))
            for entry in folder.iterdir():
                if entry.name != "lock":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for name in ("crops", "overlays"):
            (folder / name).mkdir(exist_ok=True)
        write_json(path, now)
        try:
            with done.open("a+b") as lines:
                journal = Journal(folder, lines)
                journal.cut_torn()
                yield journal
        except BaseException:
            if done.exists() and not done.stat().st_size:  # nothing to resume
                shutil.rmtree(folder)
            raise


def read_run(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError):  # edited by hand: another run's, whatever it was
        return {"version": None}


def other_run(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    named = [text for name, text in OPTIONS.items() if before.get(name) != now.get(name)]
    other = f"with another {', '.join(named)}" if before.get("version") == VERSION else "of another Seamline"
    return (
        f"{folder}: is an unfinished run {other}; run its command again to finish it, name another folder with --out, "
        "or delete that folder to begin anew."
    )


@contextlib.contextmanager
def locked(
    folder: Path, out: Path, who: str = "predict", remedy: str = ", or name another folder with --out"
) -> Iterator[None]:
    """Keep others out of the folder.

    Args:
        who: would be at work there.
        remedy: besides waiting.

    Raises:
        SeamlineError: while another run is at work there.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SeamlineError(f"{out}: another {who} is at work there; let it end{remedy}.") from None
            except OSError:  # a file system without locks keeps nobody out
                pass
            if not is_there(lock, folder / "lock"):  # another run has ended in between, and taken it away
                continue
            yield
            return


def is_there(opened: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except FileNotFoundError:
        return False
