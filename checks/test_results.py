"""The committed results belong to the committed code, parameters and data: nothing would come to others.

`make check-results` runs this. `make test` does not: it tests the code, whatever results a user has.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# What a fresh clone lacks: `dvc repro` or `dvc pull` brings what git ignores, and a source may lie elsewhere.
NOT_HERE = ("deleted", "not in cache")
ELSEWHERE = ("../", "/", "s3:", "https:")


def is_absent_from_clones(name: str) -> bool:
    """Whether a fresh clone cannot have the file: it lies outside of the project, or git ignores it."""
    ignored = ["git", "check-ignore", "--quiet", name]
    return name.startswith(ELSEWHERE) or subprocess.run(ignored, cwd=PROJECT).returncode == 0


def status_to_reasons(status: dict[str, list[Any]]) -> list[str]:
    """Why stages would run again, of `dvc status --json`; not where only what git ignores is missing here."""
    reasons = []
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):  # such as "changed command"
                reasons.append(f"{stage}: {change}")
                continue
            for kind, found in change.items():
                for name, state in found.items():
                    # Of params.yaml it is a mapping: each parameter and what became of it.
                    if state not in NOT_HERE or not is_absent_from_clones(name):
                        reasons.append(f"{stage}: {kind}: {name} ({state})")
    return reasons


def test_no_stage_would_come_to_other_results() -> None:
    done = subprocess.run([BIN / "dvc", "status", "--json"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reasons = status_to_reasons(json.loads(done.stdout))
    assert not reasons, "stale; `dvc repro`, and commit dvc.lock and reports/:\n" + "\n".join(reasons)


def test_what_is_missing_in_a_fresh_clone_is_no_reason_and_what_changed_is() -> None:
    missing = [{"changed deps": {"data/raw": "deleted"}}, {"changed outs": {"reports/pull.csv": "not in cache"}}]
    assert status_to_reasons({"subset": missing}) == []
    changed = [{"changed deps": {"seamline/base/coco.py": "modified", "data/raw": "modified"}}, "changed command"]
    changed.append({"changed outs": {"reports/subset.json": "deleted"}})
    changed.append({"changed deps": {"params.yaml": {"subset.images": "modified"}}})
    assert len(status_to_reasons({"subset": changed})) == 5
    assert status_to_reasons({"pull": [{"changed deps": {"../photos": "deleted"}}]}) == []
    assert len(status_to_reasons({"pull": [{"changed deps": {"../photos": "modified"}}]})) == 1
