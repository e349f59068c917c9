"""Copies of a project as it was, from every kind of checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from dvc.config import Config

from seamline.base.errors import SeamlineError
from seamline.experiments.revisions import commit_of
from seamline.experiments.snapshot import (
    changed_since,
    copy_of,
    discard_copies,
    keep,
    reset,
    snapshot_of_workspace,
    take_experiment,
)
from seamline.training.finished import project_around
from tests.experiments.test_revisions import Repository


@pytest.fixture(params=["top", "subfolder", "worktree", "shallow clone", "no branch"])
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that is the current folder, in a git repository with two commits."""
    below = Path("" if request.param == "top" else "work/garments")
    repository = Repository(tmp_path / "git", tmp_path / "git" / below)
    (repository.project / ".dvc" / ".gitignore").write_text("/tmp\n/config.local\n")
    (repository.project / "code.py").write_text("one\n")
    repository.commit()
    found = repository.project
    if request.param == "worktree":
        repository.git("worktree", "add", "--quiet", "-b", "other", str(tmp_path / "tree"))
        found = tmp_path / "tree" / below
    elif request.param == "shallow clone":
        repository.git("clone", "--quiet", "--depth", "1", f"file://{repository.root}", str(tmp_path / "clone"))
        found = tmp_path / "clone" / below
        for key in ("user.name", "user.email"):
            subprocess.run(["git", "config", key, "test"], cwd=found, check=True)
    elif request.param == "no branch":
        repository.git("checkout", "--quiet", "--detach")
    monkeypatch.chdir(found)
    return found


def git(*arguments: str, folder: Path | None = None) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def files_in(folder: Path) -> dict[str, str]:
    return {
        name: (folder / name).read_text() for name in ("code.py", "params.yaml", "new.py") if (folder / name).exists()
    }


def test_a_copy_has_the_files_as_they_were_and_the_workspace_stays_as_it_is(project: Path) -> None:
    Path("code.py").write_text("two\n")
    Path("new.py").write_text("new\n")
    Path("untracked").touch()
    git("add", "new.py")
    for key, value in (("core.autocrlf", "input"), ("core.hooksPath", "hooks"), ("a.b", "c\nd")):
        git("config", key, value)
    hook = Path(git("rev-parse", "--show-toplevel"), "hooks", "post-checkout")
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\ntouch hook-ran\n")
    hook.chmod(0o755)
    Path(".dvc/config.local").write_text("['remote \"storage\"']\n    url = ../../remote\n")
    status, start, expected = git("status", "--porcelain"), git("rev-parse", "HEAD"), files_in(project)
    snapshot = snapshot_of_workspace()
    assert git("status", "--porcelain") == status
    assert changed_since(snapshot) == []

    Path("code.py").write_text("three\n")
    git("commit", "--quiet", "--all", "--message", "x")
    Path("params.yaml").write_text("broken: [")
    Path("new.py").unlink()
    for result in ("reports/metrics.json", "dvc.lock"):
        Path(result).parent.mkdir(exist_ok=True)
        Path(result).touch()
        git("add", result)
    assert changed_since(snapshot) == ["code.py", "new.py", "params.yaml"]
    copy = copy_of(snapshot)
    assert files_in(copy) == expected
    assert git("rev-parse", "HEAD", folder=copy) == start
    assert git("diff", "--name-only", "--relative", "--cached", folder=copy).split() == ["code.py", "new.py"]
    assert git("diff", "--name-only", folder=copy) == ""
    config = Config(str(copy / ".dvc"))
    assert config["cache"]["dir"] == str(project / ".dvc" / "cache")
    assert config["remote"]["storage"]["url"] == str(project.parent / "remote")
    assert not (copy / "untracked").exists()
    assert git("config", "a.b", folder=copy) == "c\nd"
    assert git("config", "core.autocrlf", folder=copy) == "input"
    assert not list(Path(git("rev-parse", "--show-toplevel", folder=copy)).rglob("hook-ran"))

    (copy / "code.py").write_text("of a program that was killed")
    git("rm", "--quiet", "--force", "params.yaml", folder=copy)
    git("commit", "--quiet", "--message", "x", folder=copy)
    Path(git("rev-parse", "--absolute-git-dir", folder=copy), "index.lock").touch()
    (copy / ".dvc" / "tmp").mkdir()
    (copy / ".dvc" / "tmp" / "rwlock").write_text("cut o")
    reset(copy, snapshot)
    assert files_in(copy) == expected
    assert not (copy / ".dvc" / "tmp").exists()
    assert Config(str(copy / ".dvc"))["cache"]["dir"] == str(project / ".dvc" / "cache")
    assert copy_of(snapshot) != copy
    assert not copy.exists()
    Path(".dvc/config.local").write_text("[nonsense]\n    a = b\n")
    with pytest.raises(SeamlineError, match=r"^DVC's settings in \.dvc cannot be read \(.*nonsense"):
        copy_of(snapshot)
    discard_copies()
    assert not list(Path(".dvc/tmp/sweep").iterdir())


def test_an_experiment_of_a_copy_is_taken_over_and_found_by_its_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = snapshot_of_workspace()
    assert snapshot.commit == snapshot.files == git("rev-parse", "HEAD")
    copy = copy_of(snapshot)
    (copy / "code.py").write_text("tried\n")
    git("commit", "--quiet", "--all", "--message", "x", folder=copy)
    tried = git("rev-parse", "HEAD", folder=copy)
    git("update-ref", f"refs/exps/{snapshot.commit[:2]}/{snapshot.commit[2:]}/quick-lynx", tried, folder=copy)
    git("commit", "--quiet", "--allow-empty", "--message", "y")
    assert take_experiment(copy, snapshot, "quick-lynx") == tried
    discard_copies()
    assert commit_of("quick-lynx") == tried
    assert git("show", f"{tried}:./code.py") == "tried"
    monkeypatch.chdir(copy_of(snapshot))
    assert project_around() == project  # where finished trainings are


@pytest.mark.parametrize("project", ["top"], indirect=True)
def test_what_is_kept_outlives_its_commit_and_what_is_not_is_one_sentence(project: Path) -> None:
    Path("code.py").write_text("two\n")
    snapshot = snapshot_of_workspace()
    keep(snapshot, "sweep-1")
    git("checkout", "--quiet", "--force", "HEAD~1")
    git("branch", "--quiet", "--force", "main", "HEAD")
    git("reflog", "expire", "--expire=now", "--all")
    git("gc", "--quiet", "--prune=now")
    assert files_in(copy_of(snapshot))["code.py"] == "two\n"
    git("update-ref", "-d", "refs/seamline/sweep-1")
    discard_copies()
    git("gc", "--quiet", "--prune=now")
    with pytest.raises(SeamlineError, match=f"^sweep: git no longer has the commit {snapshot.commit[:10]}"):
        copy_of(snapshot)


@pytest.mark.parametrize("project", ["subfolder"], indirect=True)
def test_a_merge_that_is_not_finished_is_one_sentence(project: Path) -> None:
    git("checkout", "--quiet", "-b", "topic")
    for branch in ("topic", "third"):
        Path("code.py").write_text(branch)
        git("commit", "--quiet", "--all", "--message", branch)
        git("checkout", "--quiet", "-B", "third", "HEAD~1")
    Path("code.py").write_text("third")
    git("commit", "--quiet", "--all", "--message", "third")
    subprocess.run(["git", "merge", "--quiet", "topic"], capture_output=True)
    with pytest.raises(SeamlineError, match=r"^git stash create failed \(.*merge"):
        snapshot_of_workspace()
