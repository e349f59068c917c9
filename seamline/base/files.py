"""Files and folders written whole or not at all: under a temporary name beside the target, which then becomes it.

A kill at any moment leaves the old one or the new one, whole. Where the system exchanges two names at once (Linux,
macOS) a folder is never missing either; elsewhere the old one has another name for a moment, and after a kill in it the
next start gives it its name back.

A power cut leaves the old file or the new one, too: a file reaches the disk before it gets its name. Of a folder that
was written in the last half minute it may leave empty files, which DVC notices, as their hashes are others: to flush
each of 200,000 files takes two minutes, and to flush all at once waits for whatever other programs write.
"""

from __future__ import annotations

import csv
import ctypes
import errno
import fnmatch
import hashlib
import json
import os
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seamline.base.errors import SeamlineError

# What a file system answers that cannot exchange names (NFS, FAT, some of FUSE), or not these (a folder of an image's
# lower layer), and a system call that a sandbox forbids.
NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV, errno.EPERM)
NO_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
AT_FDCWD, RENAME_EXCHANGE, RENAME_SWAP = -100, 2, 2  # <linux/fcntl.h>, <linux/fs.h>, macOS' <sys/stdio.h>
LONGEST_NAME_BYTES = 240  # of 255, so that there is room for an ending


def temporary_beside(path: Path, ending: str = "tmp") -> Path:
    """The name of a file or folder while it is being made; one for each target, so a killed run leaves at most one."""
    long = len(os.fsencode(path.name)) > LONGEST_NAME_BYTES
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest() if long else path.name
    return path.with_name(f".{name}.{ending}")


def code_below(folder: Path, suffixes: Set[str]) -> list[Path]:
    """Files of code below a folder, sorted; what editors and systems leave beside them does not count, as for DVC.

    Those names begin with a dot or a #, of a file or of a folder around it; and a link may lead nowhere.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in suffixes
        and not any(part.startswith((".", "#")) for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def mode_of(path: Path) -> int:
    """The mode that the system has for a file or folder, 0 where there is nothing.

    Raises:
        OSError: when it cannot be looked at, which is_file(), is_dir() and exists() hide from Python 3.14 on.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


@contextmanager
def whole_file(path: Path, flushed: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` only when the block ends without an error.

    Args:
        path: where the file belongs.
        flushed: it reaches the disk before it gets its name; without it a power cut may leave an empty one, and where
            there are many they are written ten times as fast.

    Raises:
        SeamlineError: when `path` is a folder, or lies below a file.
    """
    make_parent(path)
    if path.is_dir():
        raise SeamlineError(f"{path}: is a folder, and a file has to be written there.")
    temporary = temporary_beside(path)
    try:
        yield temporary
        if flushed:
            flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; it takes the place of `path` only when the block ends without an error.

    Where `path` is a link, the folder that it leads to is replaced.

    Raises:
        SeamlineError: when `path` is a file, lies below one, or is a mount point.
    """
    path = path.resolve() if path.is_symlink() else path
    make_parent(path)
    if path.is_file():
        raise SeamlineError(f"{path}: is a file, and a folder has to be made there.")
    if path.is_mount():
        raise SeamlineError(mounted(path))
    repair(path)
    temporary = temporary_beside(path)
    delete(temporary)
    temporary.mkdir()
    try:
        yield temporary
        take_place(temporary, path)
    finally:
        with suppress(OSError):  # the new folder is in its place, or there is an error to report
            delete(temporary)


def mounted(path: Path) -> str:
    return f"{path}: is a mount point, and a new folder has to take its place; name a folder below it."


def take_place(new: Path, path: Path) -> None:
    """Give a folder that is whole its name; whatever had the name is deleted, here or by the caller, who deletes `new`.

    Raises:
        SeamlineError: when `path` is a mount point.
    """
    if not path.exists():
        new.replace(path)
        return
    try:
        exchange(new, path)
        return
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise SeamlineError(mounted(path)) from None
        if error.errno not in NO_EXCHANGE:
            raise
    old = temporary_beside(path, "old.tmp")
    move_aside(path, old)
    new.replace(path)
    with suppress(OSError):  # the next start deletes it
        delete(old)


def move_aside(path: Path, old: Path) -> None:
    try:
        path.rename(old)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # A folder of a lower layer of a container, which cannot be renamed. The copy counts when it has its name.
        copied = temporary_beside(path, "copy.tmp")
        delete(copied)
        shutil.copytree(path, copied, symlinks=True)
        copied.rename(old)
        delete(path)


def repair(path: Path) -> None:
    """What a kill in take_place() has left: the old folder gets its name back where the new one does not have it."""
    old = temporary_beside(path, "old.tmp")
    if old.exists() and temporary_beside(path).exists():
        delete(path)
        old.rename(path)
    else:
        delete(old)


def exchange(one: Path, other: Path) -> None:
    """Swap the names of two folders; at no moment is either missing.

    Raises:
        OSError: when the system or the file system cannot do it (NO_EXCHANGE), or may not.
    """
    library, names = ctypes.CDLL(None, use_errno=True), (os.fsencode(one), os.fsencode(other))
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, ctypes.c_uint(RENAME_SWAP))
        else:
            failed = library.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], ctypes.c_uint(RENAME_EXCHANGE))
    except AttributeError:  # an older C library
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(other)) from None
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))


def flush(path: Path) -> None:
    """Have what was written to a file reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


def delete(path: Path) -> None:
    """Delete whatever has this name, if anything; read-only folders too."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except PermissionError:
        path.chmod(0o700)
        for parent, folders, _ in os.walk(path):
            for folder in folders:
                if not (inner := Path(parent, folder)).is_symlink():
                    inner.chmod(0o700)
        shutil.rmtree(path)


def check_out(out: Path, ours: Sequence[str], inputs: Iterable[Path] = (), inside: bool = False) -> None:
    """Before a stage works: whether the folder that it is to replace may be replaced.

    Args:
        out: the folder, which need not be there.
        ours: patterns of the names that the stage makes in it.
        inputs: what the stage reads.
        inside: other programs make folders of the same names, so that one that is there has to be the project's.

    Raises:
        SeamlineError: when it is the current folder or has it inside, is a link, has an input inside, or anything that
            the stage has not made.
    """
    whole = out.resolve()
    if Path.cwd().is_relative_to(whole):
        raise SeamlineError(f"{out}: is the current folder or has it inside, and would be deleted; name another one.")
    if out.is_symlink():
        raise SeamlineError(f"{out}: is a link, and a folder has to be made there; name the folder that it leads to.")
    if not out.is_dir():
        return
    for path in inputs:
        if path.resolve().is_relative_to(whole):
            raise SeamlineError(f"{out}: would be replaced, and {path} is read from it; name another folder.")
    names = sorted(path.name for path in out.iterdir())
    foreign = [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in ours)]
    if foreign:
        raise SeamlineError(f"{out}: has {foreign[0]!r}, which this stage has not made and would delete; name another.")
    if inside and names and not whole.is_relative_to(Path.cwd()):
        raise SeamlineError(f"{out}: is there already, outside of the project, and would be deleted; name another.")


def beside(out: Path, ending: str) -> Path:
    """Where a stage that is run by hand writes what the command line names no path for: OUT-report.json beside OUT."""
    return out.with_name(f"{out.name}-{ending}")


def make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise SeamlineError(f"{path}: cannot be made, since a part of its path is a file.") from None


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and for git: indented, a final newline, NaN refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """As text; the bytes of file names that are not UTF-8 become \\udc80 to \\udcff."""
    with (
        whole_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        plain = csv.writer(stream, lineterminator="\n")
        quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(header)
        for row in rows:
            # Python before 3.13 does not quote a carriage return alone, which readers take for the end of the row.
            ends_early = any(isinstance(cell, str) and "\r" in cell for cell in row)
            (quoted if ends_early else plain).writerow(row)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SeamlineError(
            f"{path}: there is no such file; run the stage that makes it (dvc repro), in the project's top folder."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SeamlineError(f"{path}: is not JSON ({error}).") from None


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Hard-link, so that an image takes its disk space once; copy where the file system cannot link."""
    try:
        os.link(source, target)
    except OSError:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            copy(Path(source), Path(target))


def folded(name: str) -> str:
    """Equal for names that are one file on a disk that ignores case, as most disks of Macs do."""
    return unicodedata.normalize("NFC", name).casefold()


def refuse_alike(names: Iterable[str], folder: Path, source: str) -> None:
    """Before files of these names are written into a folder.

    Raises:
        SeamlineError: when two of them would be one file there: one photo would have taken the place of another.
    """
    first: dict[str, str] = {}
    alike = [(other, name) for name in names if (other := first.setdefault(folded(name), name)) != name]
    if alike and not tells_case(folder):
        other, name = alike[0]
        raise SeamlineError(
            f"{source}: {other!r} and {name!r} are one file on this disk, which does not tell upper from lower case."
        )


def tells_case(folder: Path) -> bool:
    """Whether a folder can hold two files whose names differ only in case."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        Path(place, "a").touch()
        return not Path(place, "A").exists()


def megabytes(path: Path) -> float:
    """Size of a file, or of all files in a folder, in MB (10^6 bytes)."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return round(sum(file.stat().st_size for file in files) / 1e6, 3)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
