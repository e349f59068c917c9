from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import warm
from tests.conftest import PROJECT, code_in
from tests.guard import is_of_the_workspace


@pytest.mark.parametrize("name", ["params.yaml", "dvc.lock", "data/raw/annotations.json", "reports", "reports/a.json"])
def test_a_test_that_reads_the_workspace_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for path in (PROJECT / name, name, name.encode(), PROJECT / "tests" / ".." / name):
        with pytest.raises(AssertionError, match="which is the workspace's"):
            open(path)  # noqa: PTH123, SIM115
    with pytest.raises(AssertionError, match="which is the workspace's"):
        os.listdir(PROJECT / name)  # noqa: PTH208


@pytest.mark.parametrize(
    "name", ["seamline/params/loading/loader.py", "database", "tests/workspace/params.yaml", "params.yaml.bak"]
)
def test_code_may_be_read(name: str) -> None:
    assert not is_of_the_workspace(str(PROJECT / name))


def test_so_does_a_stage_that_reads_it(tmp_path: Path) -> None:
    code_in(tmp_path)
    (tmp_path / "params.yaml").symlink_to(PROJECT / "tests" / "workspace" / "params.yaml")
    done = warm.run(["python", "-m", "seamline", "summary", "--report", str(PROJECT / "reports")], tmp_path)
    assert done.returncode == 1
    assert "which is the workspace's" in done.stderr
