"""Continuous integration as it is written down, and the step of it that makes the comment of a pull request."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT, Project

BIN = Path(sys.executable).parent
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))


def jobs() -> dict[str, dict[str, Any]]:
    """Every job of every workflow, by workflow and name."""
    return {
        f"{path.stem}/{name}": job
        for path in WORKFLOWS
        for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
    }


def scripts() -> list[str]:
    return [step["run"] for job in jobs().values() for step in job["steps"] if "run" in step]


def make_targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


def test_they_are_github_s_workflows() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema"]
    workflows = [*command, "vendor.github-workflows", *map(str, WORKFLOWS)]
    assert subprocess.run(workflows, capture_output=True).returncode == 0
    dependabot = str(PROJECT / ".github" / "dependabot.yml")
    assert subprocess.run([*command, "vendor.dependabot", dependabot], capture_output=True).returncode == 0
    assert subprocess.run([*command, "vendor.github-workflows", dependabot], capture_output=True).returncode != 0


@pytest.mark.parametrize("name", jobs())
def test_a_job_ends_by_itself_and_runs_no_moving_code_of_others(name: str) -> None:
    job = jobs()[name]
    assert job["timeout-minutes"] <= 180
    for step in job["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])
        assert "${{" not in step.get("run", ""), "what others write would become a part of the script"


def test_every_python_that_is_promised_is_tried() -> None:
    promised = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (PROJECT / "pyproject.toml").read_text())
    assert promised
    versions = [f"3.{minor}" for minor in range(int(promised[1]), int(promised[2]))]
    assert jobs()["ci/test"]["strategy"]["matrix"]["python"] == versions
    assert ".ci/run" in [step.get("run") for step in jobs()["ci/test"]["steps"]]


def test_macos_sets_up_passes_the_quick_tests_and_runs_the_pipeline() -> None:
    job = jobs()["ci/macos"]
    assert job["runs-on"].startswith("macos-")
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make setup", "make test-quick", "make repro"]


def test_every_make_target_is_there() -> None:
    used = {target for script in scripts() for target in re.findall(r"\bmake ([\w-]+)", script)}
    assert used >= {"repro", "doctor", "image-test", "audit", "lock", "test-thorough"}
    assert used <= make_targets()


def test_both_images_are_built() -> None:
    text = "\n".join(scripts())
    assert "make image-test" in text
    assert "--file Dockerfile.gpu" in text


def test_the_hooks_are_what_make_lint_checks() -> None:
    config = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())
    assert subprocess.run([BIN / "pre-commit", "validate-config"], cwd=PROJECT).returncode == 0
    entries = [hook["entry"].removeprefix(".venv/bin/").split() for repo in config["repos"] for hook in repo["hooks"]]
    hooked = {" ".join(words[:3]) if words[0] == "python" else words[0] for words in entries}
    lint = subprocess.run(["make", "--dry-run", "lint"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    wanted = (
        "ruff",
        "mypy",
        "lint-imports",
        "python -m checks.sizes",
        "python -m checks.words",
        "bandit",
        "hadolint",
        "check-jsonschema",
    )
    assert hooked == set(wanted)
    for program in wanted:
        assert f".venv/bin/{program}" in lint


@pytest.mark.slow
def test_the_comment_has_the_figures_and_what_changed(finished: Project) -> None:
    step = next(step for step in jobs()["ci/pipeline"]["steps"] if step.get("id") == "report")
    environment = {**finished.environment, "BASE": finished.run("git", "rev-parse", "HEAD~1").stdout.strip()}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]  # as GitHub's runner does
    done = subprocess.run(command, cwd=finished.root, env=environment, capture_output=True, text=True)
    written = finished.root / "comment.md"
    try:
        assert done.returncode == 0, done.stderr
        text = written.read_text()
    finally:
        written.unlink(missing_ok=True)
    figures = yaml.safe_load((finished.root / "reports" / "accuracy.json").read_text())
    assert f"{figures['test']['mask_mAP50_95']:.3f}" in text
    assert "| Path" in text, "the table of dvc metrics diff is missing"
    assert "| openvino_int8" in text
