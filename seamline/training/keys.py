"""What identifies a training: a hash of its values, of the files it starts from, and of the code that trains."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from seamline.base.files import code_below, sha256_of
from seamline.base.parallel import in_threads

PACKAGE = Path(__file__).parent.parent
# Rooms whose code makes no other training: base/ does not know of training, and the values of params/ are in the key.
WITHOUT_EFFECT = ("seamline.base", "seamline.params")


def run_key(values: dict[str, Any], files: Iterable[Path], libraries: Iterable[str]) -> str:
    """Sixteen hexadecimal digits that change with the values, any byte of the files, or a version of the libraries.

    Where the files lie, and what they are called, changes nothing.
    """
    contents = sorted(in_threads(sha256_of, files))
    versions = {name: version(name) for name in libraries}
    text = json.dumps([values, contents, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_hashes(family: str, package: Path = PACKAGE) -> dict[str, str]:
    """Hash of every module whose change makes another training of the family, wherever the project lies."""
    return hashes_of_code(code_of_training(family, package))


def hashes_of_code(modules: dict[str, Path]) -> dict[str, str]:
    return {name: sha256_of(path) for name, path in modules.items()}


def code_of_training(family: str, package: Path = PACKAGE) -> dict[str, Path]:
    """The family's modules in this room, and what they import, directly or not, but for the rooms without effect.

    They are named after the family (yolo.py, yolo_data.py), so that another family's code makes no other training.
    """
    return code_imported_by(
        [
            path.relative_to(package.parent)
            for path in code_below(package / "training", {".py"})
            if path.stem == family or path.stem.startswith(f"{family}_")
        ],
        package,
    )


def code_imported_by(modules: Iterable[Path], package: Path = PACKAGE) -> dict[str, Path]:
    """These modules, and what they import, directly or not, but for the rooms without effect, by their names.

    Args:
        modules: as paths beside the package: seamline/attributes/trainer.py.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        path = waiting.pop()
        name = ".".join(path.with_suffix("").parts)
        if name in found or name.startswith(WITHOUT_EFFECT):
            continue
        found[name] = package.parent / path
        imported = (Path(*other.split(".")).with_suffix(".py") for other in imported_names(found[name]))
        waiting += [other for other in imported if (package.parent / other).is_file()]
    return dict(sorted(found.items()))


def imported_names(path: Path) -> set[str]:
    """What may be a module of seamline among the imports of a file, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.startswith(f"{PACKAGE.name}.")}
