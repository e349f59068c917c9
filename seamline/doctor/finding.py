"""What a check of the doctor finds, and how it is shown.

Here and in the modules of the checks only the standard library is imported at the top: missing packages are among the
things that the doctor looks for.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

AGAIN = "`make -B setup`"  # without -B make has nothing to do


class Finding(NamedTuple):
    """What a check found; level FAIL: a command would fail; note: it would not, but the user should know."""

    level: Literal["ok", "note", "FAIL"]
    name: str
    found: str
    remedy: str = ""


def attempt(check: Callable[..., Finding], *arguments: Any) -> Finding:
    """A check's finding; where the check cannot be made, a finding that says why, so that the others still run."""
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        return check(*arguments)
    except ImportError as error:
        return Finding("note", name, f"not checked, since a package is missing ({error})", AGAIN)
    except OSError as error:
        return Finding("note", name, f"not checked ({error})", "let this user read it")
    except Exception as error:  # a bug of ours, shown in full, which must not hide what the others find
        traceback.print_exc()
        found = f"the check itself failed ({type(error).__name__}: {error}); the traceback is above"
        return Finding("FAIL", name, found, "report it to the maintainers of seamline/doctor")


def finding_lines(finding: Finding) -> list[str]:
    """For a terminal or a log: one line, and one with what to do."""
    lines = [f"{finding.level:<5} {finding.name:<14} {finding.found}"]
    return [*lines, f"{'':<21}{finding.remedy}"] if finding.remedy else lines


def conclusion(made: Sequence[Finding]) -> str:
    """The last line of the doctor: how many checks were made, and what would fail."""
    failing = [finding.name for finding in made if finding.level == "FAIL"]
    notes = sum(finding.level == "note" for finding in made)
    noted = f"; {notes} note{'s' if notes > 1 else ''}" if notes else ""
    if not failing:
        return f"{len(made)} checks: nothing would fail{noted}."
    return f"{len(made)} checks: {len(failing)} would fail ({', '.join(failing)}){noted}."
