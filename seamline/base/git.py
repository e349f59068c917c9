"""What git says: commands as lists of words, in a quiet environment; one sentence where git is missing or fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from seamline.base.errors import SeamlineError

NO_GIT = (
    "this folder is not in a git repository (a downloaded zip is not), and DVC needs one: "
    "git init && git add --all && git commit -m start"
)
NO_COMMIT = "this git repository has no commit yet; git add --all && git commit -m start makes the first."
# English, since we look for git's words; no questions on the terminal; reading commands leave .git as it is.
QUIET = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}


def git(*words: str, folder: Path | None = None) -> str:
    """The output of a git command.

    Raises:
        SeamlineError: with git's own words when it fails or is not installed.
    """
    return git_bytes(*words, folder=folder).decode(errors="surrogateescape")


def git_bytes(*words: str, folder: Path | None = None) -> bytes:
    """As git(), for contents of files."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, env={**os.environ, **QUIET}, capture_output=True)
    except OSError as error:
        raise SeamlineError(f"git cannot be run ({error.strerror}).") from None
    if done.returncode != 0:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        if "not a git repository" in reason:
            raise SeamlineError(f"{NO_GIT}.")
        raise SeamlineError(f"git {' '.join(words)} failed ({reason}).")
    return done.stdout


def git_or_empty(*words: str, folder: Path | None = None) -> str:
    """The output of a git command; "" where it fails or git is not installed."""
    try:
        return git(*words, folder=folder)
    except SeamlineError:
        return ""


def head() -> str:
    """The current commit of this project.

    Raises:
        SeamlineError: when there is no git repository, or no commit yet.
    """
    git("rev-parse", "--git-dir")
    commit = git_or_empty("rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
    if not commit:
        raise SeamlineError(NO_COMMIT)
    return commit
