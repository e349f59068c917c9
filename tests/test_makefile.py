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
    begun = time.perf_counter()
    assert "pip install" not in project.run("make", "setup").stdout
    assert time.perf_counter() - begun < 2
    later = time.time() + 5
    os.utime(project.root / "requirements.txt", (later, later))
    commands = project.run("make", "--dry-run", "setup").stdout
    assert "pip install" in commands
    assert "--no-deps -r requirements.txt" in commands


# Stands in for Python, uv and what they install: notes what it is asked for, and makes .venv as venv does.
STAND_IN = """#!/bin/bash
echo "$(basename "$0") $*" >> "{root}/asked"
case "$*" in
*"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python && cp "$0" .venv/bin/dvc ;;
*sysconfig*) echo .venv ;;
esac
"""


@pytest.mark.parametrize("uv", [True, False])
def test_setup_takes_uv_where_it_is_and_begins_anew_where_the_folder_was_moved(tmp_path: Path, uv: bool) -> None:
    """Shebangs of .venv's programs and DVC's local configuration have the folder's path in them."""
    root = tmp_path / "before"
    root.mkdir()
    for path in (PROJECT / name for name in ("Makefile", "pyproject.toml", "requirements.txt", "seamline-here.pth")):
        shutil.copy(path, root)
    (root / ".git").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ["python", "uv"] if uv else ["python"]:
        path = tmp_path / "bin" / name
        path.write_text(STAND_IN.format(root=tmp_path))
        path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}

    def asked_by_setup(root: Path) -> str:
        (tmp_path / "asked").write_text("")
        command = ["make", "setup", "PYTHON=python"]
        subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
        return (tmp_path / "asked").read_text()

    installer = "uv pip" if uv else "python -m pip"
    for name in ("before", "moved to here"):
        place = root.rename(tmp_path / name)
        asked = asked_by_setup(place)
        assert "python -m venv --clear .venv" in asked
        assert re.search(rf"^{installer} install .*--no-deps -r requirements\.txt$", asked, re.MULTILINE)
        assert re.search(rf"^{installer} install .*--no-deps .*--editable \.$", asked, re.MULTILINE)
        assert f"core.site_cache_dir {place}/.dvc/tmp/site" in asked
        assert asked_by_setup(place) == ""
        root = place
    later = time.time() + 5
    os.utime(root / "requirements.txt", (later, later))
    assert "python -m venv .venv" in asked_by_setup(root)


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


def test_a_copy_of_the_project_runs_its_own_code(tmp_path: Path) -> None:
    """Queued experiments and trials run in copies below .dvc/tmp, while the checkout may change."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "which.py").write_text("import seamline.stage\nprint(seamline.stage.__file__)\n")
    shutil.copytree(PROJECT / "seamline", tmp_path / "seamline")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for folder in (tmp_path, PROJECT):
        command = [sys.executable, str(tmp_path / "stages" / "which.py")]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        assert Path(done.stdout.strip()) == folder / "seamline" / "stage.py"
