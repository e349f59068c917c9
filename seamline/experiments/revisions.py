"""Files as they are in other revisions of this project: commits, branches, tags and DVC experiments."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from seamline.base.errors import SeamlineError

WORKSPACE = "workspace"  # the files as they lie here, committed or not; DVC calls it so too
NO_GIT = (
    "this folder is not in a git repository (a downloaded zip is not), and DVC needs one: "
    "git init && git add --all && git commit -m start"
)
NO_COMMIT = "this git repository has no commit yet; git add --all && git commit -m start makes the first."


class Revision(NamedTuple):
    """A name as it was given, and its commit, which stays the same while the name may come to mean another."""

    name: str
    commit: str | None  # None: the workspace


def git(*arguments: str, folder: Path | None = None) -> str:
    """What git prints.

    Raises:
        SeamlineError: with git's own words when it fails or is not there.
    """
    return run_git(*arguments, folder=folder).decode(errors="surrogateescape")


def run_git(*arguments: str, folder: Path | None = None) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True)
    except OSError as error:
        raise SeamlineError(f"git cannot be run ({error.strerror}).") from None
    if done.returncode != 0:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        if "not a git repository" in reason:
            raise SeamlineError(f"{NO_GIT}.")
        raise SeamlineError(f"git {' '.join(arguments)} failed ({reason}).")
    return done.stdout


def head() -> str:
    """The commit that this project stands on.

    Raises:
        SeamlineError: when there is no git repository, or nothing was committed yet.
    """
    git("rev-parse", "--git-dir")
    try:
        return git("rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
    except SeamlineError:
        raise SeamlineError(NO_COMMIT) from None


def repository() -> Any:
    """This project's git, as DVC has it.

    Raises:
        SeamlineError: when there is none, or nothing was committed yet.
    """
    head()
    from dvc.scm import SCM  # only where revisions are asked for

    return SCM(str(Path.cwd()))


def experiments() -> dict[str, list[str]]:
    """Names of DVC's experiments in this checkout, each with its commits: one for each commit it was started from.

    Raises:
        SeamlineError: when there is no git repository, or below refs/exps is what DVC does not take either.
    """
    scm = repository()
    from dvc.exceptions import DvcException
    from dvc.repo.experiments.utils import exp_refs

    found: dict[str, list[str]] = {}
    try:
        for info in exp_refs(scm):
            found.setdefault(info.name, []).append(str(scm.get_ref(str(info))))
    except DvcException as error:
        raise SeamlineError(
            f"DVC cannot read its experiments ({error}); git for-each-ref refs/exps lists them."
        ) from None
    return found


def commit_of(name: str) -> str:
    """The commit that DVC takes a name for.

    That is git's branch, tag or commit of this name; else the branch of one remote; else the experiment: of several
    the one that was started from HEAD.

    Raises:
        SeamlineError: when there is no such revision, or several; it names what there is.
    """
    scm = repository()
    from dvc.exceptions import DvcException
    from dvc.scm import resolve_rev

    try:
        found = resolve_rev(scm, name) if name else ""
        return git("rev-parse", "--verify", "--quiet", f"{found}^{{commit}}").strip()
    except (DvcException, SeamlineError, ValueError) as error:  # ValueError: the beginning of several commits
        known, ambiguous = experiments(), "ambiguous" in str(error)
    commits = known.get(name, [])
    if len(commits) > 1:
        shown = ", ".join(commit[:10] for commit in sorted(commits))
        raise SeamlineError(
            f"{name}: is the name of {len(commits)} experiments, none started from HEAD; write {shown}."
        )
    if ambiguous:
        raise SeamlineError(
            f"{name}: is ambiguous, as the beginning of several commits or a branch of several remotes."
        )
    names = f"; experiments: {', '.join(sorted(known))}" if known else ""
    raise SeamlineError(f"{name}: is no commit, branch, tag or experiment of this project, nor {WORKSPACE!r}{names}.")


def revision(name: str) -> Revision:
    """What a name means now.

    Raises:
        SeamlineError: when it means nothing, or several things.
    """
    return Revision(name, None if name == WORKSPACE else commit_of(name))


def read_at(revision: Revision, path: Path) -> bytes:
    """A tracked file of a revision, or of the workspace.

    Raises:
        SeamlineError: when the revision does not have it.
    """
    try:
        if revision.commit is None:
            return path.read_bytes()
        return run_git("show", f"{revision.commit}:./{path.as_posix()}")  # ./: seen from here, also in a subfolder
    except (OSError, SeamlineError) as error:
        if isinstance(error, SeamlineError) and "git show" not in str(error):
            raise
        raise SeamlineError(f"{revision.name}: has no {path}; dvc repro makes it, and git add keeps it.") from None
