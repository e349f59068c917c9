"""Checks of git and DVC: files cut off, locks that are held or left, links to the cache, what copies would miss."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seamline.base.process import SCRATCH
from seamline.doctor.finding import NAMED, Finding, some

CODE = ("stages", "seamline", "architectures", "recipes", "samples")
RWLOCKS = (Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/exps/rwlock"))
CONFLICT = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Without optional locks git status and the like do not write into .git.
    return subprocess.run(["git", "--no-optional-locks", *arguments], capture_output=True, text=True)


def check_git() -> Finding:
    name = "git"
    try:
        done = git("rev-parse", "--git-dir")
    except FileNotFoundError:
        return Finding("FAIL", name, "is not installed, and DVC needs it", "`apt install git`, or your system's way")
    if "dubious ownership" in done.stderr:
        told = "refuses this folder, which is another user's; so DVC does"
        return Finding("FAIL", name, told, '`git config --global --add safe.directory "$PWD"`')
    if done.returncode != 0:
        if dvc_config().get("core", {}).get("no_scm"):
            return Finding("ok", name, "none here, and DVC is told so (core.no_scm)")
        remedy = (
            "`git init && git add --all && git commit -m start`; "
            "or, without experiments, `.venv/bin/dvc config --local core.no_scm true`"
        )
        return Finding("FAIL", name, "this folder is not in a git repository, and DVC stops without one", remedy)
    unmerged = sorted(
        {line.partition("\t")[2] for line in git("ls-files", "-u", "-z", ":/").stdout.split("\0") if line}
    )
    if unmerged:
        remedy = "mend them and `git add` them, or `git merge --abort`"
        return Finding("FAIL", name, f"a merge left conflicts in {some(unmerged)}", remedy)
    index_lock = Path(done.stdout.strip()) / "index.lock"
    if index_lock.exists():
        told = f"{index_lock} is there: a git command runs, or was killed; `dvc exp run` and commits would fail"
        return Finding("note", name, told, f"when no git command is running: `rm {shlex.quote(str(index_lock))}`")
    branch = git("symbolic-ref", "--quiet", "--short", "HEAD")
    if branch.returncode != 0:
        if any(dvc_at_work()):
            return Finding("ok", name, "no branch just now, as DVC has it while an experiment runs")
        told = "stands on no branch, as after a `dvc exp run` that was killed: commits belong to none"
        return Finding("note", name, told, "`git switch main`, or your branch")
    if git("rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        told = "a clone without its history: DVC loses what queued experiments and `dvc exp run --temp` find in it"
        return Finding("note", name, told, "`git fetch --unshallow`")
    return Finding("ok", name, f"branch {branch.stdout.strip()}")


def check_dvc_yaml() -> Finding:
    from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA

    path = Path("dvc.yaml")
    if not path.is_file():
        return Finding("FAIL", "dvc.yaml", "there is none in this folder", "go to the project's top folder")
    fault = file_fault(path, COMPILED_MULTI_STAGE_SCHEMA)
    if fault:
        return Finding("FAIL", "dvc.yaml", fault, "mend it, or `git checkout dvc.yaml` for the last committed one")
    return Finding("ok", "dvc.yaml", "can be read")


def check_dvc_lock() -> Finding:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    name, path = "dvc.lock", Path("dvc.lock")
    if not path.exists():
        if shutil.which("git") and git("ls-files", "dvc.lock").stdout:
            told = "is missing, though git has one: every stage would run again"
            return Finding("note", name, told, "`git checkout dvc.lock`")
        return Finding("ok", name, "none yet: every stage will run")
    fault = file_fault(path, COMPILED_LOCKFILE_SCHEMA)
    if fault:
        remedy = "`git checkout dvc.lock` for the last committed one; or `rm dvc.lock`, and all runs again"
        return Finding("FAIL", name, fault, remedy)
    stages = locked_stages()
    cut = [stage for stage, entry in stages.items() if not all("md5" in out for out in entry.get("outs") or [{}])]
    if cut:
        told = f"ends in the middle of {some(cut)}, which would run again"
        return Finding("note", name, told, "`git checkout dvc.lock` for the last committed one")
    return Finding("ok", name, f"{len(stages)} stages")


def file_fault(path: Path, schema: Callable[[Any], Any]) -> str:
    """What DVC would take exception to in one of its files; "" where there is nothing."""
    from dvc.exceptions import DvcException
    from dvc.utils.strictyaml import load

    if CONFLICT.search(path.read_text(encoding="utf-8", errors="replace")):
        return "has the marks of a merge conflict in it"
    try:
        load(str(path), schema)
    except DvcException:
        return "is cut off, as by a kill while DVC wrote it" if path.suffix == ".lock" else "is not what DVC can read"
    return ""


def locked_stages() -> dict[str, Any]:
    """Stage -> its entry in dvc.lock; {} where it cannot be read."""
    import yaml

    try:
        lock = yaml.load(Path("dvc.lock").read_bytes(), yaml.CSafeLoader)
    except (OSError, yaml.YAMLError):
        return {}
    stages = lock.get("stages") if isinstance(lock, dict) else None
    entries = stages.items() if isinstance(stages, dict) else ()
    return {stage: entry for stage, entry in entries if isinstance(entry, dict)}


def check_rwlock() -> Finding:
    """DVC's list of who works on what, of `dvc repro` and of experiments."""
    from seamline.doctor.locks import command_of, living_processes, name_of

    for path in RWLOCKS:
        remove = f"`rm {path}`"
        try:
            processes = living_processes(path)
        except ValueError:
            return Finding("FAIL", "rwlock", f"{path} was cut off by a kill, and DVC stops at it", remove)
        for process in processes:
            if "dvc" not in command_of(process):
                told = f"{path} names the process {process}, which is {name_of(process)} now, and DVC waits for it"
                return Finding("FAIL", "rwlock", told, remove)
            told = f"a DVC command is running (process {process}), and another would stop at what it works on"
            return Finding("FAIL", "rwlock", told, f"let it end, or `kill {process}`")
    return Finding("ok", "rwlock", "nobody is at work, and nothing left is in the way")


def dvc_at_work() -> Iterator[int]:
    """The DVC commands that the lists name and that run."""
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
            told = f"{path} is held by {some(who)}"
            return Finding("FAIL", "locks", told, "let it end, or end it; the file itself is in nobody's way")
    return Finding("ok", "locks", "none is held")


def dvc_config() -> dict[str, Any]:
    """DVC's configuration, of all its places; {} where there is none or it cannot be read."""
    from dvc.config import Config, ConfigError

    try:
        return dict(Config(".dvc")) if Path(".dvc").is_dir() else {}
    except ConfigError:
        return {}


def cache_folder() -> Path:
    return Path(dvc_config().get("cache", {}).get("dir") or ".dvc/cache")


def existing(path: Path) -> Path:
    """The path itself or, where it is not there yet, the folder around it that is."""
    return next(place for place in (path.resolve(), *path.resolve().parents) if place.exists())


def check_links() -> Finding:
    """Whether DVC links between its cache and data/, where copies would take the disk space twice."""
    name = "links"
    if not Path(".dvc/config").is_file():
        return Finding("FAIL", name, "there is no .dvc/config, and DVC stops", "`git checkout .dvc`")
    config = dvc_config()
    if not config:
        told = ".dvc/config or .dvc/config.local is not what DVC can read"
        return Finding("FAIL", name, told, "mend it, or `git checkout .dvc/config`")
    kinds = config["cache"].get("type") or ["reflink", "copy"]
    one_disk = existing(cache_folder()).stat().st_dev == existing(Path("data")).stat().st_dev
    kind = first_that_works(kinds, one_disk, working_links(existing(Path(".dvc/tmp"))))
    if kind == "copy":
        told = "DVC copies between its cache and data/, which take the disk space twice"
        if not {"hardlink", "symlink"} & set(kinds):
            return Finding("note", name, told, "`.venv/bin/dvc config cache.type hardlink,symlink`")
        remedy = "put .dvc/cache and data/ on one disk: `.venv/bin/dvc config --local cache.dir FOLDER`"
        return Finding("note", name, told, remedy)
    return Finding("ok", name, f"{kind}s between DVC's cache and data/")


def first_that_works(kinds: Sequence[str], one_disk: bool, working: Sequence[str]) -> str:
    """The kind of link that DVC takes of those it may: the first that the file system has; symlinks cross disks."""
    usable = [kind for kind in kinds if kind in working and (one_disk or kind == "symlink")]
    return next((kind for kind in kinds if kind in (*usable, "copy")), "copy")


def working_links(folder: Path) -> list[str]:
    """The kinds of link that the file system has, tried out in a folder that is removed again."""
    from dvc_objects.fs import system

    working = []
    with tempfile.TemporaryDirectory(dir=folder) as place:
        file = Path(place, "file")
        file.write_bytes(b"x")
        for kind in ("reflink", "hardlink", "symlink"):
            try:
                getattr(system, kind)(str(file), str(Path(place, kind)))
            except OSError:
                continue
            working.append(kind)
    return working


def check_untracked(source: str | None) -> Finding:
    """What queued experiments and sweeps, which run in copies of what git has, would not find.

    Weights (.pt) are not among it: the training looks for them in the project around the copy too.
    """
    name = "untracked"
    if shutil.which("git") is None or git("rev-parse").returncode != 0:
        return Finding("note", name, "skipped, since there is no git here", "mend that first")
    files = untracked_code()
    missed = [*files, *([source] if source and is_missed(source) else [])]
    if not missed:
        return Finding("ok", name, "queued experiments find all they need in git")
    remedies = [f"`git add {' '.join(map(shlex.quote, shortened(files)))}`"] if files else []
    if len(missed) > len(files):
        remedies.append(f"`pull.source: {Path(missed[-1]).resolve()}`, which copies find too")
    told = f"queued experiments and sweeps would miss what git does not have: {some(missed)}"
    return Finding("note", name, told, "; ".join(remedies))


def untracked_code() -> list[str]:
    return sorted(filter(None, git("ls-files", "-z", "--others", "--exclude-standard", "--", *CODE).stdout.split("\0")))


def is_missed(source: str) -> bool:
    """Whether a source is named by a relative path that leads nowhere from a copy of what git and DVC have."""
    path = Path(source)
    if "://" in source or path.is_absolute() or not path.exists():
        return False
    if git("ls-files", "--", source).stdout:  # also beside the project, where it is a part of a git repository
        return False
    return not path.resolve().is_relative_to(Path.cwd()) or not path.with_name(f"{path.name}.dvc").exists()


def shortened(files: Sequence[str]) -> list[str]:
    """The files or, where they are many, their folders."""
    return list(files) if len(files) <= NAMED else sorted({file.partition("/")[0] for file in files})
