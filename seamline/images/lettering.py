"""Letters of all languages in pictures: the fonts that packages bring, and what is said where none has a letter.

matplotlib's own font (DejaVu) comes first, so that a picture with names in Latin letters is the same with the packages
and without. No font of the system is taken: a picture is the same on every machine. matplotlib shapes Arabic and Indic
letters, orders what is read from the right, and takes each letter from the first font that has it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import itertools
import sys
import textwrap
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.ft2font import FT2Font, LoadFlags

from seamline.base.escaping import without_direction_marks

# The extra `fonts`: letters and emoji as Noto publishes them; Chinese, Japanese and Korean, the same file as Debian's.
PACKAGES = ("manimgx_fonts", "noto_cjk_sans_otc")
# Of the faces in the last file: each has all letters, and those that countries write in different ways as one of them
# does. This one is mainland China's.
CJK_FACE = 2
PREFIX = "seamline "  # of the families' names for matplotlib, which a font of the system does not have
known: set[str] = set()  # letters that were looked for
said: set[str] = set()  # what a sentence was about


class Face(NamedTuple):
    path: Path
    number: int  # in the file


def dejavu(name: str = "DejaVuSans") -> Path:
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


@functools.cache
def more_faces() -> tuple[Face, ...]:
    """The fonts installed besides matplotlib's own, in the order in which they are searched for a letter."""
    found = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec is not None else []:
            found += [path for path in Path(folder).iterdir() if path.suffix in (".ttf", ".ttc")]
    upright = sorted((path for path in found if "Italic" not in path.name), key=place)
    return tuple(Face(path, CJK_FACE if path.suffix == ".ttc" else 0) for path in upright)


def place(path: Path) -> tuple[bool, bool, bool, str]:
    """Fonts of letters first, then those of symbols and emoji, which several fonts have."""
    return path.suffix == ".ttc", "Symbols" in path.name, "Emoji" in path.name, path.name


@functools.cache
def opened(face: Face) -> FT2Font:
    return FT2Font(face.path, face_index=face.number)


@functools.cache
def prepare_charts() -> None:
    """Have matplotlib use the other fonts for letters that its own lacks; once, before a figure is made."""
    from matplotlib import font_manager  # slow: looks at every font there is

    families = []
    for face in more_faces():
        entry = font_manager.ttfFontProperty(opened(face))
        families.append(f"{PREFIX}{entry.name}")
        font_manager.fontManager.ttflist.append(dataclasses.replace(entry, name=families[-1]))
    matplotlib.rcParams["font.family"] = ["sans-serif", *families]


def text_to_mask(text: str, size_px: float, first: Path) -> npt.NDArray[np.uint8]:
    """How much of each pixel a line of text covers, 0 to 255; `first` is the font to look in first."""
    from matplotlib.font_manager import FontPath, get_font

    font = get_font([FontPath(str(path), number) for path, number in (Face(first, 0), *more_faces())])
    font.set_size(size_px, 72)
    text = text.encode(errors="replace").decode()  # halves of characters, which matplotlib refuses
    with without_warnings():
        font.set_text(text, flags=LoadFlags.NO_HINTING)  # or letters grow in steps, and a smaller text may not fit
    say_missing(text)
    font.draw_glyphs_to_bitmap(antialiased=True)
    return np.array(font.get_image(), dtype=np.uint8)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence matplotlib's warnings about letters that no font has, which come for every letter, every time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font")
        yield


def say_missing(text: str) -> None:
    """Print a sentence, once in a process, about letters that no font here has."""
    missing = [letter for letter in sorted(set(text) - known) if is_visible(letter) and not has(letter)]
    known.update(text)
    if missing and not said:
        said.update(missing)
        shown = " ".join(missing[:8])
        remedy = "" if all(map(importlib.util.find_spec, PACKAGES)) else "; docs/models.md says what brings fonts"
        print(
            f"pictures: letters such as {shown} are drawn as boxes, since no font here has them{remedy}.",
            file=sys.stderr,
        )


def is_visible(letter: str) -> bool:
    """Not a joiner, a mark of direction or a variation selector, for which fonts need nothing to draw."""
    return unicodedata.category(letter) not in ("Cc", "Cf", "Zs", "Zl", "Zp") and not "\ufe00" <= letter <= "\ufe0f"


def has(letter: str) -> bool:
    return any(opened(face).get_char_index(ord(letter)) for face in (Face(dejavu(), 0), *more_faces()))


def in_first_font(text: str) -> bool:
    """Whether matplotlib's own font has every letter."""
    return all(opened(Face(dejavu(), 0)).get_char_index(ord(letter)) for letter in set(text))


def shortened(text: str, limit: int = 32) -> str:
    """Cut in the middle, since file names and classes differ at both ends; no letter is cut from its marks.

    Marks of direction are left out, whatever the length.

    Args:
        text: a name.
        limit: columns it may take; a Chinese letter takes two.
    """
    text = without_direction_marks(text)
    letters = text_to_letters(text)
    columns = list(itertools.accumulate(map(columns_of_letter, letters)))
    if not columns or columns[-1] <= limit:
        return text
    head = [letter for letter, end in zip(letters, columns, strict=True) if end <= limit // 2 - 1]
    tail = [letter for letter, end in zip(letters[1:], columns, strict=False) if columns[-1] - end <= limit // 2]
    return f"{''.join(head)}…{''.join(tail)}"


def wrapped(text: str, limit: int) -> str:
    """In lines of at most `limit` columns."""
    wide = any(columns_of_letter(letter) > 1 for letter in text)
    return "\n".join(textwrap.wrap(text, limit // 2 if wide else limit))


def text_to_letters(text: str) -> list[str]:
    """Each with its marks, and what is joined to one picture; about what Unicode calls grapheme clusters."""
    letters: list[str] = []
    for one in text:
        if letters and is_joined(letters[-1], one):
            letters[-1] += one
        else:
            letters.append(one)
    return letters


def is_joined(before: str, one: str) -> bool:
    """Whether a character belongs to the letter before it."""
    flag = len(before) == 1 and "\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= one <= "\U0001f1ff"
    skin, tag, jamo = (
        "\U0001f3fb" <= one <= "\U0001f3ff",
        "\U000e0020" <= one <= "\U000e007f",
        "\u1160" <= one <= "\u11ff",
    )
    virama = unicodedata.combining(before[-1]) == 9 and unicodedata.category(one) == "Lo"
    mark = unicodedata.category(one).startswith("M") or one == "\u200d"
    return flag or skin or tag or jamo or virama or mark or before.endswith("\u200d")


def columns_of(text: str) -> int:
    return sum(map(columns_of_letter, text_to_letters(text)))


def columns_of_letter(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter[0]) in "WF" else 1
