"""A process of tests.warm is, to what runs in it, a new Python."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import warm

TELLS = """
import json, os, sys
import fsspec.config
import seamline
here = {"argv": sys.argv, "orig": sys.orig_argv[1:], "name": __name__, "file": __file__, "cwd": os.getcwd(),
        "path": [path for path in sys.path if not path.endswith(".zip")], "stdin": sys.stdin.read(),
        "terminal": [sys.stdout.isatty(), sys.stderr.isatty()], "fsspec": fsspec.config.conf.get("s3"),
        "bytecode": sys.dont_write_bytecode, "seamline": seamline.__file__, "main": sys.modules["__main__"].__file__,
        "environment": {key: value for key, value in os.environ.items() if key != "LC_CTYPE"}}
json.dump(here, sys.stdout, indent=1)
print("told", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


def script(folder: Path, name: str, text: str) -> None:
    """For `python -m stages.NAME` in a folder."""
    (folder / "stages").mkdir()
    (folder / "stages" / "__init__.py").touch()
    (folder / "stages" / f"{name}.py").write_text(text)


@pytest.mark.parametrize(("system", "forbidden"), [("Linux", ""), ("Linux", "1"), ("Darwin", "")])
def test_it_sees_what_a_new_python_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, forbidden: str
) -> None:
    """On macOS too, where it is one, and no fork of another."""
    if system == "Darwin":
        monkeypatch.setattr(platform, "system", lambda: system)
        monkeypatch.setattr(warm, "server", warm.server.__wrapped__)
    script(tmp_path, "tells", TELLS)
    (tmp_path / "seamline").mkdir()
    (tmp_path / "seamline" / "__init__.py").touch()
    (tmp_path / "more").mkdir()
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "more"), "FSSPEC_S3_ENDPOINT": "somewhere",
        "PYTHONDONTWRITEBYTECODE": forbidden,
    }  # fmt: skip
    arguments = ["-m", "stages.tells", "3", "a b"]
    cold = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    found = warm.run(["python", *arguments], tmp_path, environment)
    assert (found.returncode, found.stderr) == (cold.returncode, cold.stderr) == (3, "told\n")
    assert found.stdout == cold.stdout
    assert '"somewhere"' in found.stdout


def test_what_an_exception_leaves_is_a_traceback_and_the_status_1(tmp_path: Path) -> None:
    script(tmp_path, "fails", "import atexit\natexit.register(print, 'at the end')\n1 / 0\n")
    done = warm.run(["python", "-m", "stages.fails"], tmp_path)
    assert done.returncode == 1
    assert done.stdout == "at the end\n"
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_it_is_a_process_of_its_own_that_can_be_killed(tmp_path: Path) -> None:
    script(tmp_path, "sleeps", "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    running = warm.start(["python", "-m", "stages.sleeps"], tmp_path, os.environ, tmp_path / "out", tmp_path / "err")
    (tmp_path / "out").touch()
    while not (tmp_path / "out").read_text().endswith("\n") and running.is_alive():
        time.sleep(0.01)
    assert (tmp_path / "out").read_text() == f"{running.pid}\n"
    running.kill()
    running.join(20)
    assert running.exitcode == -9
