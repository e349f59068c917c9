"""Imports that the contracts of import-linter cannot see: made of a name at run time, or of one stage by another.

The contracts read import statements. What imports by a text, or runs a text, could reach any room, and ultralytics from
anywhere; a stage that imports another one would run with its code without DVC's knowing. Run by `make lint`.

Example: python -m checks.imports
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from seamline.base.files import code_below

# What imports or runs code by its name or text, wherever it comes from.
BY_NAME = {
    "__import__", "import_module", "exec_module", "spec_from_file_location", "spec_from_loader", "SourceFileLoader",
    "resolve_name", "run_module", "run_path", "zipimporter",
}  # fmt: skip
BY_TEXT = {"exec", "eval"}  # as functions; `model.eval()` is something else
# These may, and what they import is bounded there.
ALLOWED = {
    "seamline/cli.py": "the modules of seamline/verbs, below it",
    "seamline/params/loading/loader.py": "the sections in its own room",
    "seamline/models/ultralytics_patches.py": "modules of ultralytics, in a room that may",
}


def main() -> int:
    found = [*hidden_imports(Path())]
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


def hidden_imports(root: Path) -> Iterator[str]:
    """A line for each, as a compiler would print it."""
    for path in [file for room in ("seamline", "stages") for file in code_below(root / room, {".py"})]:
        name = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = [*imports_by_name(tree)]
        if name not in ALLOWED:
            for line, what in found:
                yield f"{name}:{line}: {what} imports or runs what no contract sees; write an import statement"
        elif not found:
            yield f"{name}: imports nothing by its name any more; take it off the list in checks/imports.py"
        if name.startswith("stages/"):
            for line in imports_of_stages(tree):
                yield f"{name}:{line}: a stage imports a stage; what both need belongs in seamline/"


def imports_by_name(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each, used, imported or only spelled, as in getattr(importlib, "import_module")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names = [node.id] if node.id in BY_NAME | BY_TEXT else []
        elif isinstance(node, ast.Attribute):
            builtin = isinstance(node.value, ast.Name) and node.value.id in ("builtins", "__builtins__")
            names = [node.attr] if node.attr in BY_NAME or (builtin and node.attr in BY_TEXT) else []
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names if alias.name in BY_NAME]
            names += [alias.name for alias in node.names if node.module == "builtins" and alias.name in BY_TEXT]
        elif isinstance(node, ast.Constant):
            names = [node.value] if isinstance(node.value, str) and node.value in BY_NAME else []
        else:
            continue
        for name in names:
            yield getattr(node, "lineno", 1), name


def imports_of_stages(tree: ast.AST) -> Iterator[int]:
    """The lines of a stage that import another one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""] if node.level == 0 else ["stages"]
        else:
            continue
        if any(module.partition(".")[0] == "stages" for module in modules):
            yield node.lineno


if __name__ == "__main__":
    sys.exit(main())
