"""What DVC has to know of pull.source. `make setup` copies this file into the environment's site-packages, and the
.pth file beside it has Python import it at the start of `dvc`.

It adds to DVC's own error where the source cannot be read: DVC looks at it before any stage runs, so that the error is
DVC's. So it does where there is no git, as in a downloaded zip. That is a filter, since DVC's own set-up of its logging
takes handlers away and leaves filters.

It has `dvc repro --pull` pull what a stage depends on also where the stage is run by force, or where its results are in
git, so that DVC would pull nothing: `dvc repro --single-item --force --pull benchmark` measures in a fresh clone.

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
    import contextlib
    import logging
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any
    from urllib.parse import urlsplit, urlunsplit

COMMANDS = (["repro"], ["status"], ["commit"], ["exp", "run"], ["exp", "exec-run"])  # those that look at the source
LOGGERS = ("dvc.cli", "dvc.commands.init")  # by which DVC says why a command failed
CLIENTS = ("botocore", "aiobotocore", "aiohttp", "aiohttp_retry")
HINT = (
    "pull.source cannot be read just now: {address}\n"
    "`dvc repro --downstream subset` uses what was pulled before, and `dvc repro` pulls again when it can be\n"
    "(credentials and endpoint are those of the AWS configuration; `make doctor` says more)."
)
NO_GIT = (
    "this folder is not in a git repository (a downloaded zip is not), and DVC needs one:\n"
    "git init && git add --all && git commit -m start"
)
# What DVC says in a folder that is set up for it, and what helps there.
OF_DVC = {
    "is not a git repository": NO_GIT,
    "is not tracked by any supported SCM tool": NO_GIT,
    "Empty git repo": "nothing has been committed yet: git add --all && git commit -m start",
    "'.dvc' exists. Use `-f` to force.": (
        "this project is set up for DVC already, go on with `dvc repro`; -f would delete its settings and cache."
    ),
}
NO_OUTPUT = "does not exist as an output or a stage name"
MISSING = (
    "pull.source: {source} does not exist; it has to be a folder, an archive or a URL.\n"
    "A relative path starts at the project's top folder, ~ is not expanded; queued experiments need an absolute one."
)

NULL = (
    "attributes.source: null switches nothing off, since DVC takes it for the path of a dependency; "
    "`attributes.enabled: false` switches attributes off."
)


def with_hint(record: logging.LogRecord) -> bool:
    """Let every record through; behind one of a source that cannot be read, print the hint at the end."""
    hint = error_to_hint(record.exc_info[1] if record.exc_info else None)
    if hint:
        sys.stderr.flush()
        logger = logging.getLogger(record.name)
        logger.removeFilter(with_hint)
        logger.handle(record)
        print(hint, file=sys.stderr)
    return not hint


def error_to_hint(error: BaseException | None) -> str:
    """What to print behind an error; "" where there is nothing to add.

    The address is what DVC's message lacks where a bucket answers, and denies access.
    """
    for message, hint in OF_DVC.items():
        if message in str(error) and os.path.isfile("dvc.yaml") and os.path.isdir(".dvc"):  # noqa: PTH112, PTH113
            return hint
    for cause in causes(error):
        if is_clients(cause):
            source = pull_source()
            return HINT.format(address=shown(source)) if "://" in source else ""
        if isinstance(cause, FileNotFoundError):
            source = pull_source()
            if source and cause.filename == os.path.normpath(Path.cwd() / source):
                return MISSING.format(source=source)
        if NO_OUTPUT in str(cause):  # `--pull` takes a source that is not there for a stage's result
            source = pull_source()
            if source and str(cause).startswith(f"'{source}'"):
                return MISSING.format(source=source)
        if isinstance(cause, AssertionError) and source_of("attributes") is None:  # DVC asserts that paths are there
            return NULL
    return ""


def pull_source() -> str:
    """As params.yaml has it; "" where it does not, or has what a terminal should not get: that is another error's
    matter.
    """
    source = source_of("pull")
    return source if isinstance(source, str) and source.isprintable() else ""


def source_of(section: str) -> Any:
    """As params.yaml has it; "" where it does not."""
    with WithoutCurrentFolder():
        import yaml  # not for every `dvc`

    try:
        return yaml.safe_load(Path("params.yaml").read_bytes())[section]["source"]
    except (OSError, yaml.YAMLError, ValueError, RecursionError, LookupError, TypeError):
        return ""


def shown(address: str) -> str:
    """Without user, password and query: seamline.base.urls.shown(), to which a test holds it."""
    try:
        parts = urlsplit(address)
    except ValueError:  # not an address
        return address.partition("://")[0] + "://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_clients(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in CLIENTS


def pull_dependencies_too(stage_class: Any) -> None:
    """Let DVC pull before it decides what to do with a stage, whatever that is."""
    reproduce = stage_class.reproduce

    def pull_and_reproduce(stage: Any, *arguments: Any, **keywords: Any) -> Any:
        if keywords.get("pull") and not keywords.get("dry"):
            pull_missing(stage)
        return reproduce(stage, *arguments, **keywords)

    stage_class.reproduce = pull_and_reproduce


def pull_missing(stage: Any) -> None:
    """What a stage depends on, where it is another's result and not here; a stage says itself what is still missing."""
    from dvc.exceptions import CheckoutError, OutputNotFoundError

    for dependency in stage.deps:
        with contextlib.suppress(CheckoutError, OutputNotFoundError):
            if not dependency.exists and stage.repo.find_outs_by_path(dependency.fs_path, strict=False):
                stage.repo.pull(dependency.def_path)


arguments = sys.orig_argv[2:]
for name in LOGGERS:
    logging.getLogger(name).addFilter(with_hint)
if any(arguments[: len(command)] == command for command in COMMANDS):
    os.environ.setdefault("FSSPEC_S3_USE_LISTINGS_CACHE", "false")
    if "--pull" in arguments:
        with WithoutCurrentFolder():
            from dvc.stage import Stage
        pull_dependencies_too(Stage)
