"""Files in other revisions of this project: commits, branches, tags and DVC experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from seamline.base.errors import SeamlineError
from seamline.base.git import git, git_bytes, head

WORKSPACE = "workspace"  # the files as they are here, committed or not; DVC's word too


class Revision(NamedTuple):
    """A name as it was given, and the commit it stood for then; later it may stand for another."""

    name: str
    commit: str | None  # None: the workspace


def repository() -> Any:
    """This project's git repository, as DVC opens it.

    Raises:
        SeamlineError: when there is none, or no commit yet.
    """
    head()
    from dvc.scm import SCM  # takes a second

    return SCM(str(Path.cwd()))


def experiments() -> dict[str, list[str]]:
    """Names of DVC's experiments in this checkout, each with its commits: one for each commit it was started from.

    Raises:
        SeamlineError: when there is no git repository, or DVC cannot read a reference below refs/exps.
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
    """The commit that DVC finds for a name.

    That is git's branch, tag or commit of this name; else the branch of a remote; else the experiment, of several
    the one that was started from HEAD.

    Raises:
        SeamlineError: when there is no such revision, or several; it lists what there is.
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
        raise SeamlineError(f"{name}: is ambiguous: the beginning of several commits, or a branch of several remotes.")
    names = f"; experiments: {', '.join(sorted(known))}" if known else ""
    raise SeamlineError(
        f"{name}: is not a commit, branch, tag or experiment of this project, nor {WORKSPACE!r}{names}."
    )


def revision(name: str) -> Revision:
    """What a name stands for now.

    Raises:
        SeamlineError: when it stands for nothing, or for several things.
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
        return git_bytes("show", f"{revision.commit}:./{path.as_posix()}")  # ./: relative to this folder
    except (OSError, SeamlineError) as error:
        if isinstance(error, SeamlineError) and "git show" not in str(error):
            raise
        raise SeamlineError(f"{revision.name}: has no {path}; dvc repro makes it, and git add keeps it.") from None
