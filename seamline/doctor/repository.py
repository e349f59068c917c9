"""Checks of git and DVC: truncated files, locks that are held or left behind, links to the cache, untracked files."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seamline.base.errors import NAMED, SeamlineError, some
from seamline.base.git import git, git_or_empty
from seamline.base.process import SCRATCH
from seamline.doctor.finding import Finding
from seamline.experiments.snapshot import untracked_code

RWLOCKS = (Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/exps/rwlock"))
CONFLICT = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)


def check_git() -> Finding:
    if shutil.which("git") is None:
        return Finding("FAIL", "git", "is not installed, and DVC needs it", "`apt install git`, or as your system does")
    try:
        folder = Path(git("rev-parse", "--git-dir").strip())
    except SeamlineError as error:
        return no_repository_finding(str(error))
    return repository_finding(folder)


def no_repository_finding(reason: str) -> Finding:
    """Args: reason: what git says."""
    if "dubious ownership" in reason:
        found = "refuses this folder, which belongs to another user; so does DVC"
        return Finding("FAIL", "git", found, '`git config --global --add safe.directory "$PWD"`')
    if dvc_config().get("core", {}).get("no_scm"):
        return Finding("ok", "git", "no repository here, and DVC is set to work without one (core.no_scm)")
    remedy = (
        "`git init && git add --all && git commit -m start`; "
        "or, without experiments, `.venv/bin/dvc config --local core.no_scm true`"
    )
    return Finding("FAIL", "git", "this folder is not in a git repository, and DVC stops without one", remedy)


def repository_finding(folder: Path) -> Finding:
    """Args: folder: .git."""
    name = "git"
    listed = git("ls-files", "-u", "-z", ":/").split("\0")
    unmerged = sorted({line.partition("\t")[2] for line in listed if line})
    if unmerged:
        remedy = "resolve them and `git add` them, or `git merge --abort`"
        return Finding("FAIL", name, f"a merge left conflicts in {some(unmerged)}", remedy)
    index_lock = folder / "index.lock"
    if index_lock.exists():
        found = f"{index_lock} exists: a git command is running, or was killed; `dvc exp run` and commits would fail"
        return Finding("note", name, found, f"when no git command is running: `rm {shlex.quote(str(index_lock))}`")
    branch = git_or_empty("symbolic-ref", "--quiet", "--short", "HEAD").strip()
    if not branch:
        if any(running_dvc_commands()):
            return Finding("ok", name, "not on a branch at the moment, since DVC is running an experiment")
        found = "HEAD is not on a branch, as after a killed `dvc exp run`: new commits would belong to no branch"
        return Finding("note", name, found, "`git switch main`, or your branch")
    if git_or_empty("rev-parse", "--is-shallow-repository").strip() == "true":
        found = "a clone without its history: DVC loses the results of queued experiments and `dvc exp run --temp`"
        return Finding("note", name, found, "`git fetch --unshallow`")
    return Finding("ok", name, f"branch {branch}")


def check_dvc_yaml() -> Finding:
    from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA

    path = Path("dvc.yaml")
    if not path.is_file():
        return Finding("FAIL", "dvc.yaml", "is not in this folder", "go to the project's top folder")
    fault = file_fault(path, COMPILED_MULTI_STAGE_SCHEMA)
    if fault:
        return Finding("FAIL", "dvc.yaml", fault, "correct it, or `git checkout dvc.yaml` for the last committed one")
    return Finding("ok", "dvc.yaml", "can be read")


def check_dvc_lock() -> Finding:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    name, path = "dvc.lock", Path("dvc.lock")
    if not path.exists():
        if git_or_empty("ls-files", "dvc.lock"):
            found = "is missing, though git has one: every stage would run again"
            return Finding("note", name, found, "`git checkout dvc.lock`")
        return Finding("ok", name, "does not exist yet: every stage will run")
    fault = file_fault(path, COMPILED_LOCKFILE_SCHEMA)
    if fault:
        remedy = "`git checkout dvc.lock` for the last committed one; or `rm dvc.lock`, and every stage runs again"
        return Finding("FAIL", name, fault, remedy)
    stages = locked_stages()
    cut = [stage for stage, entry in stages.items() if not all("md5" in out for out in entry.get("outs") or [{}])]
    if cut:
        found = f"ends in the middle of {some(cut)}, which would run again"
        return Finding("note", name, found, "`git checkout dvc.lock` for the last committed one")
    return Finding("ok", name, f"{len(stages)} stages")


def file_fault(path: Path, schema: Callable[[Any], Any]) -> str:
    """Why DVC would refuse one of its files; "" when it would not."""
    from dvc.exceptions import DvcException
    from dvc.utils.strictyaml import load

    if CONFLICT.search(path.read_text(encoding="utf-8", errors="replace")):
        return "contains the marks of a merge conflict"
    try:
        load(str(path), schema)
    except DvcException:
        return "is truncated, as by a kill while DVC wrote it" if path.suffix == ".lock" else "cannot be read by DVC"
    return ""


def locked_stages() -> dict[str, Any]:
    """Stage -> its entry in dvc.lock; {} when it cannot be read."""
    import yaml

    try:
        lock = yaml.load(Path("dvc.lock").read_bytes(), yaml.CSafeLoader)
    except (OSError, yaml.YAMLError):
        return {}
    stages = lock.get("stages") if isinstance(lock, dict) else None
    entries = stages.items() if isinstance(stages, dict) else ()
    return {stage: entry for stage, entry in entries if isinstance(entry, dict)}


def check_rwlock() -> Finding:
    """DVC's lists of which process works on what: one of `dvc repro`, one of experiments."""
    from seamline.doctor.locks import command_of, living_processes, name_of

    for path in RWLOCKS:
        remove = f"`rm {path}`"
        try:
            processes = living_processes(path)
        except ValueError:
            return Finding("FAIL", "rwlock", f"{path} is truncated, as by a kill, and DVC stops at it", remove)
        for process in processes:
            if "dvc" not in command_of(process):
                found = f"{path} names process {process}, which is {name_of(process)} now, and DVC waits for it"
                return Finding("FAIL", "rwlock", found, remove)
            found = f"a DVC command is running (process {process}), and a second one would stop at what it works on"
            return Finding("FAIL", "rwlock", found, f"let it end, or `kill {process}`")
    return Finding("ok", "rwlock", "no DVC command is running, and none has left a lock")


def running_dvc_commands() -> Iterator[int]:
    """The processes in the lists that are DVC commands and still run."""
    from seamline.doctor.locks import command_of, living_processes

    for path in RWLOCKS:
        with contextlib.suppress(ValueError):
            yield from (process for process in living_processes(path) if "dvc" in command_of(process))


def check_locks() -> Finding:
    from seamline.doctor.locks import holders, is_held, name_of

    pulls = sorted(SCRATCH.glob("pull/*/lock"))
    for path in (Path(".dvc/tmp/lock"), Path(".dvc/tmp/rwlock.lock"), *pulls):
        if is_held(path):
            who = [f"process {process}, {name_of(process)}" for process in holders(path)] or ["another user's process"]
            found = f"{path} is held by {some(who)}"
            return Finding("FAIL", "locks", found, "let it end, or end it; the file itself does no harm")
    return Finding("ok", "locks", "none is held")


def dvc_config() -> dict[str, Any]:
    """DVC's settings from all its files; {} when there are none or they cannot be read."""
    from dvc.config import Config, ConfigError

    try:
        return dict(Config(".dvc")) if Path(".dvc").is_dir() else {}
    except ConfigError:
        return {}


def cache_folder() -> Path:
    return Path(dvc_config().get("cache", {}).get("dir") or ".dvc/cache")


def existing(path: Path) -> Path:
    """The path or, while it does not exist, the nearest folder above it that does."""
    return next(parent for parent in (path.resolve(), *path.resolve().parents) if parent.exists())


def check_links() -> Finding:
    """Whether DVC links between its cache and data/; copies would take the disk space twice."""
    name = "links"
    if not Path(".dvc/config").is_file():
        return Finding("FAIL", name, ".dvc/config is missing, and DVC stops", "`git checkout .dvc`")
    config = dvc_config()
    if not config:
        found = ".dvc/config or .dvc/config.local cannot be read by DVC"
        return Finding("FAIL", name, found, "correct it, or `git checkout .dvc/config`")
    kinds = config["cache"].get("type") or ["reflink", "copy"]
    one_disk = existing(cache_folder()).stat().st_dev == existing(Path("data")).stat().st_dev
    kind = first_that_works(kinds, one_disk, working_links(existing(Path(".dvc/tmp"))))
    if kind == "copy":
        found = "DVC copies between its cache and data/, which takes the disk space twice"
        if not {"hardlink", "symlink"} & set(kinds):
            return Finding("note", name, found, "`.venv/bin/dvc config cache.type hardlink,symlink`")
        remedy = "put .dvc/cache and data/ on one disk: `.venv/bin/dvc config --local cache.dir FOLDER`"
        return Finding("note", name, found, remedy)
    return Finding("ok", name, f"{kind}s between DVC's cache and data/")


def first_that_works(kinds: Sequence[str], one_disk: bool, working: Sequence[str]) -> str:
    """The kind of link that DVC uses: the first allowed one that the file system supports; symlinks cross disks."""
    usable = [kind for kind in kinds if kind in working and (one_disk or kind == "symlink")]
    return next((kind for kind in kinds if kind in (*usable, "copy")), "copy")


def working_links(folder: Path) -> list[str]:
    """The kinds of link that the file system supports, tried out in a folder that is removed again."""
    from dvc_objects.fs import system

    working = []
    with tempfile.TemporaryDirectory(dir=folder) as trial:
        file = Path(trial, "file")
        file.write_bytes(b"x")
        for kind in ("reflink", "hardlink", "symlink"):
            try:
                getattr(system, kind)(str(file), str(Path(trial, kind)))
            except OSError:
                continue
            working.append(kind)
    return working


def check_untracked(source: str | None) -> Finding:
    """What queued experiments and sweeps, which run in copies of the tracked files, would not find.

    Weights (.pt) are left out: the training also looks for them in the project around the copy.
    """
    name = "untracked"
    if not git_or_empty("rev-parse", "--git-dir"):
        return Finding("note", name, "not checked, since there is no git repository here", "correct that first")
    files = untracked_code()
    missed = [*files, *([source] if source and is_missed(source) else [])]
    if not missed:
        return Finding("ok", name, "git tracks everything that queued experiments need")
    remedies = [f"`git add {' '.join(map(shlex.quote, shortened(files)))}`"] if files else []
    if len(missed) > len(files):
        remedies.append(f"`pull.source: {Path(missed[-1]).resolve()}`, which copies find as well")
    found = f"queued experiments and sweeps would miss files that git does not track: {some(missed)}"
    return Finding("note", name, found, "; ".join(remedies))


def is_missed(source: str) -> bool:
    """Whether a source is a relative path that does not exist in a copy of what git and DVC track."""
    path = Path(source)
    if "://" in source or path.is_absolute() or not path.exists():
        return False
    if git_or_empty("ls-files", "--", source):  # also beside a project that is a subfolder of its git repository
        return False
    return not path.resolve().is_relative_to(Path.cwd()) or not path.with_name(f"{path.name}.dvc").exists()


def shortened(files: Sequence[str]) -> list[str]:
    """The files or, when there are many, their folders."""
    return list(files) if len(files) <= NAMED else sorted({file.partition("/")[0] for file in files})
