"""The committed simulation is what the documents show, and a small one of now gives about the same."""

from __future__ import annotations

from pathlib import Path

from bench.coverage import coverage, verdicts
from seamline.base.files import read_json

DOCS = Path(__file__).parents[2] / "docs"


def test_the_documents_table_is_the_committed_simulation() -> None:
    text = (DOCS / "evaluation.md").read_text()
    for groups, row in read_json(DOCS / "coverage.json")["groups"].items():
        assert f"| {groups} | " + " | ".join(f"{value:.0%}" for value in row.values()) + " |\n" in text


def test_intervals_hold_and_verdicts_do_not_cry_wolf() -> None:
    assert coverage(40, 40, 5) >= 0.8
    assert verdicts(40, 40, 0.0, 5) <= 0.15
