"""What `make mutants` runs on: rooms of which every file and test is there."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import PROJECT

CONFIG = tomllib.loads((PROJECT / "checks" / "mutants.toml").read_text(encoding="utf-8"))


def test_every_file_and_test_of_a_room_is_there() -> None:
    for name, room in CONFIG["rooms"].items():
        for pattern in [*room["files"], *room["tests"]]:
            assert list(PROJECT.glob(pattern)), f"{name}: {pattern}"
        assert 0.8 <= room["bar"] <= 1


def test_survivors_are_of_functions_that_are_there() -> None:
    """A row goes when its function does."""
    text = (PROJECT / "docs" / "mutants.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(seamline[\w.]+)\.x(?:_|ǁ\w+ǁ)(\w+?)__mutmut_\d+` \|", text, re.MULTILINE)
    assert rows
    for module, function in rows:
        source = PROJECT / f"{module.replace('.', '/')}.py"
        assert f"def {function}(" in source.read_text(encoding="utf-8"), f"{module}: {function}"


def test_what_tests_of_a_room_import_is_copied() -> None:
    """A package of the project that is not there would stop mutmut."""
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")} | {"bench"}
    copied = re.search(
        r"^CODE = \((.*)\)", (PROJECT / "checks" / "mutants.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert copied
    for room in CONFIG["rooms"].values():
        for pattern in room["tests"]:
            for path in PROJECT.glob(pattern):
                for file in path.rglob("*.py") if path.is_dir() else [path]:
                    imported = re.findall(r"^(?:from|import) (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
                    missing = {name for name in packages & set(imported) if f'"{name}"' not in copied[1]}
                    assert not missing, f"{file.name}: {missing}"
