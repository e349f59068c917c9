"""The folder in which a source's objects are kept between pulls, so that only what is new has to be fetched.

    objects/       the objects, by their keys: the source as a folder
    kept.jsonl     a row for each, added when it is whole and verified; what has no row does not count
    parts/         objects that are not whole yet, with a journal of the parts that are

One pull at a time is at work there (`locked`). Nothing in it is believed: what is taken over is hashed again and held
against its row. A kill at any moment leaves at most a file without a row, or a last row that is cut off.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec
from tqdm import tqdm

from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of, write_bytes
from seamline.base.parallel import in_threads
from seamline.ingest.archives import checked_member
from seamline.ingest.manifest import Row
from seamline.ingest.remote.objects import RemoteObject

LOCK_WAIT_S = 3


class ObjectCache:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects, self.parts, self.index = folder / "objects", folder / "parts", folder / "kept.jsonl"
        self.objects.mkdir(parents=True, exist_ok=True)
        self.parts.mkdir(exist_ok=True)
        self.rows: dict[str, Row] = {}
        self.damaged = 0
        for line in self.index.read_bytes().splitlines() if self.index.exists() else []:
            try:
                row = msgspec.json.decode(line, type=Row)
            except msgspec.DecodeError:  # cut off by a kill
                continue
            self.rows[row.key] = row
        self.verified: set[str] = set()

    def path(self, key: str) -> Path:
        return self.objects / key

    def missing(self, items: Sequence[RemoteObject]) -> list[RemoteObject]:
        """Those that have to be fetched; rows of what is not listed so any more, or is damaged, are gone after it."""
        listed = {item.key: item for item in items}
        same = {
            key: row
            for key, row in self.rows.items()
            if key in listed and row.etag == listed[key].etag and listed[key].size in (row.size, None)
            if row.etag or key in self.verified  # without an ETag nothing says later that it is the same
        }
        doubted = [row for row in same.values() if row.key not in self.verified]
        whole = in_threads(lambda row: is_whole(self.path(row.key), row), doubted)
        quiet = None if doubted else True
        for row, good in tqdm(zip(doubted, whole, strict=True), "checking", len(doubted), unit="file", disable=quiet):
            if good:
                self.verified.add(row.key)
            else:
                self.damaged += 1
        self.rows = {key: row for key, row in same.items() if key in self.verified}
        self.write_rows()
        return [item for item in items if item.key not in self.rows]

    def write_rows(self) -> None:
        write_bytes(self.index, b"".join(msgspec.json.encode(row) + b"\n" for row in self.rows.values()))

    def add(self, row: Row, file: Path) -> None:
        """Take a whole and verified file over as an object."""
        self.path(row.key).parent.mkdir(parents=True, exist_ok=True)
        file.replace(self.path(row.key))
        with self.index.open("ab") as stream:
            stream.write(msgspec.json.encode(row) + b"\n")
        self.rows[row.key] = row
        self.verified.add(row.key)

    def make_room(self, items: Sequence[RemoteObject]) -> None:
        """Remove what is in the way of the listed objects, or no longer among them."""
        keys = {item.key for item in items} & self.rows.keys()
        for path in sorted(self.objects.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(self.objects).as_posix() not in keys:
                path.unlink()

    def keep_parts(self, items: Sequence[RemoteObject], part_bytes: int) -> None:
        """Remove what is there in part of all but these: other versions, and what cannot be gone on with."""
        names = {part_name(item, part_bytes) for item in items}
        for path in self.parts.iterdir():
            if path.stem not in names:
                path.unlink()

    def forget(self, key: str) -> None:
        """Have an object fetched again by the next pull."""
        self.path(key).unlink(missing_ok=True)
        del self.rows[key]
        self.write_rows()

    def drop_others(self) -> None:
        """Remove what is kept of other sources, in the folders beside this one."""
        for objects in self.folder.parent.glob("*/objects"):
            if objects.parent != self.folder:
                shutil.rmtree(objects.parent, ignore_errors=True)


def locked(folder: Path) -> IO[str]:
    """A file that only one process has open so, until that ends; waits for one whose `dvc` was killed.

    Raises:
        SeamlineError: while another process is at work in the folder.
    """
    path = folder / "running" / "lock"  # where `make doctor` looks
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("w")
    for _ in range(LOCK_WAIT_S * 10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            return lock
    lock.close()
    raise SeamlineError(f"pull.source: another pull is at work in {folder}; let it end first.")


def is_whole(path: Path, row: Row) -> bool:
    try:
        return path.stat().st_size == row.size and sha256_of(path) == row.sha256
    except OSError:
        return False


def check_keys(items: Sequence[RemoteObject], shown: str) -> None:
    """Raise a SeamlineError for keys that cannot all be files below one folder."""
    keys = {item.key for item in items}
    for key in sorted(keys):
        path = str(checked_member(key, shown))
        if path != key or key.endswith("/"):
            raise SeamlineError(
                f"{shown}: the key {key!r} cannot be the name of a file; rename it, or pull a prefix without it."
            )
        if any(len(part.encode()) > 255 for part in key.split("/")):
            raise SeamlineError(
                f"{shown}: the key {key!r} has a part of more than 255 bytes, too long for a file name."
            )
        for folder in PurePosixPath(key).parents:
            if str(folder) in keys:
                raise SeamlineError(
                    f"{shown}: the key {str(folder)!r} would have to be a file, and the folder of {key!r}."
                )


def part_name(item: RemoteObject, part_bytes: int) -> str:
    """Of a version's parts alone."""
    return hashlib.sha256(f"{item.key}\0{item.etag}\0{item.size}\0{part_bytes}".encode()).hexdigest()[:32]


class PartFile:
    """An object that comes in parts, in any order; a journal says which are there, with their hashes."""

    def __init__(self, parts: Path, item: RemoteObject, part_bytes: int) -> None:
        name = part_name(item, part_bytes)
        self.path, self.journal = parts / f"{name}.part", parts / f"{name}.journal"
        size = item.size or 0
        self.ranges = [(start, min(start + part_bytes, size)) for start in range(0, size, part_bytes)]
        self.done: set[int] = set()
        self.was_damaged = False
        if self.path.exists() and self.path.stat().st_size == size:
            self.done = self.verified_parts()
        else:
            self.journal.unlink(missing_ok=True)
            with self.path.open("wb") as stream:
                stream.truncate(size)

    def verified_parts(self) -> set[int]:
        if not self.journal.exists():
            return set()
        done = set()
        with self.path.open("rb") as stream:
            for number, digest in re.findall(r"^(\d+) ([0-9a-f]{64})$", self.journal.read_text(), re.MULTILINE):
                start, stop = self.ranges[int(number)]
                stream.seek(start)
                if hashlib.sha256(stream.read(stop - start)).hexdigest() == digest:
                    done.add(int(number))
        return done

    def finish(self, number: int, digest: str) -> None:
        with self.journal.open("a") as stream:
            stream.write(f"{number} {digest}\n")
        self.done.add(number)

    def missing(self) -> list[int]:
        return [number for number in range(len(self.ranges)) if number not in self.done]

    def bytes_done(self) -> int:
        return sum(self.ranges[number][1] - self.ranges[number][0] for number in self.done)

    def start_over(self) -> None:
        self.journal.unlink(missing_ok=True)
        self.done.clear()
        self.was_damaged = True


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
