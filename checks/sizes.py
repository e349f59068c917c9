"""Whether the code is small enough to hold in the head; run by `make lint`.

Example: python -m checks.sizes
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from seamline.base.files import code_below

FILE_LINES = 400
FUNCTION_LINES = 60
BASE_MODULES = 15  # or base/ becomes the heap for what has no room


def main() -> int:
    found = [*too_large(Path())]
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


def too_large(root: Path) -> Iterator[str]:
    """A line for each file and function that is too long, as a compiler would print it."""
    for path in [file for room in ("seamline", "stages") for file in code_below(root / room, {".py"})]:
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        count = len(text.splitlines())
        if count > FILE_LINES:
            yield f"{name}: has {count} lines; at most {FILE_LINES} are allowed"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > FUNCTION_LINES:
                    yield f"{name}:{node.lineno}: {node.name} has {count} lines; at most {FUNCTION_LINES} are allowed"
    for folder in sorted({path.parent for path in code_below(root / "seamline", {".py"})}):
        if not (folder / "__init__.py").is_file():  # import-linter and the wheel would not see it
            yield f"{folder.relative_to(root).as_posix()}: has modules and no __init__.py"
    modules = [path for path in code_below(root / "seamline" / "base", {".py"}) if path.name != "__init__.py"]
    if len(modules) > BASE_MODULES:
        yield f"seamline/base: has {len(modules)} modules; at most {BASE_MODULES} are allowed"


if __name__ == "__main__":
    sys.exit(main())
