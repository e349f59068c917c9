from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import PROJECT, Project


def test_setup_does_nothing_twice_and_installs_again_when_the_pins_change(project: Project) -> None:
    done = project.root / ".venv" / ".done"
    done.parent.mkdir()
    done.touch()
    begun = time.perf_counter()
    assert "pip install" not in project.run("make", "setup").stdout
    assert time.perf_counter() - begun < 2
    later = time.time() + 5
    os.utime(project.root / "requirements.txt", (later, later))
    commands = project.run("make", "--dry-run", "setup").stdout
    assert "pip install" in commands
    assert "--no-deps -r requirements.txt" in commands


def test_every_pin_is_exact_and_what_is_left_out_stays_out(project: Project) -> None:
    lines = (project.root / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in line for line in pins)
    names = {normalised(line) for line in pins}
    direct = [line.split("#")[0] for line in (project.root / "requirements.in").read_text().splitlines()]
    assert {normalised(line) for line in direct if line.strip()} <= names
    left_out = [line.split("#")[0].strip() for line in (project.root / "requirements.exclude").read_text().splitlines()]
    assert names.isdisjoint(normalised(line) for line in left_out if line)


def normalised(requirement: str) -> str:
    """A requirement's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", re.split(r"==|\[", requirement)[0].strip().lower())


# Which files the parts of a stage come from: itself, a process that it starts, and one of a GPU's as ultralytics starts
# it, which unpickles what the stage pickled after it has taken over the stage's sys.path.
WHICH = """
import pickle, subprocess, sys
import seamline.errors, seamline.parallel, seamline.stage

def where(_):
    return seamline.stage.__file__

if __name__ == "__main__":
    print(__file__)
    print(where(0))
    print(next(seamline.parallel.in_processes(where, [0], 2)))
    code = f"import sys, pickle; sys.path = {sys.path!r}; pickle.loads({pickle.dumps(seamline.errors.SeamlineError)!r})"
    code += "; print(sys.modules['seamline.errors'].__file__)"
    print(subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True).stdout.strip())
"""


def test_setup_copies_what_dvc_is_told_and_takes_what_was_there_before_away(project: Project) -> None:
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
    assert files == ["stages/which.py", "seamline/stage.py", "seamline/stage.py", "seamline/errors.py"]
