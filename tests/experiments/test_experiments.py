"""What the pages say of DVC's own experiments, in a subfolder of a git repository, a worktree, clones."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import DVC_CONFIG, Project

STAGES = "stages:\n  try: {cmd: cp params.yaml out, params: [number], outs: [out: {cache: false}]}\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A pipeline that takes no time, in a subfolder of a git repository."""
    root = tmp_path / "git" / "work" / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text(DVC_CONFIG)
    (root / ".dvc" / ".gitignore").write_text("/tmp\n/cache\n/config.local\n")
    (root / "dvc.yaml").write_text(STAGES)
    (root / "params.yaml").write_text("number: 1\n")
    found = Project(root)
    found.run("git", "init", "--quiet", "--initial-branch", "main", str(tmp_path / "git"))
    identify(found)
    found.run("dvc", "repro")
    found.commit("one")
    found.commit("two")
    return found


def identify(project: Project) -> None:
    project.run("git", "config", "user.name", "test")
    project.run("git", "config", "user.email", "test@localhost")


def names(project: Project) -> list[str]:
    listed = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout
    return sorted(ref.rpartition("/")[2] for ref in listed.split() if re.match(r"refs/exps/\w\w/\w{38}/", ref))


def run_all(project: Project) -> list[str]:
    """An experiment of each kind; the names of those that are there afterwards."""
    project.run("dvc", "exp", "run", "--name", "here", "-S", "number=2")
    project.run("git", "checkout", "--quiet", ".")
    project.run("dvc", "exp", "run", "--temp", "--name", "copy", "-S", "number=3")
    project.run("dvc", "exp", "run", "--queue", "--name", "later", "-S", "number=4")
    project.run("dvc", "queue", "start", cold=True)
    deadline = time.monotonic() + 300
    while "Success" not in project.run("dvc", "queue", "status").stdout and time.monotonic() < deadline:
        time.sleep(0.5)
    project.run("dvc", "queue", "stop", "--kill", check=False)
    assert project.run("git", "status", "--porcelain").stdout == ""
    assert project.run("git", "symbolic-ref", "--short", "HEAD").returncode == 0
    return names(project)


@pytest.mark.thorough
def test_in_a_subfolder_and_a_worktree_every_experiment_is_kept(project: Project, tmp_path: Path) -> None:
    assert run_all(project) == ["copy", "here", "later"]
    project.run("git", "worktree", "add", "--quiet", "-b", "other", str(tmp_path / "tree"), "HEAD~1")
    tree = Project(tmp_path / "tree" / "work" / "project")
    assert run_all(tree) == sorted(["copy", "here", "later"] * 2)  # of another commit


@pytest.mark.thorough
def test_without_history_dvc_loses_those_of_copies_as_the_doctor_says(project: Project, tmp_path: Path) -> None:
    """Where this fails DVC has been mended, and the doctor's note and the page's sentence can go."""
    url = f"file://{tmp_path / 'git'}"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", url, str(tmp_path / "clone")], check=True)
    clone = Project(tmp_path / "clone" / "work" / "project")
    identify(clone)
    assert run_all(clone) == ["here"]


@pytest.mark.thorough
def test_the_benchmark_runs_in_a_fresh_clone(finished: Project, tmp_path: Path) -> None:
    """With models and data from a remote."""
    first = finished.copy(tmp_path / "first")
    first.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    first.commit("a remote")
    first.run("dvc", "push")
    subprocess.run(["git", "clone", "--quiet", str(first.root), str(tmp_path / "clone")], check=True)
    clone = Project(tmp_path / "clone", first.environment)
    benchmark = (clone.root / "reports" / "benchmark.json").read_text()
    assert clone.stages_run("--single-item", "--pull", "benchmark") == []
    assert sorted(path.name for path in (clone.root / "data").iterdir()) == ["split", "subset"]
    assert sorted(path.name for path in (clone.root / "models").iterdir()) == ["export", "train"]
    for name in ("data", "models", ".dvc/cache"):
        subprocess.run(["rm", "-r", str(clone.root / name)], check=True)
    assert clone.stages_run("--single-item", "--force", "--pull", "benchmark") == ["benchmark"]
    assert (clone.root / "reports" / "benchmark.json").read_text() != benchmark
