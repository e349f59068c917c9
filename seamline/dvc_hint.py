"""What DVC needs to be told of pull.source; Python imports this at the start of `dvc` in the project's
top folder, by a .pth file that `make setup` writes.

It adds to DVC's own error where the source cannot be read: DVC looks at it before any stage runs, so that the error is
DVC's. That is a filter, since DVC's own set-up of its logging takes handlers away and leaves filters.

And it has DVC look at a bucket again when pull has ended. Its client would take the listing from before, so that a
change made while the stage ran would be pulled and not noted, and nobody would see it when the bucket became again what
it was.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from seamline.addresses import shown

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
            return HINT.format(address=shown(pull_source()))
        if isinstance(cause, FileNotFoundError):
            source = pull_source()
            if source and cause.filename == os.path.normpath(Path.cwd() / source):
                return MISSING.format(source=source)
    return ""


def pull_source() -> str:
    """As params.yaml has it; "" where it does not, which is then another error's matter."""
    import yaml  # not for every `dvc`

    try:
        return str(yaml.safe_load(Path("params.yaml").read_bytes())["pull"]["source"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return ""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_clients(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in CLIENTS


if any(sys.orig_argv[2:][: len(command)] == command for command in COMMANDS):
    logging.getLogger("dvc.cli").addFilter(with_hint)
    os.environ.setdefault("FSSPEC_S3_USE_LISTINGS_CACHE", "false")
