"""Draw docs/inside.svg: the rooms in the order of the contract in pyproject.toml, and which stage depends on which.

What is in a room is said by the first line of its __init__.py, what a stage depends on by dvc.yaml.

Example: python docs/draw_inside.py
"""

import ast
import textwrap
import tomllib
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from seamline.base.files import write_text

PROJECT = Path(__file__).resolve().parent.parent
MARGIN, TOP, ROW = 18, 104, 38
NAME_X, TEXT_X, COLUMNS_X, COLUMN = 46, 166, 564, 64
TEXT_LETTERS = 64  # in a line of a description
STYLE = """
rect{stroke:#5b6770;stroke-width:1.2} .stage{fill:#d7e8f7} .room{fill:#f2efe6} .agpl{fill:#fbe3c8}
text{font-family:system-ui,sans-serif;fill:#1d252b} .s{font-size:11.5px}
.t{font-size:13px;font-weight:600;text-anchor:middle} .n{font-size:9.8px;text-anchor:middle}
.h{font-size:15px;font-weight:600}
path{stroke:#5b6770;stroke-width:1.4;fill:none} .line{stroke:#d9dde0;stroke-width:1}
.whole{fill:#0072B2} .part{fill:#fff;stroke:#0072B2;stroke-width:2}
""".strip()


class Room(NamedTuple):
    name: str
    text: str
    agpl: bool  # may import ultralytics
    whole: set[str]  # stages that depend on all of it
    part: set[str]  # stages that depend on some of its modules


def rooms_of(project: Path) -> tuple[list[str], list[Room]]:
    """The stages in their order, and the rooms from the top down: those of the contract that are there."""
    contracts = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    by_id = {contract["id"]: contract for contract in contracts}
    without = {name.removeprefix("seamline.") for name in by_id["ultralytics"]["source_modules"]}
    stages: dict[str, Any] = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    rooms = []
    for name in (layer.strip("()") for layer in by_id["rooms"]["layers"]):
        module = project / "seamline" / f"{name}.py"
        path = module if module.exists() else project / "seamline" / name / "__init__.py"
        if path.exists() and name != "__main__":
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            deps = {stage: {str(dep) for dep in found.get("deps", ())} for stage, found in stages.items()}
            whole = {stage for stage, found in deps.items() if f"seamline/{name}" in found}
            part = {stage for stage, found in deps.items() if any(dep.startswith(f"seamline/{name}/") for dep in found)}
            rooms.append(Room(name, text.splitlines()[0].replace("`", ""), name not in without, whole, part - whole))
    return list(stages), rooms


def drawing(stages: list[str], rooms: list[Room]) -> str:
    bottom = TOP + ROW * len(rooms)
    height, width = bottom + 44, width_of(stages)
    label = "The rooms of seamline/ from the top down, and the stages that depend on each"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">',
        f"<style>\n{STYLE}\n</style>",
        '<defs><marker id="h" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8"/></marker></defs>',
        f'<rect x="0" y="0" width="{width}" height="{height}" style="fill:#fff;stroke:none"/>',
        text_at("h", MARGIN, 30, "seamline/: rooms, each with one concern"),
        text_at("s", MARGIN, 50, "Imports run downwards only, those inside functions included (make lint)."),
        text_at("h", COLUMNS_X, 30, "stages/: the pipeline, in its order"),
        f'<path d="M{MARGIN + 8} {TOP + 4}L{MARGIN + 8} {bottom - 10}" marker-end="url(#h)"/>',
    ]
    for index, stage in enumerate(stages):
        x = COLUMNS_X + COLUMN * index
        parts.append(f'<rect class="stage" x="{x}" y="48" width="{COLUMN - 4}" height="34" rx="5"/>')
        parts.append(text_at("n", x + (COLUMN - 4) / 2, 69, stage))
    for index, room in enumerate(rooms):
        parts += row(room, TOP + ROW * index, stages)
    parts += legend(bottom + 22)
    return "\n".join([*parts, "</svg>", ""])


def width_of(stages: list[str]) -> int:
    return COLUMNS_X + COLUMN * len(stages) + MARGIN


def row(room: Room, y: float, stages: list[str]) -> list[str]:
    lines = textwrap.wrap(room.text, TEXT_LETTERS)
    parts = [
        f'<path class="line" d="M{NAME_X} {y + ROW - 2}L{width_of(stages) - MARGIN} {y + ROW - 2}"/>',
        f'<rect class="{"agpl" if room.agpl else "room"}" x="{NAME_X}" y="{y + 3}" width="108" height="27" rx="6"/>',
        text_at("t", NAME_X + 54, y + 21, room.name),
        *(text_at("s", TEXT_X, y + 21 - 7 * (len(lines) - 1) + 14 * at, line) for at, line in enumerate(lines)),
    ]
    for index, stage in enumerate(stages):
        if kind := "whole" if stage in room.whole else "part" if stage in room.part else "":
            x = COLUMNS_X + COLUMN * index + (COLUMN - 4) / 2
            title = f"<title>{stage}: {escape(room.name)}</title>"
            parts.append(f'<circle class="{kind}" cx="{x}" cy="{y + 17}" r="6">{title}</circle>')
    return parts


def legend(y: float) -> list[str]:
    return [
        f'<rect class="agpl" x="{NAME_X}" y="{y - 11}" width="16" height="14" rx="3"/>',
        text_at("s", NAME_X + 24, y, "may import ultralytics, which is AGPL"),
        f'<circle class="whole" cx="{COLUMNS_X + 8}" cy="{y - 4}" r="6"/>',
        text_at("s", COLUMNS_X + 22, y, "a change in the room reruns the stage"),
        f'<circle class="part" cx="{COLUMNS_X + 262}" cy="{y - 4}" r="6"/>',
        text_at("s", COLUMNS_X + 276, y, "a change in some of its modules does"),
    ]


def text_at(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text, quote=False)}</text>'


if __name__ == "__main__":
    write_text(PROJECT / "docs" / "inside.svg", drawing(*rooms_of(PROJECT)))
