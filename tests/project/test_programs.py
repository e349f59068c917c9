"""Tests that need a program are skipped without it, but where all of them are said to be there: .ci/run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.programs import PACKAGES, found, needs_program, program

RUN = (PROJECT / ".ci" / "run").read_text()


@pytest.mark.parametrize("name", PACKAGES)
def test_a_test_without_its_program_is_skipped_unless_all_are_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SEAMLINE_ALL_TOOLS", raising=False)
    skips = needs_program(name).mark
    assert skips.args == (True,)
    assert PACKAGES[name] in skips.kwargs["reason"]
    monkeypatch.setenv("SEAMLINE_ALL_TOOLS", "1")
    assert needs_program(name).mark.args == (False,)
    with pytest.raises(AssertionError, match=name):
        program(name)
    (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / name).chmod(0o755)
    monkeypatch.delenv("SEAMLINE_ALL_TOOLS")
    assert needs_program(name).mark.args == (False,)
    assert program(name) == found(name) == str(tmp_path / name)


def fake(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def ci_run(tmp_path: Path, apt_get: str) -> str:
    """What .ci/run says with stand-ins for apt-get and make, as root on Debian, where no program is installed."""
    (tmp_path / "bin").mkdir()
    (tmp_path / ".ci").mkdir()
    script = RUN.replace("/etc/debian_version", str(tmp_path))
    (tmp_path / ".ci" / "run").write_text(script)
    for name in ("bash", "dirname", "timeout", "chmod", "sleep"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    fake(tmp_path / "bin", "id", "echo 0")
    fake(tmp_path / "bin", "make", 'echo "make $* with ${SEAMLINE_ALL_TOOLS:-nothing}"')
    fake(tmp_path / "bin", "apt-get", apt_get)
    environment = {"PATH": str(tmp_path / "bin"), "BIN": str(tmp_path / "bin")}
    done = subprocess.run(
        ["bash", ".ci/run"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.name != "posix" or not shutil.which("timeout"), reason="needs coreutils' timeout")
def test_ci_installs_them_and_then_none_may_be_missing(tmp_path: Path) -> None:
    installs = (
        'case "$*" in *install*) for name in prometheus promtool wrk chromium; do '
        'printf "#!/bin/sh\\n" > "$BIN/$name"; chmod +x "$BIN/$name"; done;; esac'
    )
    said = ci_run(tmp_path, installs)
    assert re.findall("make .*", said) == [
        f"make {target} with 1" for target in ("lint", "test", "check-results", "test-thorough")
    ]


@pytest.mark.skipif(os.name != "posix" or not shutil.which("timeout"), reason="needs coreutils' timeout")
def test_ci_goes_without_them_where_there_is_no_network(tmp_path: Path) -> None:
    said = ci_run(tmp_path, "echo 'Could not resolve' >&2; exit 100")
    assert "cannot be installed: prometheus wrk" in said
    assert "are skipped" in said
    assert re.findall("make .*", said)[0] == "make lint with nothing"


def test_ci_looks_for_what_tests_need_and_installs_it() -> None:
    for name, package in PACKAGES.items():
        assert f"command -v {name}" in RUN
        assert re.search(rf"for packages in .*\b{package}\b", RUN)


def test_no_test_looks_for_a_program_in_another_way() -> None:
    for path in sorted((PROJECT / "tests").rglob("*.py")):
        text = path.read_text()
        for name in PACKAGES:
            assert path.name == "programs.py" or f'which("{name}' not in text, path
