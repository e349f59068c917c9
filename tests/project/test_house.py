"""What `make lint` holds the code to: rooms and their order, sizes, words; and that each of these checks can fail."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from checks import imports, sizes, words
from checks.imports import ALLOWED, hidden_imports
from checks.sizes import too_large
from checks.words import forbidden_names, forbidden_phrases, forbidden_test_names, found_in_tree
from docs.draw_inside import drawing, rooms_of
from tests.conftest import PROJECT

CONTRACTS: dict[str, dict[str, Any]] = {
    contract["id"]: contract
    for contract in tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
ROOMS = [layer.strip("()") for layer in CONTRACTS["rooms"]["layers"]]
THERE = {
    path.stem
    for path in (PROJECT / "seamline").iterdir()
    if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())
}


def test_every_room_is_in_the_contract_and_no_import_is_ignored() -> None:
    assert set(ROOMS) >= THERE
    assert len(ROOMS) == len(set(ROOMS))
    assert {layer for layer in CONTRACTS["rooms"]["layers"] if not layer.startswith("(")} == THERE
    assert CONTRACTS["rooms"]["exhaustive"] is True
    assert CONTRACTS["rooms"]["containers"] == ["seamline"]
    for contract in CONTRACTS.values():
        assert not {"ignore_imports", "exhaustive_ignores", "unmatched_ignore_imports_alerting"} & set(contract)


def test_ultralytics_is_kept_out_of_every_room_but_three() -> None:
    contract = CONTRACTS["ultralytics"]
    out = {f"seamline.{room}" for room in THERE - {"training", "export", "models"}} | {"stages"}
    assert set(contract["source_modules"]) == out
    assert contract["forbidden_modules"] == ["ultralytics"]


def test_the_drawing_is_made_of_the_contract() -> None:
    stages, rooms = rooms_of(PROJECT)
    assert [room.name for room in rooms] == [room for room in ROOMS if room in THERE - {"__main__"}]
    assert {room.name for room in rooms if room.agpl} == {"training", "export", "models"}
    assert len(stages) == 13
    found = (PROJECT / "docs" / "inside.svg").read_text()
    assert found == drawing(stages, rooms), "python docs/draw_inside.py"
    assert re.findall(r'<text class="n" [^>]*>([^<]+)</text>', found) == stages
    assert re.findall(r'<text class="t" [^>]*>([^<]+)</text>', found) == [room.name for room in rooms]


def test_a_room_that_moves_changes_the_drawing() -> None:
    stages, rooms = rooms_of(PROJECT)
    assert drawing(stages, rooms) != drawing(stages, [rooms[1], rooms[0], *rooms[2:]])
    room = rooms[-1]._replace(name="a&b", text="1 < 2", whole={stages[0]}, part={stages[1]})
    alone = drawing(stages, [room])
    assert ElementTree.fromstring(alone).tag.endswith("svg")
    assert len(re.findall("<title>", alone)) == 2


def test_every_thing_has_one_room() -> None:
    table = (PROJECT / "docs" / "inside.md").read_text().split("| --- | --- | --- | --- |\n")[1].split("\n\n")[0]
    room_of = {cells[1].strip(): cells[2].strip(" `") for cells in (row.split("|") for row in table.splitlines())}
    things = {"dataset layout", "engine", "family of models", "metric", "chart", "stage", "tool", "endpoint"}
    assert things <= set(room_of)
    assert set(room_of.values()) <= {*ROOMS, "service", "stages"}


def test_tests_mirror_the_rooms() -> None:
    folders = {path.name for path in (PROJECT / "tests").iterdir() if (path / "__init__.py").exists()}
    rooms = {room for room in THERE if (PROJECT / "seamline" / room).is_dir()}
    assert folders == rooms | {"stages", "project"}


@pytest.mark.process
@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("base/upwards.py", "from seamline.photos import listing", "Imports run downwards only"),
        ("base/upwards.py", "def late() -> None:\n    import seamline.cli", "Imports run downwards only"),
        ("evaluation/upwards.py", "import stages.train", "Nothing in seamline/ imports a stage"),
        ("evaluation/agpl.py", "def late() -> None:\n    from ultralytics.utils import ops", "ultralytics is imported"),
        ("models/rcnn.py", "from ultralytics import YOLO", "What belongs to R-CNNs never imports ultralytics"),
        ("attic.py", "", "attic"),
    ],
)
def test_the_contracts_can_break(tmp_path: Path, module: str, line: str, broken: str) -> None:
    """In a copy with a room of each name, and a module that should not be there."""
    for name in sorted(THERE):
        folder = tmp_path / "seamline" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (tmp_path / "seamline" / "__init__.py").touch()
    (tmp_path / "seamline" / "photos" / "listing.py").touch()
    (tmp_path / "stages").mkdir()
    for name in ("__init__.py", "train.py"):
        (tmp_path / "stages" / name).touch()
    text = (PROJECT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text)
    for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]:
        for name in contract.get("source_modules", []):
            path = tmp_path.joinpath(*name.split("."))
            if not path.exists():  # a module of a room
                path.with_suffix(".py").touch()
    assert lint_imports(tmp_path).returncode == 0
    (tmp_path / "seamline" / module).write_text(f"{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert broken in done.stdout.partition("Broken contracts")[2]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_sizes_are_checked(tmp_path: Path) -> None:
    base = tmp_path / "seamline" / "base"
    base.mkdir(parents=True)
    for folder in (base, base.parent):
        (folder / "__init__.py").touch()
    (base / "fits.py").write_text("def f():\n" + "    x = 1\n" * 59 + "x = 1\n" * 340)
    assert not [*too_large(tmp_path)]
    (base / "long.py").write_text("x = 1\n" * 401)
    (base / "function.py").write_text("class A:\n    def f():\n" + "        x = 1\n" * 60)
    for number in range(14):
        (base / f"module{number}.py").touch()
    (base.parent / "hidden").mkdir()
    (base.parent / "hidden" / "late.py").touch()
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "train.py").write_text("x = 1\n" * 402)
    assert [*too_large(tmp_path)] == [
        "seamline/base/function.py:2: f has 61 lines; at most 60 are allowed",
        "seamline/base/long.py: has 401 lines; at most 400 are allowed",
        "stages/train.py: has 402 lines; at most 400 are allowed",
        "seamline/hidden: has modules and no __init__.py",
        "seamline/base: has 17 modules; at most 15 are allowed",
    ]


def test_the_tree_imports_nothing_that_the_contracts_do_not_see() -> None:
    assert [*hidden_imports(PROJECT)] == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("import importlib\nimportlib.import_module('ultralytics')", "import_module"),
        ("from importlib import import_module as plain", "import_module"),
        ("__import__('seamline.cli')", "__import__"),
        ("import builtins\nbuiltins.__import__('torch')", "__import__"),
        ("import importlib\ngetattr(importlib, 'import_module')('torch')", "import_module"),
        ("exec('import ultralytics')", "exec"),
        ("import builtins\nbuiltins.exec('import torch')", "exec"),
        ("def late(): return eval('ultralytics')", "eval"),
        ("import runpy\nrunpy.run_path('stages/train.py')", "run_path"),
        ("from importlib.util import spec_from_file_location", "spec_from_file_location"),
    ],
)
def test_an_import_by_name_is_found(tmp_path: Path, line: str, what: str) -> None:
    for name in ALLOWED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{line}\n")
    assert [*hidden_imports(tmp_path)] == []
    (tmp_path / "seamline" / "late.py").write_text(f"import re, torch\nmodel.eval()\nre.compile('x')\n{line}\n")
    [found] = hidden_imports(tmp_path)
    assert re.fullmatch(rf"seamline/late\.py:[45]: {what} imports or runs what no contract sees; .*", found)


def test_what_may_import_by_name_and_does_not_is_taken_off_the_list(tmp_path: Path) -> None:
    (tmp_path / "seamline").mkdir()
    (tmp_path / "seamline" / "cli.py").write_text("from importlib.util import find_spec\n")
    [found] = hidden_imports(tmp_path)
    assert found.startswith("seamline/cli.py: imports nothing by its name any more")


@pytest.mark.parametrize(
    "line", ["import stages.split", "from stages import split", "from stages.split import main", "from . import split"]
)
def test_a_stage_may_not_import_a_stage(tmp_path: Path, line: str) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "train.py").write_text(f"import seamline.stages_like\ndef late():\n    {line}\n")
    assert [*hidden_imports(tmp_path)] == [
        "stages/train.py:3: a stage imports a stage; what both need belongs in seamline/"
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("this is no folder", "is no"),
        ("# this is\n# no folder", "is # no"),
        ("there is no such file, and it is no longer needed", None),
        ("the training goes on", "goes on"),
        ("Told once.", "Told"),
        ("as it was told", "told"),
        ("of so many images", "so many"),
        ("you shall not", "shall"),
        ("a shallow copy", None),
    ],
)
def test_phrases_are_found_across_lines(text: str, found: str | None) -> None:
    assert [line.split("'")[1] for line in forbidden_phrases("a.md", text)] == ([found] if found else [])


def test_the_tree_has_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for params.yaml, which is the user's; `make lint` looks through it as well."""
    monkeypatch.setattr(words, "FILES", [name for name in words.FILES if name != "params.yaml"])
    assert [*found_in_tree(PROJECT)] == []


def test_names_are_those_that_say_what_is_inside() -> None:
    code = (
        "def f(places):\n    kept = [places for told in places]\n    return kept\nclass Way: pass\nimport a as patience"
    )
    assert [line.rpartition("the name ")[2].split("'")[1] for line in forbidden_names("seamline/a.py", code)] == [
        "Way", "patience", "places", "kept", "told",
    ]  # fmt: skip
    assert [*forbidden_names("seamline/facts.py", "facts = 1")] == [
        "seamline/facts.py: the module's name does not say what is inside"
    ]
    assert not [*forbidden_names("seamline/params/train.py", "patience: int = 3")]
    assert len([*forbidden_test_names("t.py", "def test_it_goes_on(): pass\ndef test_it_goes(): pass")]) == 1


def test_a_line_of_the_checks_fails_make_lint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert sizes.main() == words.main() == imports.main() == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "train.py").write_text("# told\n" * 400 + "exec('')\n")
    assert sizes.main() == words.main() == imports.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "stages/train.py: has 401 lines; at most 400 are allowed"
    assert lines[-1].startswith("stages/train.py:401: exec imports or runs")
    assert len(lines) == 402
