from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Project


def test_setup_does_nothing_twice_and_installs_again_when_the_pins_change(project: Project) -> None:
    done = project.root / ".venv" / ".done"
    done.parent.mkdir()
    done.write_text(f"{project.root}\n")
    (done.parent / "bin").mkdir()
    (done.parent / "bin" / "python").symlink_to(sys.executable)
    (said,) = project.run("make", "--no-print-directory", "--dry-run", "setup").stdout.splitlines()
    assert said.endswith(": Nothing to be done for 'setup'.")  # make[1], where make runs the tests
    assert "pip install" not in project.run("make", "setup").stdout
    later = time.time() + 5
    os.utime(project.root / "requirements.txt", (later, later))
    commands = project.run("make", "--dry-run", "setup").stdout
    assert "pip install" in commands
    assert "--no-deps -r requirements.txt" in commands


# Stands in for Python, uv and what they install: notes what it is asked for, and makes .venv as venv and pip do.
STAND_IN = """#!/bin/bash
echo "$(basename "$0") $*" >> "{root}/asked"
case "$*" in
*"-m venv"*) mkdir -p .venv/bin && rm -f .venv/bin/python && cp "$0" .venv/bin/python && cp "$0" .venv/bin/dvc ;;
*"config list"*) cat "{root}/pip settings" ;;
*" uv=="*) cp "$0" .venv/bin/uv ;;
*sysconfig*) echo .venv ;;
*"version_info[:3]"*) [[ "$0" == .venv/* ]] || cat "{root}/another version" 2> /dev/null ;;
esac
[ "$(basename "$0")" != uv ] || [ ! -e "{root}/no way out" ]
"""


class SetUp:
    """What the Makefile asks of Python, uv and DVC, in a folder in which these are stand-ins."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path, self.root = tmp_path, tmp_path / "project"
        (self.root / ".dvc").mkdir(parents=True)
        for name in ("Makefile", "pyproject.toml", "requirements.txt"):
            shutil.copy(PROJECT / name, self.root)
        shutil.copytree(PROJECT / "dvc_hint", self.root / "dvc_hint")
        (tmp_path / "pip settings").write_text("global.extra-index-url='https://more.example'\n")
        self.program("python")

    def program(self, name: str) -> None:
        path = self.tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(STAND_IN.format(root=self.tmp_path))
        path.chmod(0o755)

    def run(self) -> list[str]:
        (self.tmp_path / "asked").write_text("")
        environment = {**os.environ, "PATH": f"{self.tmp_path / 'bin'}:/usr/bin:/bin"}
        command = ["make", "setup", "PYTHON=python"]
        subprocess.run(command, cwd=self.root, env=environment, check=True, capture_output=True)
        asked = (self.tmp_path / "asked").read_text().splitlines()
        return [line for line in asked if "version_info[:3]" not in line]

    def installs(self) -> list[str]:
        """Who installs what, in this order."""
        pattern = r"(uv|python -m) pip install (?:.* )?(uv==|-r requirements\.txt|--editable \.)"
        return [f"{found[1]} {found[2]}" for line in self.run() if (found := re.match(pattern, line))]


WHOLE = ["-r requirements.txt", "--editable ."]
WITH_UV = [f"uv {what}" for what in WHOLE]
WITH_PIP = [f"python -m {what}" for what in WHOLE]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ("uv", WITH_UV),
        ("no uv", ["python -m uv==", *WITH_UV]),
        ("an index in pip's settings", WITH_PIP),
        ("an index in pip's settings, and uv", WITH_UV),
        ("an index that uv does not reach", ["python -m uv==", WITH_UV[0], WITH_PIP[0], WITH_UV[1], WITH_PIP[1]]),
    ],
)
def test_uv_installs_unless_pip_alone_knows_from_where(tmp_path: Path, there: str, expected: list[str]) -> None:
    setup = SetUp(tmp_path)
    if there.endswith("uv") and there != "no uv":
        setup.program("uv")
    if "pip's settings" in there:
        (tmp_path / "pip settings").write_text("global.index-url='https://ours.example'\n")
    if "does not reach" in there:
        (tmp_path / "no way out").touch()
    assert setup.installs() == expected
    assert setup.run() == []


def test_setup_begins_anew_where_the_folder_was_moved_or_renamed(tmp_path: Path) -> None:
    """Shebangs of .venv's programs and DVC's local configuration have the folder's path in them."""
    setup = SetUp(tmp_path)
    for name in ("project", "moved to here"):
        setup.root = setup.root.rename(tmp_path / name)
        asked = setup.run()
        assert "python -m venv --clear .venv" in asked
        assert f"dvc config --local core.site_cache_dir {setup.root}/.dvc/tmp/site" in asked
        assert setup.run() == []
    later = time.time() + 5
    os.utime(setup.root / "requirements.txt", (later, later))
    assert "python -m venv .venv" in setup.run()


def test_setup_begins_anew_where_the_python_is_gone_or_another_one_is_asked_for(tmp_path: Path) -> None:
    setup = SetUp(tmp_path)
    setup.run()
    assert setup.run() == []
    (setup.root / ".venv" / "bin" / "python").unlink()
    (setup.root / ".venv" / "bin" / "python").symlink_to("python9.9")  # of a system that was upgraded
    assert "python -m venv --clear .venv" in setup.run()
    assert setup.run() == []
    (tmp_path / "another version").write_text("3 14 1\n")
    assert "python -m venv --clear .venv" in setup.run()


def test_every_pin_is_exact_and_what_is_left_out_stays_out(project: Project) -> None:
    lines = (project.root / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in line for line in pins)
    names = {normalised(line) for line in pins}
    declared = tomllib.loads((project.root / "pyproject.toml").read_text())
    extras = declared["project"]["optional-dependencies"]
    direct = [*declared["project"]["dependencies"], *declared["dependency-groups"]["dev"]]
    direct += [requirement for extra in extras.values() for requirement in extra]
    assert {normalised(line) for line in direct} - {"seamline"} <= names
    left_out = [line.split("#")[0].strip() for line in (project.root / "requirements.exclude").read_text().splitlines()]
    assert names.isdisjoint(normalised(line) for line in left_out if line)


def normalised(requirement: str) -> str:
    """A requirement's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>]=|\[", requirement)[0].strip().lower())


# Which files the parts of a stage come from: itself, a process that it starts, and one of a GPU's as ultralytics starts
# it, which unpickles what the stage pickled after it has taken over the stage's sys.path.
WHICH = """
import pickle, subprocess, sys
import seamline.base.errors, seamline.base.parallel, seamline.base.process

def where(_):
    return seamline.base.process.__file__

if __name__ == "__main__":
    print(__file__)
    print(where(0))
    print(next(seamline.base.parallel.in_processes(where, [0], 2)))
    pickled = pickle.dumps(seamline.base.errors.SeamlineError)
    code = f"import sys, pickle; sys.path = {sys.path!r}; pickle.loads({pickled!r})"
    code += "; print(sys.modules['seamline.base.errors'].__file__)"
    print(subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True).stdout.strip())
"""


def test_setup_copies_the_hint_for_dvc_and_removes_what_was_there_before(project: Project) -> None:
    commands = project.run("make", "--dry-run", "setup").stdout
    assert re.search(r'cp dvc_hint/seamline_dvc_hint\.py dvc_hint/seamline_dvc_hint\.pth "\$packages"', commands)
    assert 'rm -f "$packages/seamline-here.pth"' in commands


def test_a_copy_of_the_project_runs_its_own_code(tmp_path: Path) -> None:
    """Queued experiments and trials run in copies below .dvc/tmp, while the checkout may change."""
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "copy"
    (copy / "stages").mkdir(parents=True)
    (copy / "stages" / "__init__.py").touch()
    (copy / "stages" / "which.py").write_text(WHICH)
    shutil.copytree(PROJECT / "seamline", copy / "seamline")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", "stages.which"]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=True)
    files = [Path(line).relative_to(copy).as_posix() for line in done.stdout.splitlines()]
    assert files == [
        "stages/which.py",
        "seamline/base/process.py",
        "seamline/base/process.py",
        "seamline/base/errors.py",
    ]
