"""The project as it was at some moment, in copies that later changes of the workspace do not reach.

A snapshot is the commit of HEAD, and a second commit with the uncommitted changes of tracked files, as `git stash
create` makes it. A reference in git keeps both from being collected as garbage.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from seamline.base.errors import SeamlineError
from seamline.base.git import git, git_or_empty, head

# Below .dvc, by which a training knows that it runs in a copy (finished.project_around).
COPIES = Path(".dvc/tmp/sweep")
# A copy takes git's settings of who commits, where experiments are pushed and how lines end, not those of this folder.
NOT_COPIED = (
    "core.bare", "core.worktree", "core.repositoryformatversion", "core.sparsecheckout", "core.fsmonitor",
    "extensions.", "include.", "includeif.",
)  # fmt: skip
RESULTS = (":(exclude)reports", ":(exclude)dvc.lock")
WITHOUT_HOOKS = ("-c", "core.hooksPath=/dev/null")
CODE = ("stages", "seamline", "architectures", "recipes", "samples")  # what experiments may need beside their data


class Snapshot(NamedTuple):
    """What a copy contains."""

    commit: str  # where experiments in it start from
    files: str  # a commit: the files as they were, uncommitted changes included


def snapshot_of_workspace() -> Snapshot:
    """Raises SeamlineError when git has no commit yet, or a merge is not finished."""
    commit = head()
    return Snapshot(commit, git("stash", "create").strip() or commit)


def keep(snapshot: Snapshot, name: str) -> None:
    git("update-ref", f"refs/seamline/{name}", snapshot.files)


def untracked_code() -> list[str]:
    """Files of code that git does not track, so that copies of the project lack them."""
    return sorted(
        filter(None, git_or_empty("ls-files", "-z", "--others", "--exclude-standard", "--", *CODE).split("\0"))
    )


def changed_since(snapshot: Snapshot) -> list[str]:
    """Tracked files of this project that differ from the snapshot, results left out.

    Raises:
        SeamlineError: when git no longer has the snapshot.
    """
    try:
        return git("diff", "--name-only", "--relative", "-z", snapshot.files, "--", ".", *RESULTS).split("\0")[:-1]
    except SeamlineError as error:
        raise lost(snapshot, error) from None


def copy_of(snapshot: Snapshot) -> Path:
    """The project's folder in a new copy of its git repository; earlier copies are deleted.

    Git's objects are shared, and data comes from DVC's cache: a copy takes the space of the tracked files.

    Raises:
        SeamlineError: when git no longer has the snapshot.
    """
    discard_copies()
    COPIES.mkdir(parents=True, exist_ok=True)
    copy = Path(tempfile.mkdtemp(dir=COPIES)).resolve()
    git("init", "--quiet", "--template=", str(copy))
    objects, shallow = (Path(git("rev-parse", "--git-path", name).rstrip("\n")) for name in ("objects", "shallow"))
    (copy / ".git" / "objects" / "info").mkdir(exist_ok=True)
    (copy / ".git" / "objects" / "info" / "alternates").write_text(f"{objects.resolve()}\n", encoding="utf-8")
    if shallow.exists():
        shutil.copy(shallow, copy / ".git" / "shallow")
    for entry in git("config", "--local", "--list", "-z").split("\0")[:-1]:
        key, _, value = entry.partition("\n")
        if not key.startswith(NOT_COPIED):
            git("config", "--add", key, value, folder=copy)
    project = copy / git("rev-parse", "--show-prefix").rstrip("\n")
    reset(copy, snapshot)
    configure_dvc(project)
    return project


def discard_copies() -> None:
    for copy in COPIES.glob("*"):
        shutil.rmtree(copy, ignore_errors=True)  # a process that is just ending may still write to it


def reset(folder: Path, snapshot: Snapshot) -> None:
    """Restore the files in a copy, whatever a killed command has left there."""
    Path(folder, git("rev-parse", "--git-path", "index.lock", folder=folder).rstrip("\n")).unlink(missing_ok=True)
    shutil.rmtree(folder / ".dvc" / "tmp", ignore_errors=True)
    try:
        git(*WITHOUT_HOOKS, "checkout", "--quiet", "--force", "--detach", snapshot.commit, folder=folder)
        git("restore", f"--source={snapshot.files}", "--staged", "--worktree", ":/", folder=folder)
    except SeamlineError as error:
        raise lost(snapshot, error) from None


def lost(snapshot: Snapshot, error: SeamlineError) -> SeamlineError:
    return SeamlineError(
        f"sweep: git no longer has the commit {snapshot.commit[:10]} it began with ({error}); "
        "begin another: make sweep SWEEP='--name other'."
    )


def configure_dvc(project: Path) -> None:
    """Give a copy this project's cache and its settings for this machine."""
    from dvc.config import Config, ConfigError

    try:
        ours = Config(str(Path(".dvc").resolve()))
    except ConfigError as error:
        raise SeamlineError(f"DVC's settings in .dvc cannot be read ({error}).") from None
    local = ours.read("local")
    local.setdefault("cache", {})["dir"] = ours["cache"].get("dir") or str(Path(".dvc/cache").resolve())
    with Config(str(project / ".dvc")).edit("local") as config:
        config.update(local)


def take_experiment(project: Path, snapshot: Snapshot, name: str) -> str:
    """Fetch an experiment from a copy into this git; returns its commit."""
    ref = f"refs/exps/{snapshot.commit[:2]}/{snapshot.commit[2:]}/{name}"
    copy = git("rev-parse", "--show-toplevel", folder=project).rstrip("\n")
    git("fetch", "--quiet", "--no-tags", copy, f"{ref}:{ref}")
    return git("rev-parse", "--verify", ref).strip()
