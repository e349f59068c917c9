"""Archives in which datasets are handed out: unpacked safely, with a password, archives inside archives too."""

from __future__ import annotations

import errno
import functools
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tqdm import tqdm

from seamline.base.errors import SeamlineError
from seamline.base.escaping import to_terminal
from seamline.base.files import link_or_copy, refuse_alike
from seamline.base.parallel import in_processes, usable_cores
from seamline.ingest.member_names import tar_name, with_kept_backslashes, zip_name

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PASSWORD_VARIABLE = "SEAMLINE_ARCHIVE_PASSWORD"  # the name of a variable  # nosec B105
# What an archive, with all that is inside its archives, may unpack to. Photos hardly shrink, JSON 10 to 50 times.
MAX_EXPANSION = 250
MIN_EXPANSION_BYTES = 1 << 20
MAX_DEPTH = 3
MEMBERS_A_JOB = 500
# Of the zip format (APPNOTE 4.4.15).
DOS_FOLDER = 0x10
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError,
)  # fmt: skip


class DamagedArchive(SeamlineError):
    """One whose bytes are not what was packed."""


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def folder_of(archive: Path) -> Path:
    """Where an archive is unpacked: train.tar.gz to train, beside it."""
    suffix = next(suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if archive.name.lower().endswith(suffix))
    return archive.with_name(archive.name[: -len(suffix)] or "archive")


def is_unpacked(archive: Path) -> bool:
    """Whether its folder is there already, so that its content would be there twice."""
    if folder_of(archive).is_dir():
        print(to_terminal(f"{archive.name} is left alone, since the folder {folder_of(archive).name} stands beside it"))
        return True
    return False


def files_below(folder: Path, ends: tuple[str, ...] = ("",)) -> list[Path]:
    """Every file below a folder, sorted; links are followed, into each folder once; systems' files are skipped.

    Args:
        ends: of the names, in small letters; among hundreds of thousands of photos the few others are found in no time.
    """
    found = (path for path in walked(folder, ends) if path.is_file())
    return sorted(found, key=lambda path: path.parts)  # the same order as without the key, in half the time


def walked(folder: Path, ends: tuple[str, ...] = ("",)) -> Iterator[Path]:
    """As files_below, one by one, and also what is not a file."""
    for place, names in folders_and_names(folder):
        yield from (Path(place, name) for name in names if name.lower().endswith(ends) and not is_junk(name))


def folders_below(folder: Path) -> list[Path]:
    """The folder and all below, sorted."""
    return sorted(Path(place) for place, _ in folders_and_names(folder))


def folders_and_names(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders and the names in each, but for those of folders."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if name != "__MACOSX")
        yield place, names


def is_junk(name: str) -> bool:
    """Whether systems leave such files in archives and folders, as ._0001.jpg."""
    return name.startswith("._") or name == ".DS_Store"


def unpacked(source: Path, scratch: Path) -> Path:
    """A folder with everything that is in an archive, or in a folder with archives in it.

    A folder without archives is returned as it is; of one with archives the other files are linked to.

    Raises:
        SeamlineError: when an archive is damaged, leads outside, unpacks to an absurd size, or wants a password.
    """
    target = scratch / "unpacked"
    shutil.rmtree(target, ignore_errors=True)
    if source.is_file():
        budget = max(MIN_EXPANSION_BYTES, MAX_EXPANSION * source.stat().st_size)
        budget -= unpack(source, target, budget)
    else:
        found = [path for path in files_below(source) if not (is_archive(path) and is_unpacked(path))]
        if not any(is_archive(path) for path in found):
            return source
        budget = max(
            MIN_EXPANSION_BYTES, MAX_EXPANSION * sum(path.stat().st_size for path in found if is_archive(path))
        )
        for path in found:
            shadow = target / path.relative_to(source)
            shadow.parent.mkdir(parents=True, exist_ok=True)
            shadow.symlink_to(path.resolve())
    for _ in range(MAX_DEPTH):
        for archive in [path for path in files_below(target) if is_archive(path)]:
            folder = folder_of(archive)
            while folder.exists():
                folder = folder.with_name(f"{folder.name}_")
            budget -= unpack(archive, folder, budget)
            archive.unlink()
    return target


def unpack(archive: Path, target: Path, budget: int) -> int:
    """Unpack regular files only, after every name and the total size have been checked; returns the bytes unpacked.

    Raises:
        DamagedArchive: when it is not an archive, or is damaged.
        SeamlineError: when it leads outside, unpacks to more than `budget` bytes, or cannot be unpacked here.
    """
    import pyzipper  # and its ciphers, for which those who only ask for names need not wait

    target.mkdir(parents=True)
    try:
        if archive.name.lower().endswith(".zip"):
            return unpack_zip(archive, target, budget)
        return unpack_tar(archive, target, budget)
    except (*DAMAGED, pyzipper.BadZipFile) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise SeamlineError(f"{archive.name}: there is no space left on the disk to unpack it.") from None
        # A position that cannot be is the archive's fault, what else the system refuses is not.
        blameless = number not in (None, errno.EINVAL) or isinstance(error, NotImplementedError)
        doubt = ", or the password is another" if password() else ""
        raise (SeamlineError if blameless else DamagedArchive)(
            f"{archive.name}: is not a readable archive ({first_line(error)}){doubt}."
        ) from None


def unpack_zip(archive: Path, target: Path, budget: int) -> int:
    import pyzipper

    with pyzipper.AESZipFile(archive) as opened:
        members = zip_files(opened, archive.name)
    total = check_size(sum(member.info.file_size for member in members), budget, archive)
    for member in members:
        if stat.S_ISLNK(member.info.external_attr >> 16):
            raise SeamlineError(f"{archive.name}: the member {member.name!r} is a link; links are refused.")
    protected = any(member.info.flag_bits & 0x1 for member in members)
    if protected and not password():
        raise SeamlineError(
            f"{archive.name}: is protected by a password; put it into the environment variable {PASSWORD_VARIABLE}."
        )
    names = [member.name for member in members]
    refuse_alike(names, target, archive.name)
    positions_and_names = [(member.position, member.name) for member in members]
    jobs = [positions_and_names[start : start + MEMBERS_A_JOB] for start in range(0, len(names), MEMBERS_A_JOB)]
    # The usual encryption is undone in Python, at some 2 MB/s a core; all else is bound by the disk.
    processes = min(len(jobs), usable_cores()) if protected else 1
    with tqdm(total=len(names), desc=f"unpacking {to_terminal(archive.name)}", unit="file", disable=None) as progress:
        for count in in_processes(functools.partial(unpack_members, archive=archive, target=target), jobs, processes):
            progress.update(count)
    return total


def password() -> bytes:
    return os.environ.get(PASSWORD_VARIABLE, "").encode()


class ZipMember(NamedTuple):
    """A file in a zip."""

    position: int  # in the archive's list
    name: str  # with / between folders
    info: Any


def zip_files(opened: Any, archive: str) -> list[ZipMember]:
    """The files of a zip, each name once; those that tools of Windows write as files and are folders left out.

    Raises:
        SeamlineError: when a name leads outside.
    """
    found: dict[str, ZipMember] = {}
    again = set()
    names = with_kept_backslashes([zip_name(info) for info in opened.infolist()])
    for position, (info, name) in enumerate(zip(opened.infolist(), names, strict=True)):
        # Windows' own tools end folders in a backslash, which Python does not know; others only say so in a flag.
        empty = info.file_size == 0
        if info.is_dir() or (empty and (info.orig_filename.endswith("\\") or info.external_attr & DOS_FOLDER)):
            continue
        name = str(checked_member(name, archive))
        if name in found:
            again.add(name)
        found[name] = ZipMember(position, name, info)
    if again:
        example = f"({len(again)}), such as {min(again)!r}"
        print(f"{to_terminal(archive)}: has names more than once {example}; the last file is taken")
    folders = {str(parent) for name in found for parent in PurePosixPath(name).parents}
    return [member for name, member in found.items() if not (name in folders and member.info.file_size == 0)]


def unpack_members(positions_and_names: Sequence[tuple[int, str]], archive: Path, target: Path) -> int:
    import pyzipper

    with pyzipper.AESZipFile(archive) as opened:
        members = opened.infolist()
        for position, name in positions_and_names:
            try:
                with opened.open(members[position], pwd=password() or None) as stream:
                    write_member(stream, target / name)  # which zip_files has checked
            except RuntimeError as error:
                if "password" not in str(error).lower():
                    raise
                raise SeamlineError(f"{archive.name}: the password in {PASSWORD_VARIABLE} does not open it.") from None
    return len(positions_and_names)


def unpack_tar(archive: Path, target: Path, budget: int) -> int:
    with tarfile.open(archive) as opened:
        total = 0
        members: dict[str, tarfile.TarInfo] = {}
        links: dict[str, str] = {}
        found = []
        for member in opened:
            total = check_size(total + member.size, budget, archive)
            found.append(member)
        names = with_kept_backslashes([tar_name(text) for member in found for text in (member.name, member.linkname)])
        for index, member in enumerate(found):
            name = str(checked_member(names[2 * index], archive.name))
            if member.islnk():
                links[name] = str(checked_member(names[2 * index + 1], archive.name))
            elif not (member.isfile() or member.isdir()):
                raise SeamlineError(
                    f"{archive.name}: the member {member.name!r} is a link or device; those are refused."
                )
            elif member.isfile():
                members[name] = member
        links = {name: end_of(name, links) for name, file in links.items() if name != file}
        for name, file in links.items():
            if file not in members:
                raise SeamlineError(
                    f"{archive.name}: the member {name!r} is a link to {file!r}, which is not a file in it; such links "
                    "are refused."
                )
        total = check_size(total + sum(members[file].size for file in links.values()), budget, archive)
        refuse_alike([*members, *links], target, archive.name)
        for name, member in progress_over(members.items(), archive):
            stream = opened.extractfile(member)
            if stream is not None:
                write_member(stream, target / name)
        for name, file in links.items():
            link_or_copy(target / file, target / name)
        check_end(opened)
    return total


def end_of(name: str, links: Mapping[str, str]) -> str:
    """What a link leads to, by way of others; a name of the circle where it leads around in one."""
    seen = {name}
    while (file := links.get(name)) is not None and file not in seen:
        seen.add(file)
        name = file
    return name


def check_end(opened: tarfile.TarFile) -> None:
    """Raise a ReadError for an archive that is cut off: where that is between members, tarfile takes it for whole."""
    stream: Any = opened.fileobj
    stream.seek(opened.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut off, or damaged in the middle")
    while stream.read(1 << 20):  # to the end of the compression, which has a checksum
        pass


def progress_over(members: Iterable[Any], archive: Path) -> Iterable[Any]:
    return tqdm(members, desc=f"unpacking {to_terminal(archive.name)}", unit="file", disable=None)


def check_size(unpacked_bytes: int, budget: int, archive: Path) -> int:
    if unpacked_bytes > budget:
        raise SeamlineError(
            f"{archive.name}: unpacks to {unpacked_bytes:,} bytes or more, over {MAX_EXPANSION} times its size; "
            "nothing of it was unpacked."
        )
    return unpacked_bytes


def checked_member(name: str, archive: str) -> PurePosixPath:
    """A member's path inside the archive or bucket.

    Raises:
        SeamlineError: when it is absolute or leads outside.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    drive = path.parts and len(path.parts[0]) > 1 and path.parts[0][1] == ":" and path.parts[0][0].isalpha()
    if path.is_absolute() or ".." in path.parts or drive or "\0" in name:
        raise SeamlineError(f"{archive}: the name {name!r} leads outside of it; nothing of it was taken.")
    return path


def write_member(stream: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
