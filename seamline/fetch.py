"""Bring a source to this machine: a folder or archive, local, on S3 or on the web."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from seamline.errors import SeamlineError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_EXPANSION = 1000  # an archive that unpacks to more than this times its size is refused
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)
MIN_EXPANSION_BYTES = 1 << 30  # ... unless it stays below this


def fetch(source: str, scratch: Path) -> Path:
    """A local folder with the source's files; unpacked or downloaded below `scratch` where it is not one already.

    Raises:
        SeamlineError: when the source does not exist, cannot be reached, or is no folder and no archive.
    """
    if "://" in source:
        local = download(source, scratch / "download")
    else:
        local = Path(source)
        if not local.exists():
            raise SeamlineError(f"pull.source: {source!r} does not exist; it has to be a folder, an archive or a URL.")
    if local.is_dir():
        return local
    if not local.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise SeamlineError(
            f"pull.source: {source!r} is no folder and no archive; archives end in {', '.join(ARCHIVE_SUFFIXES)}."
        )
    unpack(local, scratch / "unpacked")
    return scratch / "unpacked"


def download(url: str, target: Path) -> Path:
    """Download a file, or a tree below a prefix, with fsspec (s3://, https://, ...).

    Credentials, region and endpoint are the AWS configuration's own and are never shown.
    """
    import fsspec  # takes a while, and local sources do not need it

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        if filesystem.isfile(path):
            names, base = [path], path.rpartition("/")[0]
        else:  # a key that ends in / is what a console makes of a folder, and holds nothing
            names, base = [name for name in sorted(filesystem.find(path)) if not name.endswith("/")], path.rstrip("/")
        if not names:
            raise SeamlineError(f"pull.source: there is nothing at {url!r}.")
        for name in tqdm(names, desc="download", unit="file", disable=None):
            inside = checked_member(name.removeprefix(base).lstrip("/"), url)
            local = target / inside
            local.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(name, str(local))
    except SeamlineError:
        raise
    except Exception as error:  # whatever a file system's client raises: re-raised as the user's sentence
        raise SeamlineError(
            f"pull.source: cannot read {url!r} ({type(error).__name__}: {first_line(error)})."
        ) from None
    return target / names[0].removeprefix(base).lstrip("/") if names == [path] else target


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def checked_member(name: str, archive: str) -> PurePosixPath:
    """A member's path inside the archive or bucket.

    Raises:
        SeamlineError: when it is absolute or leads outside.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        raise SeamlineError(f"{archive}: the member {name!r} leads outside the archive; nothing of it was unpacked.")
    return path


def unpack(archive: Path, target: Path) -> None:
    """Unpack regular files only, after every name and the total size have been checked.

    Raises:
        SeamlineError: when it is no archive, is damaged, leads outside, or unpacks to an absurd size.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    try:
        if archive.name.lower().endswith(".zip"):
            unpack_zip(archive, target)
        else:
            unpack_tar(archive, target)
    except DAMAGED as error:
        raise SeamlineError(f"{archive}: is not a readable archive ({first_line(error)}).") from None


def unpack_zip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = [member for member in opened.infolist() if not member.is_dir()]
        check_size(sum(member.file_size for member in members), archive)
        for member in members:
            checked_member(member.filename, archive.name)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise SeamlineError(f"{archive}: the member {member.filename!r} is a link; links are refused.")
        for member in members:
            with opened.open(member) as stream:
                write_member(stream, target / checked_member(member.filename, archive.name))


def unpack_tar(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as opened:
        members = [member for member in opened.getmembers() if not member.isdir()]
        check_size(sum(member.size for member in members), archive)
        for member in members:
            checked_member(member.name, archive.name)
            if not member.isfile():
                raise SeamlineError(f"{archive}: the member {member.name!r} is a link or device; those are refused.")
        for member in members:
            stream = opened.extractfile(member)
            if stream is not None:
                write_member(stream, target / checked_member(member.name, archive.name))


def check_size(unpacked_bytes: int, archive: Path) -> None:
    if unpacked_bytes > max(MIN_EXPANSION_BYTES, MAX_EXPANSION * archive.stat().st_size):
        raise SeamlineError(f"{archive}: unpacks to {unpacked_bytes:,} bytes, over {MAX_EXPANSION} times its size.")


def write_member(stream: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)
