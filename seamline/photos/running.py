"""A run over photos, as predict and describe make it: it resumes, and says in the end which files it could not use."""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seamline.base.escaping import to_terminal
from seamline.photos.journal import Journal, open_journal
from seamline.photos.listing import PhotoList
from seamline.photos.predicting import MISSING, Finder, Wanted, done_before, predict_missing
from seamline.photos.remote import Remote
from seamline.photos.suffixes import passed_over_text
from seamline.photos.writing import Summary, writing_to

if TYPE_CHECKING:
    from seamline.photos.describing import Describer


class Run(NamedTuple):
    summary: Summary
    seconds: float  # that its photos took, without those that were finished before
    before: int  # photos that were


def predict_resumed(
    out: Path,
    asked: Mapping[str, Any],
    photos: PhotoList,
    detector: Finder,
    wanted: Wanted,
    remote: Remote,
    write: Callable[[Journal, array[int]], Summary],
    called: str = "images",
    batch: int = 1,
    describer: Describer | None = None,
) -> Run:
    """Predict what no earlier run has, and write all.

    Args:
        asked: all that the results depend on; an earlier run that asked for something else is not resumed.
        write: what OUT gets, of the journal and of the photos' positions in it.
        called: what photos are, in what is printed.
        batch: see done_before.

    Raises:
        SeamlineError: when the model fails, or OUT cannot be written.
    """
    with writing_to(out), open_journal(out, asked) as journal:
        positions = done_before(photos, journal, batch, remote)
        before = len(positions) - positions.count(MISSING)
        if before:
            print(f"{before:,} of {len(photos):,} {called} are done already")
        start = time.perf_counter()
        predict_missing(detector, photos, positions, journal, wanted, remote, describer)
        seconds = time.perf_counter() - start
        summary = write(journal, positions)
        journal.finish(keep=summary.again > 0)
    return Run(summary, seconds, before)


def report_unusable(out: Path, photos: PhotoList, summary: Summary) -> None:
    """Print which files were passed over or could not be used; exit with 1 if there are any of the latter."""
    if photos.passed_over:
        print(passed_over_text(photos.passed_over))
    if not summary.failed:
        return
    print(f"{summary.failed} of {len(photos)} files cannot be used ({out / 'errors.csv'}):", file=sys.stderr)
    for name, reason in summary.failures:
        print(to_terminal(f"{name}: {reason}"), file=sys.stderr)
    if summary.failed > len(summary.failures):
        print(f"and {summary.failed - len(summary.failures):,} more", file=sys.stderr)
    if summary.again:
        print(f"{summary.again:,} of them could not be read; the same command tries those again", file=sys.stderr)
    sys.exit(1)
