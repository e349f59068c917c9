"""What a check of `make doctor` finds, and how it is told.

Only what Python brings is imported at the top, here and in the modules of the checks: missing packages are among what
is looked for.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

AGAIN = "`make -B setup`"  # without -B make has nothing to do
NAMED = 4  # of many at most so many are named


class Finding(NamedTuple):
    """What a check found; level FAIL: a command would fail, note: it would not, but one should know."""

    level: Literal["ok", "note", "FAIL"]
    name: str
    found: str
    remedy: str = ""


def attempt(check: Callable[..., Finding], *arguments: Any) -> Finding:
    """A check's finding; where there is none, one that says why, so that the other checks are made all the same."""
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        return check(*arguments)
    except ImportError as error:
        return Finding("note", name, f"not looked at, since a package is missing ({error})", AGAIN)
    except OSError as error:
        return Finding("note", name, f"not looked at ({error})", "see that this user may read it")
    except Exception as error:  # a mistake of ours, which is told in full and must not hide what the others find
        traceback.print_exc()
        told = f"the check itself failed ({type(error).__name__}: {error}); what it did is above"
        return Finding("FAIL", name, told, "tell who maintains seamline/doctor")


def finding_lines(finding: Finding) -> list[str]:
    """For a terminal or a log: one line, and one with what to do."""
    lines = [f"{finding.level:<5} {finding.name:<14} {finding.found}"]
    return [*lines, f"{'':<21}{finding.remedy}"] if finding.remedy else lines


def conclusion(findings: Sequence[Finding]) -> str:
    failing = [finding.name for finding in findings if finding.level == "FAIL"]
    notes = sum(finding.level == "note" for finding in findings)
    beside = f"; {notes} to know of" if notes else ""
    if not failing:
        return f"{len(findings)} things looked at: nothing would fail{beside}."
    return f"{len(findings)} things looked at: {len(failing)} would fail ({', '.join(failing)}){beside}."


def some(things: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(things) - NAMED
    return ", ".join(things[:NAMED]) + (f" and {more} more" if more > 0 else "")
