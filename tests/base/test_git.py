from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from seamline.base.errors import SeamlineError
from seamline.base.git import NO_COMMIT, NO_GIT, git, git_bytes, git_or_empty, head


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main"], check=True)
    (tmp_path / "café.bin").write_bytes(b"\xff\x00")
    for command in (["add", "--all"], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "-m", "x"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_text_bytes_and_the_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git("ls-files", "-z") == "café.bin\0"
    assert git_bytes("show", "HEAD:./café.bin") == b"\xff\x00"
    assert len(head()) == 40
    monkeypatch.chdir("/")
    assert git("rev-parse", "--abbrev-ref", "HEAD", folder=repository) == "main\n"


def test_what_fails_is_one_sentence_in_english(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    with pytest.raises(SeamlineError, match=r"^git show nowhere failed \(fatal: ambiguous argument 'nowhere'.*\)\.$"):
        git("show", "nowhere")
    assert git_or_empty("show", "nowhere") == ""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SeamlineError, match=r"^git cannot be run \(No such file or directory\)\.$"):
        git("status")
    assert git_or_empty("status") == ""


def test_reading_does_not_write_into_the_repository(repository: Path) -> None:
    """`git status` and `git diff` rewrite the index when a file's time is not the one git knows."""
    index = repository / ".git" / "index"
    before = index.read_bytes()
    os.utime(repository / "café.bin", (1, 1))
    git("status")
    assert index.read_bytes() == before
    subprocess.run(["git", "status"], check=True, capture_output=True)
    assert index.read_bytes() != before


def test_git_is_asked_in_english_without_questions_whatever_the_user_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "git").write_text('#!/bin/sh\necho "$LC_ALL $GIT_TERMINAL_PROMPT $GIT_OPTIONAL_LOCKS $MINE"\n')
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name, value in {"LC_ALL": "de_DE.UTF-8", "GIT_TERMINAL_PROMPT": "1", "GIT_OPTIONAL_LOCKS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MINE", "stays")
    assert git("status") == "C 0 0 stays\n"


def test_a_git_that_may_not_be_executed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\n")
    (tmp_path / "git").chmod(0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SeamlineError, match=r"^git cannot be run \(Permission denied\)\.$"):
        git("status")


def test_without_a_repository_or_a_commit_there_is_no_current_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeamlineError) as error:
        head()
    assert str(error.value) == f"{NO_GIT}."
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main"], check=True)
    with pytest.raises(SeamlineError) as error:
        head()
    assert str(error.value) == NO_COMMIT


def test_a_branch_whose_commit_is_lost_has_no_current_commit(repository: Path) -> None:
    (repository / ".git" / "refs" / "heads" / "main").write_text(f"{'1' * 40}\n")
    with pytest.raises(SeamlineError, match="has no commit yet"):
        head()
