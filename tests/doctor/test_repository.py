"""The doctor's checks of git and DVC, each on a small project that is well and on one that is not."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from seamline.doctor import repository
from seamline.doctor.locks import name_of
from seamline.doctor.repository import first_that_works
from tests.conftest import PROJECT, WORKSPACE

PIPELINE = {"stages": {"pull": {"cmd": "true", "outs": ["data/raw"]}}}
LOCK = {
    "schema": "2.0",
    "stages": {"pull": {"cmd": "true", "outs": [{"path": "data/raw", "hash": "md5", "md5": "0" * 32}]}},
}


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a few files, in which everything is well; the folder is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / ".dvc" / "config").write_text('[cache]\n    type = "hardlink,symlink"\n')
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(LOCK))
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "pull.py").touch()
    (tmp_path / ".gitignore").write_text("/data/\n/photos/\n/.dvc/tmp/\n")
    git("init", "--quiet", "--initial-branch", "main")
    git("add", "--all")
    git("commit", "--quiet", "--message", "start")
    return tmp_path


@pytest.fixture
def no_git(small: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (small / ".git").rename(small / "not.git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(small.parent))
    return small


# git


def test_a_repository_is_well(small: Path) -> None:
    assert repository.check_git() == ("ok", "git", "branch main", "")


def test_no_repository_fails_unless_dvc_is_set_to_work_without(no_git: Path) -> None:
    assert repository.check_git().level == "FAIL"
    (no_git / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    assert repository.check_git().level == "ok"


def test_no_git_fails(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(small))
    assert repository.check_git().found == "is not installed, and DVC needs it"
    assert repository.check_untracked(None).level == "note"


def test_a_merge_that_conflicts_fails_and_names_the_file(small: Path) -> None:
    git("switch", "--quiet", "--create", "other")
    (small / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    git("commit", "--quiet", "--all", "--message", "other")
    git("switch", "--quiet", "main")
    (small / "dvc.lock").write_text("schema: '2.0'\n")
    git("commit", "--quiet", "--all", "--message", "main")
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "other")
    assert repository.check_git().found == "a merge left conflicts in dvc.lock"
    found = repository.check_dvc_lock()
    assert (found.level, found.found) == ("FAIL", "contains the marks of a merge conflict")


def test_a_clone_without_its_history_is_a_note(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("commit", "--quiet", "--allow-empty", "--message", "more")
    clone = small.parent / "clone"
    git("clone", "--quiet", "--depth", "1", f"file://{small}", str(clone))
    monkeypatch.chdir(clone)
    assert repository.check_git().level == "note"
    git("fetch", "--quiet", "--unshallow")
    assert repository.check_git().level == "ok"


def test_in_a_subfolder_of_a_git_repository_it_is_looked_at_as_well(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conflicts anywhere stop DVC; a source beside the project that git has is in every copy."""
    (small / "pictures").mkdir()
    (small / "pictures" / "a.jpg").touch()
    (small / "beside.txt").touch()
    git("add", "--all")
    git("commit", "--quiet", "--message", "pictures")
    (small / "project").mkdir()
    (small / "others").mkdir()
    monkeypatch.chdir(small / "project")
    assert not repository.is_missed("../pictures")
    assert repository.is_missed("../others")
    assert repository.check_git() == ("ok", "git", "branch main", "")
    git("switch", "--quiet", "--create", "other")
    (small / "beside.txt").write_text("theirs")
    git("commit", "--quiet", "--all", "--message", "other")
    git("switch", "--quiet", "main")
    (small / "beside.txt").write_text("ours")
    git("commit", "--quiet", "--all", "--message", "main")
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "other")
    assert repository.check_git().found == "a merge left conflicts in ../beside.txt"


def test_no_branch_and_a_git_that_was_killed_are_notes(small: Path) -> None:
    git("checkout", "--quiet", "--detach")
    found = repository.check_git()
    assert (found.level, found.remedy) == ("note", "`git switch main`, or your branch")
    with subprocess.Popen(["sleep", "60"], executable=shutil.which("sleep")) as other:
        write_rwlock(small / ".dvc" / "tmp" / "rwlock", other.pid)
        assert repository.check_git().level == "note"
        other.kill()
    with subprocess.Popen(["dvc", "60"], executable=shutil.which("sleep")) as dvc:
        write_rwlock(small / ".dvc" / "tmp" / "rwlock", dvc.pid)
        assert repository.check_git().level == "ok"  # an experiment is running
        dvc.kill()
    (small / ".git" / "index.lock").touch()
    assert repository.check_git().remedy == "when no git command is running: `rm .git/index.lock`"


# What DVC reads


def test_dvc_files_are_well(small: Path) -> None:
    assert repository.check_dvc_yaml().level == "ok"
    assert repository.check_dvc_lock() == ("ok", "dvc.lock", "1 stages", "")


def test_dvc_files_of_the_project_are_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (PROJECT / "dvc.yaml", WORKSPACE / "dvc.lock"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert repository.check_dvc_yaml().level == "ok"
    assert repository.check_dvc_lock().level == "ok"


@pytest.mark.parametrize("text", ["stages: 3\n", "stages: {pull: {}}\n", "stages: [\n", "\tstages"])
def test_a_dvc_yaml_that_dvc_cannot_read_fails(small: Path, text: str) -> None:
    (small / "dvc.yaml").write_text(text)
    assert repository.check_dvc_yaml().level == "FAIL"
    (small / "dvc.yaml").unlink()
    assert repository.check_dvc_yaml().found == "is not in this folder"


def test_a_dvc_lock_cut_off_anywhere_is_noticed(small: Path) -> None:
    text = (small / "dvc.lock").read_text()
    hash_starts = text.index("md5: '0")
    for length in range(hash_starts):
        (small / "dvc.lock").write_text(text[:length])
        found = repository.check_dvc_lock()
        assert found.level in ("FAIL", "note") or text[:length].rstrip().endswith("'2.0'"), text[:length]
        assert "git checkout dvc.lock" in found.remedy or found.found == "0 stages"


def test_a_dvc_lock_that_is_missing_is_a_note_where_git_has_it(small: Path) -> None:
    (small / "dvc.lock").unlink()
    assert repository.check_dvc_lock().level == "note"
    git("rm", "--quiet", "--cached", "dvc.lock")
    assert repository.check_dvc_lock() == ("ok", "dvc.lock", "does not exist yet: every stage will run", "")


@pytest.mark.parametrize("text", ["", "3", "stages: 3", "stages: {pull: 3}", "a: [", "\0"])
def test_stages_of_a_broken_dvc_lock_are_none(small: Path, text: str) -> None:
    assert list(repository.locked_stages()) == ["pull"]
    (small / "dvc.lock").write_text(text)
    assert repository.locked_stages() == {}


# Locks


def write_rwlock(path: Path, process: int) -> None:
    path.parent.mkdir(exist_ok=True)
    info = {"pid": process, "cmd": "repro"}
    path.write_text(json.dumps({"write": {"/a": info}, "read": {"/b": [info]}}))


@pytest.mark.parametrize("name", ["rwlock", "exps/rwlock"])
def test_what_dead_processes_left_is_in_nobodys_way(small: Path, name: str) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    write_rwlock(small / ".dvc" / "tmp" / name, ended.pid)
    (small / ".dvc" / "tmp" / "lock").write_text(f" {ended.pid}\n")
    assert repository.check_rwlock().level == "ok"
    assert repository.check_locks().level == "ok"


@pytest.mark.parametrize("name", ["rwlock", "exps/rwlock"])
def test_a_process_number_that_another_program_has_now_is_not_a_running_dvc(small: Path, name: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        while name_of(other.pid) != "sleep":
            time.sleep(0.01)
        write_rwlock(small / ".dvc" / "tmp" / name, other.pid)
        found = repository.check_rwlock()
        other.kill()
    assert (found.level, found.remedy) == ("FAIL", f"`rm .dvc/tmp/{name}`")
    assert f"names process {other.pid}, which is sleep now" in found.found

    command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)", "dvc", "repro"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as dvc:
        assert dvc.stdout is not None
        dvc.stdout.readline()
        write_rwlock(small / ".dvc" / "tmp" / name, dvc.pid)
        found = repository.check_rwlock()
        dvc.kill()
    assert (found.level, found.remedy) == ("FAIL", f"let it end, or `kill {dvc.pid}`")


@pytest.mark.parametrize("text", ["", '{"write": {"/a', '{"write": 3}', '{"write": {"/a": {"pid": "x"}}}', "[]"])
def test_an_rwlock_that_dvc_refuses_fails(small: Path, text: str) -> None:
    (small / ".dvc" / "tmp" / "rwlock").write_text(text)
    found = repository.check_rwlock()
    assert (found.level, found.remedy) == ("FAIL", "`rm .dvc/tmp/rwlock`")


@pytest.mark.parametrize("name", [".dvc/tmp/lock", ".dvc/tmp/rwlock.lock", ".seamline/pull/0123/lock"])
def test_a_lock_that_is_held_fails_and_names_who_holds_it(small: Path, name: str) -> None:
    path = small / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        found = repository.check_locks()
        assert found.level == "FAIL"
        assert found.found.startswith(f"{name} is held by process {os.getpid()}, ")
    assert repository.check_locks().level == "ok"


# Links


def test_links_are_tried_out_and_nothing_is_left(small: Path) -> None:
    before = sorted(small.rglob("*"))
    assert repository.check_links() == ("ok", "links", "hardlinks between DVC's cache and data/", "")
    assert {"hardlink", "symlink"} <= set(repository.working_links(small))
    assert sorted(small.rglob("*")) == before


def test_copies_are_a_note_that_says_how_to_link(small: Path) -> None:
    (small / ".dvc" / "config").write_text("[cache]\n    type = copy\n")
    found = repository.check_links()
    assert (found.level, found.remedy) == ("note", "`.venv/bin/dvc config cache.type hardlink,symlink`")


def test_links_that_do_not_work_are_a_note(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "working_links", lambda folder: [])
    found = repository.check_links()
    assert found.level == "note"
    assert "on one disk" in found.remedy


def test_a_configuration_that_dvc_cannot_read_fails(small: Path) -> None:
    (small / ".dvc" / "config").write_text("[cache]\n    type = nonsense\n")
    assert repository.check_links().level == "FAIL"
    (small / ".dvc" / "config").unlink()
    assert repository.check_links().remedy == "`git checkout .dvc`"


@pytest.mark.parametrize(
    ("kinds", "one_disk", "working", "expected"),
    [
        (["hardlink", "symlink"], True, ["hardlink", "symlink"], "hardlink"),
        (["hardlink", "symlink"], False, ["hardlink", "symlink"], "symlink"),
        (["reflink", "hardlink"], True, ["hardlink"], "hardlink"),
        (["reflink", "hardlink"], False, ["reflink", "hardlink"], "copy"),
        (["copy", "hardlink"], True, ["hardlink"], "copy"),
        (["reflink", "copy"], True, ["hardlink", "symlink"], "copy"),
    ],
)
def test_the_first_link_that_works_is_taken(
    kinds: list[str], one_disk: bool, working: list[str], expected: str
) -> None:
    assert first_that_works(kinds, one_disk, working) == expected


# Queued experiments


def test_all_that_experiments_need_is_in_git(small: Path) -> None:
    (small / "stages" / "__pycache__").mkdir()
    (small / "notes.txt").touch()  # nobody runs it
    assert repository.check_untracked("s3://bucket/photos").level == "ok"
    assert repository.check_untracked("stages").level == "ok"


def test_files_that_experiments_would_miss_are_a_note_whose_remedy_mends_it(small: Path) -> None:
    (small / "stages" / "my stage.py").touch()
    found = repository.check_untracked(None)
    assert found.level == "note"
    assert found.found.endswith("stages/my stage.py")
    assert found.remedy == "`git add 'stages/my stage.py'`"
    subprocess.run(found.remedy.strip("`"), shell=True, check=True)
    assert repository.check_untracked(None).level == "ok"
    for number in range(5):
        (small / "stages" / f"{number}.py").touch()
    assert repository.check_untracked(None).remedy == "`git add stages`"


def test_a_source_that_experiments_would_miss_is_a_note(small: Path) -> None:
    (small / "photos").mkdir()
    (small / "photos" / "1.jpg").touch()
    found = repository.check_untracked("photos")
    assert (found.level, found.remedy) == ("note", f"`pull.source: {small / 'photos'}`, which copies find as well")
    assert repository.check_untracked(str(small / "photos")).level == "ok"
    assert repository.check_untracked("not there").level == "ok"
    (small.parent / "beside").mkdir()
    assert (
        repository.check_untracked("../beside").remedy
        == f"`pull.source: {small.parent / 'beside'}`, which copies find as well"
    )
    (small / "photos.dvc").touch()
    assert repository.check_untracked("photos").level == "ok"


def test_without_git_it_is_skipped(no_git: Path) -> None:
    assert repository.check_untracked("photos").found == "not checked, since there is no git repository here"
