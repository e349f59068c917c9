"""Embedders side by side on one's own pairs: each makes a catalogue of the same photos, whose recall is measured."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.process import SCRATCH
from seamline.params.catalogue import Catalogue as Settings
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import Params, load_params
from seamline.params.subset import Subset
from seamline.photos.predicting import model_sha256
from seamline.photos.remote import Remote
from seamline.search.building import Tools, listed_to_entries, open_journal, run_key
from seamline.search.catalogue import open_catalogue
from seamline.search.changing import tools_to_makers
from seamline.search.measuring import annotations_of, measure
from seamline.search.recall import MEASURES
from seamline.search.sources import find_listing, with_csv
from seamline.search.truth import check_chosen
from seamline.search.writing import write_catalogue


def compare_embedders(embedders: Sequence[Path], model: Path, threads: int | None) -> list[Record]:
    """What is measured of each, in their order.

    Raises:
        SeamlineError: when there are no photos or no pairs (catalogue.source, catalogue.item).
    """
    params = load_params()
    return [compare_one(path, model, threads, params) for path in embedders]


def compare_one(path: Path, model: Path, threads: int | None, params: Params) -> Record:
    from seamline.inference.detector import Detector
    from seamline.inference.embedder import Embedder

    settings = params[Settings]
    source = with_csv(settings.source, settings.csv)
    with contextlib.closing(Remote()) as remote:
        listing = find_listing(source, settings.file_column, {}, remote)
        check_chosen(settings, listing.columns)
        sha256 = model_sha256(model)
        with (
            Detector(model, settings.confidence, threads=threads) as detector,
            Embedder(path, threads) as embedder,
            tempfile.TemporaryDirectory(prefix="seamline-") as folder,
        ):
            tools = Tools(detector, embedder, None, True, remote)
            key = run_key(tools, sha256)
            out = Path(folder) / "catalogue"
            with open_journal(SCRATCH / f"compare-{key}", path, key) as journal:
                entries = listed_to_entries(listing.photos, tools, journal)
                write_catalogue(out, entries, listing.columns, tools_to_makers(tools, sha256, None))
            with open_catalogue(out, embedder, threads) as catalogue:
                annotations = annotations_of(Path(source), params[Subset])
                report = measure(catalogue, settings, annotations, params[Evaluate].slices)
    if report.report["recall"] is None:
        raise SeamlineError(f"embedders cannot be compared: {report.report['reason']}")
    return {"embedder": str(path), "name": embedder.facts.name, "identity": embedder.identity, **report.report}


def comparison_to_lines(found: Sequence[Record]) -> list[str]:
    """A table: an embedder a line, each measure with its interval."""
    names = [name for name in MEASURES if name != "recall@20"]
    rows = [["", *names]]
    for record in found:
        measured = record[record["recall"]]
        cells = []
        for name in names:
            value, span = measured[name]["value"], measured[name]["interval"]
            cells.append(f"{value:.3f}" + ("" if span is None else f" ({span[0]:.3f} to {span[1]:.3f})"))
        rows.append([record["embedder"], *cells])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    first = found[0][found[0]["recall"]]
    return [*lines, f"{first['questions']} questions in {first['groups']} groups"]
