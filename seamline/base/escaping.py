"""Text that users name (classes, photos, folders) in what people open: it is shown as it is, and has no effect.

Files that machines read (JSON, the tables of reports/, manifest.csv) are quoted by their writers and never altered.
"""

from __future__ import annotations

import re

# Text that a spreadsheet takes for a formula; it ignores a leading TAB and CR.
FORMULA = re.compile(r"^[\t\r\n ]*[=+\-@]|^[\t\r]")
# Marks of direction, which can reverse the text after them.
DIRECTION = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# What a terminal executes, shows in another place, or cannot show: control characters, separators of lines, marks of
# direction, bytes of file names that are not UTF-8.
OBEYED = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029{DIRECTION}\ud800-\udfff]")
# What may have a meaning to some reader of Markdown: CommonMark, GitHub's tables, links and formulas.
MARKED = re.compile(r"([\\`*_\[\]|~$&])")
BEGINS_A_BLOCK = re.compile(r"^(\d+)?([#+\-=.)])")


CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Markdown(str):
    """Text that is Markdown already."""


def to_markdown(value: object) -> Markdown:
    """Any text in a line of Markdown, a cell of a table included; Markdown stays as it is."""
    if isinstance(value, Markdown):
        return value
    text = MARKED.sub(r"\\\1", " ".join(str(value).split()))
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"(?i)(:)(?=//)|(www)(?=\.)", r"\g<0>\\", text)  # what GitHub would make a link of
    return Markdown(text)


def to_line(value: object) -> Markdown:
    """The same where a line, a heading or a list's entry begins with it."""
    return Markdown(BEGINS_A_BLOCK.sub(r"\1\\\2", to_markdown(value)))


def to_code(value: object) -> Markdown:
    """A code span that ends where its text does, however many backticks are in it."""
    text = " ".join(str(value).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}")


def has_control_character(text: str) -> bool:
    """Whether a terminal would execute something in it, wherever it is printed."""
    return CONTROL.search(text) is not None


def to_spreadsheet(value: object) -> object:
    """A cell of a table that people open with a spreadsheet, which would evaluate text that begins like a formula."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def to_terminal(value: object) -> str:
    """On one line of a terminal, which would execute control characters in a file's name."""
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


def without_direction_marks(text: str) -> str:
    """For pictures, where a mark in a name would reverse the score after it; letters keep their direction."""
    return re.sub(f"[{DIRECTION}]", "", text)
