"""Names of commits and experiments mean what they mean to DVC, which is asked for params.yaml of each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import dvc.api
import pytest

from seamline.base.errors import SeamlineError
from seamline.base.git import head
from seamline.experiments.revisions import WORKSPACE, Revision, commit_of, experiments, read_at, revision


class Repository:
    """A git repository whose commits differ in the number in params.yaml of the project in it."""

    def __init__(self, root: Path, project: Path) -> None:
        self.root, self.project, self.number = root, project, 0
        project.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("config", "user.name", "test")
        self.git("config", "user.email", "test@localhost")
        (project / ".dvc").mkdir()
        (project / ".dvc" / "config").touch()
        self.commit()

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self) -> str:
        self.number += 1
        (self.project / "params.yaml").write_text(f"number: {self.number}\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", str(self.number))
        return self.git("rev-parse", "HEAD")

    def experiment(self, name: str) -> str:
        """Of HEAD, as `dvc exp run` keeps it."""
        start = self.git("rev-parse", "HEAD")
        found = self.commit()
        self.git("update-ref", f"refs/exps/{start[:2]}/{start[2:]}/{name}", found)
        self.git("reset", "--quiet", "--hard", start)
        return found


@pytest.fixture(params=["", "work/garments"], ids=["top", "subfolder"])
def repository(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    found = Repository(tmp_path / "git", tmp_path / "git" / request.param)
    monkeypatch.chdir(found.project)
    return found


def number_of(name: str) -> int:
    """As we read it, which has to be as DVC does."""
    [line] = read_at(revision(name), Path("params.yaml")).decode().splitlines()
    number = int(line.removeprefix("number: "))
    assert dvc.api.params_show(rev=name) == {"number": number}
    return number


def test_branches_tags_commits_and_experiments(repository: Repository) -> None:
    first = head()
    repository.git("tag", "--annotate", "v1", "--message", "x")
    repository.git("branch", "topic/names-with/slashes")
    repository.experiment("quick-lynx")
    repository.git("update-ref", "refs/exps/stash", first)
    repository.git("update-ref", "refs/exps/celery/stash", first)
    repository.git("update-ref", "refs/exps/exec/EXEC_HEAD", first)
    repository.commit()
    names = ("main", "HEAD", "HEAD~1", first, first[:7], "v1", "topic/names-with/slashes", "quick-lynx")
    assert [number_of(name) for name in names] == [3, 3, 1, 1, 1, 1, 1, 2]
    assert sorted(experiments()) == ["quick-lynx"]
    repository.git("checkout", "--quiet", "--detach", first)
    assert [number_of(name) for name in ("HEAD", "main", "quick-lynx")] == [1, 3, 2]


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_git_s_name_comes_before_an_experiments(repository: Repository, kind: str) -> None:
    repository.experiment("same")
    repository.git(kind, "same")
    assert number_of("same") == 1


def test_the_beginning_of_a_commit_comes_before_an_experiment(repository: Repository) -> None:
    repository.experiment(head()[:7])
    assert number_of(head()[:7]) == 1


def test_an_experiment_may_be_called_as_a_file_or_a_parameter_is(repository: Repository) -> None:
    repository.experiment("params.yaml")
    repository.experiment("number")
    assert [number_of("params.yaml"), number_of("number")] == [2, 3]


def test_of_experiments_of_one_name_heads_is_meant_and_none_where_head_has_none(repository: Repository) -> None:
    first = head()
    one = repository.experiment("same")
    repository.commit()
    other = repository.experiment("same")
    assert number_of("same") == 4
    repository.git("checkout", "--quiet", first)
    assert number_of("same") == 2
    repository.git("checkout", "--quiet", "main")
    repository.commit()
    shown = ", ".join(commit[:10] for commit in sorted([one, other]))
    with pytest.raises(
        SeamlineError, match=rf"^same: is the name of 2 experiments, none started from HEAD; write {shown}\."
    ):
        commit_of("same")
    assert number_of(other[:10]) == 4


def test_an_experiment_outlives_the_commit_it_started_from(repository: Repository) -> None:
    repository.commit()
    repository.experiment("orphan")
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")
    assert number_of("orphan") == 3


def test_a_branch_of_a_remote_is_found_and_one_of_two_remotes_is_ambiguous(repository: Repository) -> None:
    for remote in ("one", "two"):
        repository.git("remote", "add", remote, "/nowhere")
    repository.git("update-ref", "refs/remotes/one/topic", head())
    assert number_of("topic") == 1
    repository.git("update-ref", "refs/remotes/two/topic", repository.commit())
    with pytest.raises(SeamlineError, match=r"^topic: is ambiguous"):
        commit_of("topic")


NO_REVISIONS = (
    "", " ", "nowhere", "HEAD~99", "main..topic", "^main", "main:params.yaml", "main^{tree}", "../x", "x\0y",
    "x" * 5000, "--upload-pack=x", "--help", "refs/exps/quick-lynx", "refs/exps/ab/cd/ef/gh", "\udcff", "stash@{0}",
    "WORKSPACE",
)  # fmt: skip


def test_what_is_not_a_revision_is_one_sentence(repository: Repository) -> None:
    repository.experiment("quick-lynx")
    for name in NO_REVISIONS:
        with pytest.raises(SeamlineError) as error:
            commit_of(name)
        assert str(error.value) == (
            f"{name}: is not a commit, branch, tag or experiment of this project, nor 'workspace'; "
            "experiments: quick-lynx."
        )


def test_the_workspace_is_what_lies_here_and_a_commit_what_it_was_when_it_was_named(repository: Repository) -> None:
    named = revision("main")
    repository.commit()
    (repository.project / "params.yaml").write_text("changed: 1\n")
    assert read_at(Revision(WORKSPACE, None), Path("params.yaml")) == b"changed: 1\n"
    assert revision(WORKSPACE) == (WORKSPACE, None)
    assert read_at(named, Path("params.yaml")) == b"number: 1\n"
    with pytest.raises(SeamlineError, match=r"^main: has no reports/none\.json; dvc repro makes it"):
        read_at(named, Path("reports/none.json"))
    with pytest.raises(SeamlineError, match=r"^workspace: has no reports/none\.json; dvc repro makes it"):
        read_at(revision(WORKSPACE), Path("reports/none.json"))


def test_clones_without_history_and_worktrees(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit()
    below = repository.project.relative_to(repository.root)
    clone, tree = repository.root.parent / "clone", repository.root.parent / "tree"
    repository.git("clone", "--quiet", "--depth", "1", f"file://{repository.root}", str(clone))
    monkeypatch.chdir(clone / below)
    assert [number_of("main"), number_of("HEAD")] == [2, 2]
    with pytest.raises(SeamlineError, match=r"^HEAD~1: is not a commit"):
        commit_of("HEAD~1")
    repository.experiment("quick-lynx")
    repository.git("worktree", "add", "--quiet", "-b", "other", str(tree), "HEAD~1")
    monkeypatch.chdir(tree / below)
    assert [number_of("HEAD"), number_of("main"), number_of("quick-lynx")] == [1, 2, 3]


@pytest.mark.parametrize("ask", [experiments, head, lambda: commit_of("main")])
def test_without_git_or_a_commit_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SeamlineError, match=r"^this folder is not in a git repository \(.*\), and DVC needs one: git init"
    ):
        ask()
    subprocess.run(["git", "init", "--quiet"], check=True)
    with pytest.raises(SeamlineError, match=r"^this git repository has no commit yet; git add --all && git commit"):
        ask()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SeamlineError, match=r"^git cannot be run \(No such file or directory\)"):
        ask()
