"""Bring a source to this machine: a folder or archive, local, on S3 or on the web."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tqdm import tqdm

from seamline.archives import SUFFIXES, checked_member, first_line, is_archive, unpacked
from seamline.errors import SeamlineError


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
    if not local.is_dir() and not is_archive(local):
        raise SeamlineError(
            f"pull.source: {shown(source)!r} is no folder and no archive; archives end in {', '.join(SUFFIXES)}."
        )
    return unpacked(local, scratch)


def download(url: str, target: Path) -> Path:
    """Download a file, or a tree below a prefix, with fsspec (s3://, https://, ...).

    Credentials, region and endpoint are the AWS configuration's own and are never shown.
    """
    import fsspec  # takes a while, and local sources do not need it

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        if filesystem.isfile(path):
            names, base = [path], path.partition("?")[0].rpartition("/")[0]
        else:  # a key that ends in / is what a console makes of a folder, and holds nothing
            names, base = [name for name in sorted(filesystem.find(path)) if not name.endswith("/")], path.rstrip("/")
        if not names:
            raise SeamlineError(f"pull.source: there is nothing at {shown(url)!r}.")
        for name in tqdm(names, desc="download", unit="file", disable=None):
            plain = name.partition("?")[0] if url.startswith("http") else name  # what follows may be a signature
            local = target / checked_member(plain.removeprefix(base).lstrip("/"), shown(url))
            local.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(name, str(local))
    except SeamlineError:
        raise
    except Exception as error:  # whatever a file system's client raises: re-raised as the user's sentence
        reason = f"{type(error).__name__}: {first_line(error)}".replace(url, shown(url))
        raise SeamlineError(f"pull.source: cannot read {shown(url)!r} ({reason}).") from None
    return local if names == [path] else target


def shown(url: str) -> str:
    """An address without what may be secret in it: user, password and query, such as a signature."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
