from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from seamline.base.errors import SeamlineError
from seamline.base.git import git, git_bytes, git_or_empty, head


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
