"""dvc.yaml says the truth: dependencies are the rooms and modules really imported, and only what changed runs again.

What reruns is tried with DVC itself on the real dvc.yaml, with stand-ins for the stage scripts that read everything
they depend on and write everything they promise, so that the whole table takes a minute and no training.
"""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamline.report.code import CODE, code_files
from tests.conftest import PROJECT, Project, checked_out

STAGES = [
    "pull", "subset", "convert", "split", "train", "evaluate", "export", "benchmark", "attributes", "classify",
    "embed", "catalogue", "report",
]  # fmt: skip
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
    for section in ("pull", "attributes", "catalogue"):
        dep = dep.replace(f"${{{section}.source}}", params[section]["source"])
    path = Path(dep)
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
    if name == "split" and not path.suffix:
        (path / "test.json").write_text(digest.hexdigest())
    if name == "subset" and not path.suffix:
        (path / "images").mkdir(exist_ok=True)
        (path / "images" / "1.jpg").write_text(digest.hexdigest())
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


def test_dvc_yaml_is_short() -> None:
    assert len((PROJECT / "dvc.yaml").read_text().splitlines()) < 17 * len(STAGES)


def test_the_stages_are_these_and_in_this_order() -> None:
    assert list(PIPELINE) == STAGES


def code_of(stage: str) -> set[str]:
    """The code among its dependencies."""
    return {dep for dep in PIPELINE[stage]["deps"] if dep.split("/")[0] in ("stages", "seamline")}


def contains(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


def needed_by(stage: str) -> set[str]:
    """Files of code that a stage's dependencies have to contain: for the report those of every stage."""
    scripts = [f"stages/{name}.py" for name in (STAGES if stage == "report" else [stage])]
    modules = {module for script in scripts for module in modules_imported(PROJECT / script)}
    return {module for module in modules if Path(module).name != "__init__.py"} | set(scripts)


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_contain_every_module_that_is_imported_and_none_without_one(stage: str) -> None:
    code, needed = code_of(stage), needed_by(stage)
    assert {file for file in needed if not any(contains(dep, file) for dep in code)} == set(), "is missing in deps"
    assert {dep for dep in code if not any(contains(dep, file) for file in needed)} == set(), "is not imported"
    assert not {(dep, other) for dep in code for other in code - {dep} if contains(dep, other)}, "is there twice"


@pytest.mark.parametrize("stage", STAGES)
def test_of_the_parameters_a_stage_depends_on_the_sections_that_it_reads(stage: str) -> None:
    sections = {key.partition(".")[0] for key in PIPELINE[stage]["params"]}
    shared = {"seamline/params/loading"}
    found = {dep for dep in code_of(stage) if dep.startswith("seamline/params")}
    assert found == shared | {f"seamline/params/{section}.py" for section in sections}


def test_packages_that_are_in_no_dependencies_do_nothing() -> None:
    """Python imports them first; where only a module of a room is a dependency, its __init__.py is not."""
    assert (PROJECT / "stages" / "__init__.py").read_bytes() == b""
    for file in (PROJECT / "seamline").rglob("__init__.py"):
        statements = ast.parse(file.read_text()).body
        kinds = [ast.Assign] if file.parent.name == "seamline" else []  # the version
        assert [type(statement) for statement in statements] == [ast.Expr, *kinds], file


def test_the_code_that_the_report_names_is_what_it_depends_on() -> None:
    deps = {dep for dep in PIPELINE["report"]["deps"] if dep.split("/")[0] in ("architectures", "seamline", "stages")}
    assert set(CODE) == deps
    assert deps - code_of("report") == {"architectures"}
    tracked = subprocess.run(
        ["git", "ls-files", "--", *deps], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [file.as_posix() for file in code_files()] == sorted(tracked, key=Path)


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


AFTER_TRAINING = ["evaluate", "export", "benchmark", "classify", "catalogue", "report"]
CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "pull": ({"annotations": "annotations.json"}, STAGES),
    "subset": ({"images": 7}, STAGES[1:]),
    "convert": ({"min_mean_iou": 0.5}, ["convert", "train", *AFTER_TRAINING]),
    "split": ({"seed": 1}, STAGES[3:]),
    "train": ({"epochs": 1}, ["train", *AFTER_TRAINING]),
    "evaluate": ({"confidence": 0.01}, AFTER_TRAINING),
    "export": ({"opset": 18}, AFTER_TRAINING[1:]),
    "benchmark": ({"rounds": 1}, ["benchmark", "report"]),
    "attributes": ({"seed": 1}, ["attributes", "classify", "report"]),
    "classify": ({"seed": 1}, ["classify", "report"]),
    "embed": ({"margin": 0.5}, ["embed", "catalogue", "report"]),
    "catalogue": ({"pictures": 3}, ["catalogue", "report"]),
    "report": ({"title": "Coats"}, ["report"]),
}


@pytest.mark.parametrize("section", STAGES)
def test_a_change_reruns_its_stage_and_those_after_it(stand_in: Project, section: str) -> None:
    changes, expected = CHANGES[section]
    stand_in.change({section: changes})
    assert stand_in.stages_run() == expected
    assert stand_in.stages_run() == []


def test_what_an_r_cnn_is_trained_by_is_of_the_train_stage(stand_in: Project) -> None:
    stand_in.change({"rcnn": {"detections": 5}})
    assert stand_in.stages_run() == ["train", *AFTER_TRAINING]


def test_pictures_for_evaluate_are_no_reason_to_export_again(stand_in: Project) -> None:
    stand_in.change({"evaluate": {"overlays": 1}})
    assert stand_in.stages_run() == ["evaluate", "classify", "report"]  # the stand-in's predictions differ


def test_a_readme_makes_nothing_run(stand_in: Project) -> None:
    for name in ("README.md", "reports/README.md", "Makefile", "tests/conftest.py"):
        path = stand_in.root / name
        path.write_text(path.read_text() + "\n")
    assert stand_in.stages_run() == []


def test_leftovers_of_editors_and_systems_rerun_nothing(stand_in: Project) -> None:
    rooms = {dep for stage in PIPELINE.values() for dep in stage["deps"] if (PROJECT / dep).is_dir()}
    rooms = {room for room in rooms if room.startswith(("seamline", "architectures"))}
    assert len(rooms) > 10
    left = (
        ".files.py.swp", ".DS_Store", "files.py~", "#files.py#", "files.pyc", "._files.py",
        ".ipynb_checkpoints/files-checkpoint.py", "__pycache__/files.cpython-311.pyc", "files.py.bak", "files.py.orig",
        "files.py.rej", "files.py.tmp.4711", "Thumbs.db", "desktop.ini", "__MACOSX/files.py",
    )  # fmt: skip
    made = [stand_in.root / room / name for room in sorted(rooms) for name in left]
    made += [stand_in.root / "seamline" / "ingest" / "remote" / name for name in left]
    for path in made:
        path.parent.mkdir(exist_ok=True)
        path.write_text("left behind")
    (stand_in.root / "seamline" / "base" / ".#files.py").symlink_to("me@here.4711")  # Emacs' lock
    assert stand_in.stages_run() == []
    for path in (*made, stand_in.root / "seamline" / "base" / ".#files.py"):
        path.unlink()


def test_a_new_section_with_its_module_reruns_nothing(stand_in: Project) -> None:
    """But it is checked as the others are, before any work."""
    module = stand_in.root / "seamline" / "params" / "near_duplicates.py"
    module.write_text(
        "from seamline.params.loading.types import Count, Section\n\n\n"
        "class NearDuplicates(Section):\n    bits: Count\n"
    )
    load = [sys.executable, "-c", "from seamline.params.loading.loader import load_params; load_params()"]
    assert "near_duplicates: is missing." in stand_in.run(*load, check=False).stderr
    stand_in.change({"near_duplicates": {"bits": 0}})
    assert "near_duplicates.bits: 0 is not allowed" in stand_in.run(*load, check=False).stderr
    stand_in.change({"near_duplicates": {"bits": 4}})
    stand_in.run(*load)
    assert stand_in.stages_run() == []
    module.unlink()
    values = stand_in.params()
    del values["near_duplicates"]
    (stand_in.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("split", ["split", *STAGES[4:]]),
        ("benchmark", ["benchmark", "report"]),
        ("evaluate", ["evaluate", "export", "benchmark", "classify", "embed", "catalogue", "report"]),
        ("report", ["report"]),
        ("sweep", []),
    ],
)
def test_an_edit_of_a_section_reruns_the_stages_that_read_it(
    stand_in: Project, section: str, expected: list[str]
) -> None:
    module = stand_in.root / "seamline" / "params" / f"{section}.py"
    module.write_text(module.read_text() + "# edited\n")
    assert stand_in.stages_run() == expected


def test_a_source_may_have_a_name_that_begins_with_a_dot(stand_in: Project) -> None:
    """As may its photos, and a folder of it have the name of one that Python makes."""
    source = stand_in.params()["pull"]["source"]
    photos = stand_in.root / ".photos"
    stand_in.change({"pull": {"source": photos.name}})
    for name in (".a.jpg", "b.jpg~", "__pycache__/c.jpg", ".hidden/d.jpg"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_text("a photo")
    assert stand_in.stages_run("pull") == ["pull"]
    for name in (".a.jpg", "b.jpg~", "__pycache__/c.jpg", ".hidden/d.jpg"):
        (photos / name).write_text("another photo")
        assert stand_in.stages_run("pull") == ["pull"], name
    stand_in.change({"pull": {"source": source}})
    stand_in.stages_run()  # for the tests that come after it


def test_product_photos_of_ones_own_are_watched(stand_in: Project) -> None:
    """The catalogue's, with the table that lies among them; data/raw then says nothing of it."""
    shop = stand_in.root / "shop"
    shop.mkdir()
    (shop / "a.jpg").write_text("a photo")
    (shop / "items.csv").write_text("photo,sku\na.jpg,1\n")
    stand_in.change({"catalogue": {"source": "shop", "csv": "items.csv"}})
    assert stand_in.stages_run() == ["catalogue", "report"]
    assert stand_in.stages_run() == []
    for name in ("a.jpg", "items.csv", "b.jpg"):
        (shop / name).write_text("another")
        assert stand_in.stages_run() == ["catalogue", "report"], name
    (shop / "b.jpg").unlink()
    assert stand_in.stages_run() == ["catalogue", "report"]
    stand_in.change({"catalogue": {"enabled": False}})
    assert stand_in.stages_run() == ["catalogue", "report"]
    stand_in.change({"catalogue": {"source": "data/raw", "csv": None, "enabled": True}})
    assert stand_in.stages_run() == ["catalogue", "report"]


def processor_s() -> float:
    """Processor time of all ended child processes: for DVC near wall time, however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.thorough
def test_a_second_run_is_as_quick_as_dvc_can_be(finished: Project, tmp_path: Path) -> None:
    """A start of DVC, and an eighth of one for each stage. A start is `dvc repro` in a project with one finished stage;
    medians of runs that take turns.
    """
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
    assert ours <= (1 + len(STAGES) / 8) * smallest, seconds
