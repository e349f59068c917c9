"""Files as they are in other revisions of this project: commits, branches, tags and DVC experiments."""

from __future__ import annotations

import subprocess
from pathlib import Path

from seamline.errors import SeamlineError

WORKSPACE = "workspace"  # the files as they lie here, committed or not; DVC calls it so too


def git(*arguments: str) -> str:
    """What git prints.

    Raises:
        SeamlineError: with git's own words when it fails or is not there.
    """
    return run_git(*arguments).decode()


def run_git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True)
    except OSError as error:
        raise SeamlineError(f"git cannot be run ({error.strerror}).") from None
    if done.returncode != 0:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        if "not a git repository" in reason:
            raise SeamlineError("this folder is no git repository; git init makes it one, and dvc needs one too.")
        raise SeamlineError(f"git {' '.join(arguments)} failed ({reason}).")
    return done.stdout


def experiments() -> dict[str, str]:
    """Names of DVC's experiments in this checkout, each with its commit."""
    found = {}
    for line in git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines():
        name, commit = line.split()
        if len(name.split("/")) == 5:  # refs/exps/<2 digits>/<38 digits>/<name>; others are DVC's own
            found[name.rpartition("/")[2]] = commit
    return found


def commit_of(revision: str) -> str:
    """The commit of a branch, tag, commit or experiment.

    Raises:
        SeamlineError: when there is no such revision; it names the experiments that there are.
    """
    known = experiments()
    if revision in known:
        return known[revision]
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    except SeamlineError:
        names = f"; experiments: {', '.join(sorted(known))}" if known else ""
        raise SeamlineError(
            f"{revision}: is no commit, branch, tag or experiment of this project, nor {WORKSPACE!r}{names}."
        ) from None


def read_at(revision: str, path: Path) -> bytes:
    """A tracked file of a revision, or of the workspace.

    Raises:
        SeamlineError: when the revision does not have it.
    """
    try:
        if revision == WORKSPACE:
            return path.read_bytes()
        return run_git("show", f"{commit_of(revision)}:./{path.as_posix()}")
    except (OSError, SeamlineError) as error:
        if isinstance(error, SeamlineError) and "git show" not in str(error):
            raise
        raise SeamlineError(f"{revision}: has no {path}; dvc repro makes it, and git add keeps it.") from None
