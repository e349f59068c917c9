"""The committed simulation is what the documents show, and a small one of now gives about the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.coverage import AS_SAMPLE, LARGE_GROUPS, SINGLE_PHOTOS, Population, coverage, verdicts
from seamline.base.files import read_json

DOCS = Path(__file__).parents[2] / "docs"


def test_the_documents_table_is_the_committed_simulation() -> None:
    text = (DOCS / "evaluation.md").read_text()
    for groups, row in read_json(DOCS / "coverage.json")["groups"].items():
        if int(groups) >= 40:
            assert 0.92 <= row["coverage"] <= 0.97
            assert min(row["coverage_single_photos"], row["coverage_large_groups"]) >= 0.92
        assert f"| {groups} | " + " | ".join(f"{value:.0%}" for value in row.values()) + " |\n" in text


@pytest.mark.parametrize("of", [AS_SAMPLE, SINGLE_PHOTOS, LARGE_GROUPS])
def test_intervals_hold(of: Population) -> None:
    assert coverage(of, 40, 40, 5) >= 0.85


def test_verdicts_do_not_cry_wolf() -> None:
    assert verdicts(40, 40, 0.0, 5) <= 0.15
