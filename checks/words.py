"""Words that must not come back: what reads as if it were translated, and names that do not say what is inside.

Looks through code, documentation and the names of tests; run by `make lint`.

Example: python -m checks.words
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from seamline.base.files import code_below

# In comments, docstrings, messages and documentation.
PHRASES = {
    r"(?<!\bthere\W)\bis no (?!longer\b)": "is not a, has no, there is no",
    r"\bgoes on\b": "resumes, continues",
    r"\btold\b": "given, said, known",
    r"\bso many\b": "at most, that many, a number of",
    r"\bshall\b": "is to, has to, must",
    r"\bof whose\b": "whose",
    r"\bwhat is more\b": "also",
    r"\bthat are such\b": "those",
}
# Of classes, functions, arguments and variables.
NAMES = {"kept", "patience", "findings", "Way", "Turn", "places", "told"}
# Of modules.
MODULES = NAMES | {"facts", "formats"}
# Exceptions: the file, the name, and why it may.
ALLOWED = {
    ("seamline/params/train.py", "patience"): "ultralytics' parameter train.patience",
    ("seamline/params/loading/loader.py", "patience"): "the same",
}
ROOTS = ("seamline", "stages", "dvc_hint", "docs", "recipes")
FILES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "params.yaml", "Makefile")
CODE = {".py", ".md", ".yaml", ".j2", ".html"}


def main() -> int:
    found = [*found_in_tree(Path())]
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


def found_in_tree(root: Path) -> Iterator[str]:
    """A line for each word that must not be there, as a compiler would print it."""
    paths = [path for folder in ROOTS for path in code_below(root / folder, CODE)]
    for path in [*paths, *(root / name for name in FILES)]:
        if path.is_file():
            name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
            yield from forbidden_phrases(name, text)
            if path.suffix == ".py":
                yield from forbidden_names(name, text)
    for path in code_below(root / "tests", {".py"}):
        yield from forbidden_test_names(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))


def forbidden_phrases(name: str, text: str) -> Iterator[str]:
    """Also where a line ends inside a phrase, with a comment's sign or a quote before the next word."""
    for phrase, better in PHRASES.items():
        for match in re.finditer(phrase.replace(" ", r"\"?\s+(?:# |\"|f\"|> )?"), text, re.IGNORECASE):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{name}:{line}: {' '.join(match[0].split())!r} reads as if it were translated; say {better}"


def forbidden_names(name: str, text: str) -> Iterator[str]:
    if Path(name).stem in MODULES:
        yield f"{name}: the module's name does not say what is inside"
    for node in ast.walk(ast.parse(text)):
        for identifier in sorted(NAMES & set(names_given(node))):
            if (name, identifier) not in ALLOWED:
                yield f"{name}:{getattr(node, 'lineno', 1)}: the name {identifier!r} does not say what is inside"


def names_given(node: ast.AST) -> Iterator[str]:
    """What a node of the syntax tree gives a name to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.alias):
        yield node.asname or ""


def forbidden_test_names(name: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            words = node.name.replace("_", " ") + " "
            if any(re.search(phrase, words) for phrase in PHRASES):
                yield f"{name}:{node.lineno}: {node.name} reads as if it were translated"


if __name__ == "__main__":
    sys.exit(main())
