"""dvc.yaml says the truth: dependencies are the modules really imported, and only what changed runs again.

What reruns is tried with DVC itself on the real dvc.yaml, with stand-ins for the stage scripts that read everything
they depend on and write everything they promise, so that the whole table takes a minute and no training.
"""

from __future__ import annotations

import ast
import resource
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT, Project, checked_out

STAGES = ["pull", "subset", "convert", "split", "train", "evaluate", "export", "benchmark", "report"]
PIPELINE: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]

STAND_IN = """
import hashlib, shutil, sys, yaml
from pathlib import Path
name = __spec__.name.removeprefix("stages.")
stage = yaml.load(Path("dvc.yaml").read_bytes(), yaml.CSafeLoader)["stages"][name]
params = yaml.load(Path("params.yaml").read_bytes(), yaml.CSafeLoader)
digest = hashlib.sha256()
for key in stage["params"]:
    section, _, part = key.partition(".")
    digest.update(repr(params[section][part] if part else params[section]).encode())
for dep in stage["deps"]:
    path = Path(dep.replace("${pull.source}", params["pull"]["source"]))
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.read_bytes())
for out in stage["outs"]:
    path = Path(out if isinstance(out, str) else next(iter(out)))
    file = path if path.suffix else path / "best.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(digest.hexdigest())
    if name == "train" and not path.suffix:
        (path / "training.json").write_text(digest.hexdigest())
"""


def modules_imported(script: Path) -> set[str]:
    """Files of seamline that a script imports, at the top or inside functions, directly or through others."""
    found: set[str] = set()
    waiting = [script]
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                parts = name.split(".")
                for length in range(1, len(parts) + 1) if parts[0] == "seamline" else []:
                    base = PROJECT.joinpath(*parts[:length])
                    for file in (base.with_suffix(".py"), base / "__init__.py"):
                        relative = file.relative_to(PROJECT).as_posix()
                        if file.is_file() and relative not in found:
                            found.add(relative)
                            waiting.append(file)
    return found


def test_the_stages_are_these_and_in_this_order() -> None:
    assert list(PIPELINE) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_are_the_script_and_the_rooms_it_imports(stage: str) -> None:
    code = {dep for dep in PIPELINE[stage]["deps"] if dep.startswith(("stages/", "seamline/"))}
    script = f"stages/{stage}.py"
    modules = [Path(module).parts for module in modules_imported(PROJECT / script)]
    assert code == {script} | {"/".join(parts[:2]) for parts in modules if len(parts) > 2}


def test_what_every_stage_imports_first_says_nothing() -> None:
    """stages/__init__.py is in nobody's dependencies."""
    assert (PROJECT / "stages" / "__init__.py").read_bytes() == b""


@pytest.mark.parametrize("stage", STAGES)
def test_stage_script_and_params_section_share_one_verb(stage: str) -> None:
    assert PIPELINE[stage]["cmd"].startswith(f"python -m stages.{stage} ")
    assert stage in PIPELINE[stage]["params"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_on_the_command_line_is_an_input_or_an_output(stage: str) -> None:
    outs = [out if isinstance(out, str) else next(iter(out)) for out in PIPELINE[stage]["outs"]]
    known = [*outs, *PIPELINE[stage]["deps"]]
    words = PIPELINE[stage]["cmd"].split()[3:]
    paths = [word.strip("'") for word in words if not word.startswith("--")]
    for path in paths:
        assert any(item == path or item.startswith(f"{path}/") for item in known), path
    for out in outs:
        assert any(out == path or out.startswith(f"{path}/") for path in paths), f"{out} is a default of the script's"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = checked_out(tmp_path_factory.mktemp("stand_in") / "project")
    for stage in STAGES:
        (project.root / "stages" / f"{stage}.py").write_text(STAND_IN)
    (project.root / "dvc.lock").unlink()
    assert project.stages_run() == STAGES
    return project


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "pull": ({"annotations": "annotations.json"}, STAGES),
    "subset": ({"images": 7}, STAGES[1:]),
    "convert": ({"min_mean_iou": 0.5}, STAGES[2:]),
    "split": ({"seed": 1}, STAGES[3:]),
    "train": ({"epochs": 1}, STAGES[4:]),
    "evaluate": ({"confidence": 0.01}, STAGES[5:]),
    "export": ({"opset": 18}, STAGES[6:]),
    "benchmark": ({"rounds": 1}, STAGES[7:]),
    "report": ({"title": "Coats"}, STAGES[8:]),
}


@pytest.mark.parametrize("section", STAGES)
def test_a_change_reruns_its_stage_and_those_after_it(stand_in: Project, section: str) -> None:
    changes, expected = CHANGES[section]
    stand_in.change({section: changes})
    assert stand_in.stages_run() == expected
    assert stand_in.stages_run() == []


def test_pictures_for_evaluate_are_no_reason_to_export_again(stand_in: Project) -> None:
    stand_in.change({"evaluate": {"overlays": 1}})
    assert stand_in.stages_run() == ["evaluate", "report"]


def test_a_readme_makes_nothing_run(stand_in: Project) -> None:
    for name in ("README.md", "reports/README.md", "Makefile", "tests/conftest.py"):
        path = stand_in.root / name
        path.write_text(path.read_text() + "\n")
    assert stand_in.stages_run() == []


def processor_s() -> float:
    """Processor time of all ended child processes: for DVC near wall time, however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.thorough
def test_a_second_run_is_as_quick_as_dvc_can_be(finished: Project, tmp_path: Path) -> None:
    """At most twice the time of `dvc repro` in a project with one finished stage; medians of runs that take turns."""
    small = tmp_path / "small"
    small.mkdir()
    (small / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo 1 > one.txt\n    outs: [one.txt]\n")
    other = Project(small, finished.environment)
    other.environment["DVC_NO_ANALYTICS"] = "1"  # dvc init would keep an id in the home
    other.run("git", "init", "--quiet")
    other.run("dvc", "init", "--quiet")
    other.run("dvc", "config", "core.analytics", "false")
    other.run("dvc", "repro")
    seconds: dict[str, list[float]] = {"ours": [], "smallest": []}
    for _ in range(4):
        for name, project in (("ours", finished), ("smallest", other)):
            begun = processor_s()
            assert project.stages_run(cold=True) == []
            seconds[name].append(processor_s() - begun)
    ours, smallest = (sorted(seconds[name][1:])[1] for name in ("ours", "smallest"))
    assert ours <= 2 * smallest, seconds
