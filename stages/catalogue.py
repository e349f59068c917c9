"""Catalogue: garments found in product photos, with their vectors, to search for similar ones; and its recall.

Photos are a folder, with a CSV or without, a bucket, or the pulled dataset (catalogue.source, catalogue.csv). OUT gets
vectors, table and facts (docs/search.md), REPORT/catalogue.json what they are and how often a search finds the right
garment, REPORT/recall.json what dvc metrics show prints, REPORT/catalogue pictures of questions with their answers.
What was looked at is in SCRATCH until OUT is whole: after a kill the same command resumes. A photo that cannot be used
costs itself alone.

Example: python -m stages.catalogue models/export/openvino models/embedder/openvino data/split data/catalogue
"""

import argparse
import contextlib
from pathlib import Path
from typing import Any

import msgspec

from seamline.base.coco import Record
from seamline.base.errors import some
from seamline.base.files import beside, check_out, whole_folder, write_bytes, write_json
from seamline.base.process import SCRATCH, run
from seamline.params.catalogue import Catalogue
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import Params, load_params
from seamline.params.people import People
from seamline.params.search import Search
from seamline.params.subset import Subset

LISTED = 1000  # photos that cannot be used, in the report; the table has all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model that finds garments, such as models/export/openvino")
    parser.add_argument("embedder", type=Path, help="an embedder, such as models/embedder/openvino")
    parser.add_argument("split", type=Path, help="folder with the splits that the model was trained on: data/split")
    parser.add_argument("out", type=Path, help="folder to make, such as data/catalogue")
    parser.add_argument("--report", type=Path, help="folder for figures and pictures (default: OUT-report)")
    args = parser.parse_args()

    from seamline.search.catalogue_facts import FILES

    report = args.report or beside(args.out, "report")
    check_out(args.out, FILES, [args.model, args.embedder, args.split])
    check_out(report / "catalogue", ("*.jpg",))
    params = load_params()
    settings = params[Catalogue]
    if not settings.enabled:
        write_nothing(args.out, report)
        return

    from seamline.search.sources import with_csv

    source = with_csv(settings.source, settings.csv)
    written, unusable, oddities = make(args, params, source)
    measured = look_at(args.out, report / "catalogue", params, source)
    facts = {key: value for key, value in msgspec.to_builtins(written).items() if key != "columns"}
    lists = {"unusable_photos": unusable[:LISTED], "oddities": oddities[:LISTED]}
    write_json(report / "catalogue.json", {"source": source, **facts, **lists, **measured})
    print_figures(args.out, written, unusable, oddities, measured)


def make(args: argparse.Namespace, params: Params, source: str) -> tuple[Any, list[Any], list[Any]]:
    """Write the catalogue; returns its facts, the photos that cannot be used, and what was odd."""
    from seamline.inference.detector import Detector
    from seamline.inference.embedder import Embedder
    from seamline.inference.threads import limit_other_threads
    from seamline.people.detector import open_people
    from seamline.photos.predicting import model_sha256
    from seamline.photos.remote import Remote
    from seamline.search.building import Tools, listed_to_entries, open_journal, run_key
    from seamline.search.changing import tools_to_makers
    from seamline.search.sources import find_listing, splits_by_name
    from seamline.search.truth import check_chosen
    from seamline.search.writing import placeless, write_catalogue

    limit_other_threads()
    settings, people = params[Catalogue], params[People]
    with contextlib.closing(Remote()) as remote, contextlib.ExitStack() as stack:
        listing = find_listing(source, settings.file_column, splits_by_name(args.split), remote)
        check_chosen(settings, listing.columns)  # before hours of work
        detector: Any = Detector(args.model, settings.confidence)
        if people.model is not None:
            detector = open_people(detector, Path(people.model), people)
        stack.enter_context(detector)
        sha256 = model_sha256(args.model)
        embedder = stack.enter_context(Embedder(args.embedder))
        tools = Tools(detector, embedder, settings.crop_px, settings.item is not None, remote)
        makers = tools_to_makers(tools, sha256, params[Search].hnsw_from)
        unusable: list[tuple[str, str]] = []
        with open_journal(SCRATCH / "catalogue", args.out, run_key(tools, sha256)) as journal:
            entries = placeless(listed_to_entries(listing.photos, tools, journal), unusable)
            written = write_catalogue(args.out, entries, listing.columns, makers)
    return written, unusable, listing.oddities


def look_at(out: Path, pictures: Path, params: Params, source: str) -> Record:
    """Measure the recall; returns what the report says of it."""
    from seamline.search.catalogue import open_catalogue
    from seamline.search.measuring import annotations_of, measure, small

    annotations = annotations_of(Path(source), params[Subset])
    with open_catalogue(out) as catalogue:
        measured = measure(catalogue, params[Catalogue], annotations, params[Evaluate].slices)
    with whole_folder(pictures) as folder:
        for name, data in measured.pictures.items():
            write_bytes(folder / name, data)
    write_json(pictures.with_name("recall.json"), small(measured.report))
    return measured.report


def write_nothing(out: Path, report: Path) -> None:
    reason = "it is switched off (catalogue.enabled)."
    for folder in (out, report / "catalogue"):
        with whole_folder(folder):
            pass
    write_json(report / "catalogue.json", {"source": None, "recall": None, "reason": reason})
    write_json(report / "recall.json", {})
    print(f"no catalogue: {reason}")


def print_figures(out: Path, facts: Any, unusable: list[Any], oddities: list[Any], measured: Record) -> None:
    from seamline.search.measuring import sentence

    print(f"{out}: {facts.garments:,} garments in {facts.photos:,} photos, {facts.index} index")
    if unusable:
        print(f"{len(unusable):,} photos cannot be used: {some([f'{name}: {reason}' for name, reason in unusable])}")
    if oddities:
        print(f"{len(oddities):,} lines left out: {some([f'{name} {reason}' for name, reason in oddities])}")
    print(sentence(measured))


if __name__ == "__main__":
    run(main)
