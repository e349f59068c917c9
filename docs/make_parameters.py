"""Make docs/parameters.md of params.yaml: its keys, defaults and comments, and what seamline/params allows.

Example: python docs/make_parameters.py
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from seamline.base.files import write_text
from seamline.params.loading.loader import file_type

PROJECT = Path(__file__).resolve().parent.parent
HEAD = """# Every parameter

`python docs/make_parameters.py` makes this page from [params.yaml](../params.yaml): each parameter's default, what is
allowed, and what it does. After a change, the stage of its section and those after it run again, no others;
`dvc exp run -S train.epochs=60` tries one out. The keys of mappings that you fill yourself (`subset.classes`,
`attributes.labels`, `evaluate.slices`, `sweep.space`) have no rows of their own.

Beside the parameters of `train` below, every other argument of
[ultralytics' training](https://docs.ultralytics.com/usage/cfg) is allowed there. Those that would contradict the
pipeline are refused with the reason.
"""


def params_to_rows(text: str) -> list[tuple[str, str, str]]:
    """Dotted key, default and comment of every line `key: value` in the two upper levels of params.yaml.

    A key without a comment of its own shares that of the keys above it, as `cls` and `dfl` do that of `box`.
    """
    rows: list[tuple[str, str, str]] = []
    section, part, comment, fresh = "", "", "", False
    for line in text.splitlines():
        indent, words = len(line) - len(line.lstrip()), line.strip()
        if words.startswith("#"):
            comment = f"{comment} {words[1:].strip()}" if fresh else words[1:].strip()
            fresh = True
            continue
        fresh = False
        key, _, value = words.partition(":")
        if not words:
            comment = ""
        elif indent == 0:
            section, part = key, ""
            comment = ""
        elif indent == 2:
            part = key
            rows.append((f"{section}.{key}", value.strip(), comment))
        elif indent == 4 and part == "int8":
            rows.append((f"{section}.{part}.{key}", value.strip(), comment))
    return [row for row in rows if not row[0].endswith(".int8")]


def type_of(key: str) -> inspect.Type:
    kind: Any = file_type()
    for name in key.split("."):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        kind = fields[name]
    return inspect.type_info(kind)


def type_to_text(kind: inspect.Type) -> str:
    """What is allowed, in words."""
    if isinstance(kind, inspect.UnionType):
        return " or ".join(type_to_text(part) for part in kind.types)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        noun = "whole number" if isinstance(kind, inspect.IntType) else "number"
        limits = {"from": kind.ge, "above": kind.gt, "to": kind.le, "below": kind.lt, "a multiple of": kind.multiple_of}
        return " ".join([noun, *(f"{word} {limit}" for word, limit in limits.items() if limit is not None)])
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, inspect.StructType):
        return ", ".join(f"`{field.encode_name}`: {type_to_text(field.type)}" for field in kind.fields)
    if isinstance(kind, inspect.ListType):
        return "a list"
    names = {inspect.BoolType: "true or false", inspect.StrType: "text", inspect.NoneType: "null"}
    return names.get(type(kind), "a mapping")


def page(text: str) -> str:
    parts, section = [HEAD], ""
    for key, default, comment in params_to_rows(text):
        if key.partition(".")[0] != section:
            section = key.partition(".")[0]
            parts.append(f"\n## {section}\n\n| key | default | allowed | what it does |\n| --- | --- | --- | --- |\n")
        shown = f"`{default}`" if default else "see there"
        words = comment.replace("|", "\\|")
        parts.append(f"| `{key}` | {shown} | {type_to_text(type_of(key))} | {words} |\n")
    return "".join(parts)


if __name__ == "__main__":
    write_text(PROJECT / "docs" / "parameters.md", page((PROJECT / "params.yaml").read_text(encoding="utf-8")))
