"""What DVC needs to be told of pull.source. `make setup` copies this file into the environment's site-packages, and the
.pth file beside it has Python import it at the start of `dvc`.

It adds to DVC's own error where the source cannot be read: DVC looks at it before any stage runs, so that the error is
DVC's. That is a filter, since DVC's own set-up of its logging takes handlers away and leaves filters.

And it has DVC look at a bucket again when pull has ended. Its client would take the listing from before, so that a
change made while the stage ran would be pulled and not noted, and nobody would see it when the bucket became again what
it was.

`dvc` is also run in folders of others, before anybody has looked at what is in them. So nothing is imported from the
current folder, even where PYTHONPATH names it, and `seamline` is not imported at all; params.yaml is read as data, and
only after DVC has failed.
"""

from __future__ import annotations

import os
import sys


class WithoutCurrentFolder:
    """Inside the block nothing is imported from the current folder."""

    def __enter__(self) -> None:
        self.path = sys.path[:]
        sys.path[:] = [entry for entry in self.path if not is_current(entry)]

    def __exit__(self, *_: object) -> None:
        sys.path[:] = self.path


def is_current(entry: str) -> bool:
    try:
        return os.path.samefile(entry or os.curdir, os.curdir)  # noqa: PTH121 (pathlib is not there yet)
    except OSError:  # one of the two is not there
        return False


# os and sys are what every Python has imported by now.
with WithoutCurrentFolder():
    import logging
    from collections.abc import Iterator
    from pathlib import Path
    from urllib.parse import urlsplit, urlunsplit

COMMANDS = (["repro"], ["status"], ["commit"], ["exp", "run"], ["exp", "exec-run"])  # those that look at the source
CLIENTS = ("botocore", "aiobotocore", "aiohttp", "aiohttp_retry")
HINT = (
    "pull.source cannot be read just now: {address}\n"
    "`dvc repro --downstream subset` goes on with what was pulled before, and `dvc repro` pulls again when it can be\n"
    "(credentials and endpoint are those of the AWS configuration; `make doctor` says more)."
)
MISSING = (
    "pull.source: {source} does not exist; it has to be a folder, an archive or a URL.\n"
    "A relative path starts at the project's top folder, ~ is not expanded, and queued experiments want a whole path."
)


def with_hint(record: logging.LogRecord) -> bool:
    """Let every record through; behind one of a source that cannot be read, print the hint at the end."""
    hint = error_to_hint(record.exc_info[1] if record.exc_info else None)
    if hint:
        sys.stderr.flush()
        logging.getLogger("dvc.cli").removeFilter(with_hint)
        logging.getLogger("dvc.cli").handle(record)
        print(hint, file=sys.stderr)
    return not hint


def error_to_hint(error: BaseException | None) -> str:
    """What to print behind an error; "" where it has nothing to do with the source.

    The address is what DVC's message lacks where a bucket answers, and denies access.
    """
    for cause in causes(error):
        if is_clients(cause):
            source = pull_source()
            return HINT.format(address=shown(source)) if "://" in source else ""
        if isinstance(cause, FileNotFoundError):
            source = pull_source()
            if source and cause.filename == os.path.normpath(Path.cwd() / source):
                return MISSING.format(source=source)
    return ""


def pull_source() -> str:
    """As params.yaml has it; "" where it does not, or has what a terminal should not get: that is another error's
    matter.
    """
    with WithoutCurrentFolder():
        import yaml  # not for every `dvc`

    try:
        source = yaml.safe_load(Path("params.yaml").read_bytes())["pull"]["source"]
    except (OSError, yaml.YAMLError, ValueError, RecursionError, LookupError, TypeError):
        return ""
    return source if isinstance(source, str) and source.isprintable() else ""


def shown(address: str) -> str:
    """Without user, password and query: seamline.addresses.shown(), to which a test holds it."""
    try:
        parts = urlsplit(address)
    except ValueError:  # it is no address
        return address.partition("://")[0] + "://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_clients(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in CLIENTS


if any(sys.orig_argv[2:][: len(command)] == command for command in COMMANDS):
    logging.getLogger("dvc.cli").addFilter(with_hint)
    os.environ.setdefault("FSSPEC_S3_USE_LISTINGS_CACHE", "false")
