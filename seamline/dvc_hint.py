"""A line under DVC's own error where pull.source cannot be read: how to go on with what was pulled before.

DVC looks at a bucket before any stage runs, so that the error is DVC's. Python imports this at the start of `dvc` in
the project's top folder, by a .pth file that `make setup` writes. It is a filter, since DVC's own set-up of its logging
takes handlers away and leaves filters.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

COMMANDS = (["repro"], ["status"], ["exp", "run"])  # those that look at the source
CLIENTS = ("botocore", "aiobotocore", "aiohttp", "aiohttp_retry")
HINT = (
    "pull.source cannot be read just now: `dvc repro --downstream subset` goes on with what was pulled before, and\n"
    "`dvc repro` pulls again when it can be (credentials and endpoint are those of the AWS configuration)."
)


def with_hint(record: logging.LogRecord) -> bool:
    """Let every record through; behind one of a client that cannot read its source, print the hint at the end."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and any(is_clients(cause) for cause in causes(error)):
        sys.stderr.flush()
        logging.getLogger("dvc.cli").removeFilter(with_hint)
        logging.getLogger("dvc.cli").handle(record)
        print(HINT, file=sys.stderr)
        return False
    return True


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_clients(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in CLIENTS or isinstance(error, PermissionError)


if any(sys.orig_argv[2:][: len(command)] == command for command in COMMANDS):
    logging.getLogger("dvc.cli").addFilter(with_hint)
