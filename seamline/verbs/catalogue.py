"""Catalogue: garments of your photos, kept to search for similar ones (docs/search.md).

add takes files, folders, globs, addresses, or with --csv a table with a photo on each line and columns of your own; it
makes FOLDER or adds to it. Photos that are there already are not looked at again. remove takes out photos by their
names, or single garments by their ids. A kill at any moment leaves the old catalogue or the new one, and the same
command resumes. show says what a catalogue is. push sends one to a Qdrant server. What DVC keeps, such as
data/catalogue, is never changed.

Example: seamline catalogue add shop photos/2026 --csv items.csv
         seamline catalogue remove shop photos/2026/0012.jpg
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seamline.base.errors import SeamlineError, counted
from seamline.base.escaping import to_terminal
from seamline.base.numbers import MOST_THREADS, number_from
from seamline.people.options import add_people_options, check_people_options, with_people
from seamline.search.options import add_model_options, search_settings

SHOWN_FAILURES = 20


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "seamline catalogue", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = made.add_subparsers(dest="action", required=True, metavar="add|remove|show|push")
    add = actions.add_parser("add", help="add photos, or make a catalogue of them")
    add.add_argument("folder", type=Path, help="folder of the catalogue")
    add.add_argument("images", nargs="*", help="files, folders, globs in quotes, s3://, https:// and http:// addresses")
    add.add_argument("--csv", action="append", default=[], metavar="FILE", help="a table with a photo on each line")
    add.add_argument("--file-column", help="the table's column with the photos (default: file_name, photo, path, ...)")
    add_model_options(add)
    add.add_argument(
        "--confidence",
        type=number_from(float, 0, 1),
        help="leave out garments with a lower score (default: the model's)",
    )
    add.add_argument(
        "--threads", type=number_from(int, 1, MOST_THREADS), help="CPU threads (default: all usable cores)"
    )
    add.add_argument(
        "--crop-px",
        type=number_from(int, 0, 1024),
        default=160,
        help="side of the pictures in it; 0: none (default: 160)",
    )
    add.add_argument("--attributes", type=Path, metavar="MODEL", help="store attributes of each garment, to filter by")
    add_people_options(add)
    add.set_defaults(device="cpu")  # of the model of --people
    remove = actions.add_parser("remove", help="take photos or garments out")
    remove.add_argument("folder", type=Path, help="folder of the catalogue")
    remove.add_argument("names", nargs="+", help="names of photos, or ids of garments, as show --photos lists them")
    show = actions.add_parser("show", help="say what a catalogue is")
    show.add_argument("folder", type=Path, help="folder of the catalogue")
    show.add_argument("--photos", action="store_true", help="list its photos and garments")
    push = actions.add_parser("push", help="send a catalogue to a Qdrant server")
    push.add_argument("folder", type=Path, help="folder of the catalogue")
    push.add_argument("--url", help="of the server (default: search.url of params.yaml, else http://localhost:6333)")
    push.add_argument("--collection", help="its name there (default: search.collection, else garments)")
    return made


def main(arguments: Sequence[str]) -> None:
    made = parser()
    args = made.parse_args(arguments)
    if args.action == "add":
        if not args.images and not args.csv:
            made.error("name photos, or with --csv a table of them")
        check_people_options(made, args)
    {"add": add, "remove": remove, "show": show, "push": push}[args.action](args)


def add(args: argparse.Namespace) -> None:
    from seamline.inference.classifier import AttributeClassifier
    from seamline.inference.detector import Detector
    from seamline.inference.embedder import Embedder
    from seamline.inference.threads import limit_other_threads
    from seamline.models.attribute_facts import check_classes
    from seamline.photos.predicting import model_sha256
    from seamline.photos.remote import Remote
    from seamline.search.building import Tools
    from seamline.search.changing import add as add_to
    from seamline.search.changing import check_own
    from seamline.search.sources import csv_to_listing, joined, words_to_listing

    check_own(args.folder)
    limit_other_threads()
    remote = Remote()
    try:
        listings = [csv_to_listing(Path(name), args.file_column, remote) for name in args.csv]
        listing = joined(([words_to_listing(args.images, remote)] if args.images else []) + listings)
        garments = Detector(args.model, args.confidence, threads=args.threads)
        with garments, with_people(garments, args) as detector, Embedder(args.embedder, args.threads) as embedder:
            classifier = AttributeClassifier(args.attributes, args.threads) if args.attributes else None
            if classifier is not None:
                check_classes(classifier.facts, garments.names, args.attributes)
            tools = Tools(detector, embedder, args.crop_px or None, False, remote, classifier)
            sha256 = model_sha256(args.model)
            added = add_to(args.folder, listing, tools, sha256, search_settings().hnsw_from)
    finally:
        remote.close()
    for name, reason in listing.oddities:
        print(to_terminal(f"{name}: {reason}"), file=sys.stderr)
    parts = [f"{counted(added.new, 'photo')} added"]
    parts += [f"{added.changed} changed"] if added.changed else []
    parts += [f"{added.there} there already"] if added.there else []
    print(f"{', '.join(parts)}; {args.folder} has {counted(added.facts.garments, 'garment')} in {added.facts.photos}")
    if added.unusable:
        print(f"{counted(len(added.unusable), 'photo')} cannot be used:", file=sys.stderr)
        for name, reason in added.unusable[:SHOWN_FAILURES]:
            print(to_terminal(f"{name}: {reason}"), file=sys.stderr)
        if len(added.unusable) > SHOWN_FAILURES:
            print(f"and {len(added.unusable) - SHOWN_FAILURES:,} more (seamline catalogue show)", file=sys.stderr)
        sys.exit(1)


def remove(args: argparse.Namespace) -> None:
    from seamline.search.changing import remove as remove_from

    gone, facts = remove_from(args.folder, args.names)
    left = f"{counted(facts.garments, 'garment')} in {counted(facts.photos, 'photo')}"
    print(f"{counted(gone, 'garment')} removed; {args.folder} has {left}")


def show(args: argparse.Namespace) -> None:
    from seamline.search.catalogue import open_catalogue

    with open_catalogue(args.folder) as catalogue:
        facts = catalogue.facts
        print(f"{counted(facts.garments, 'garment')} in {counted(facts.photos, 'photo')}")
        for name, count in facts.classes.items():
            print(to_terminal(f"  {name}: {count}"))
        print(to_terminal(f"columns: {', '.join(facts.columns) or 'none'}"))
        print(to_terminal(f"attributes: {', '.join(catalogue.attributes) or 'none'}"))
        name, dimension = facts.embedder.get("name", "?"), facts.dimension
        print(to_terminal(f"embedder: {name} ({facts.embedder_identity[:12]}), {dimension} numbers a vector"))
        print(f"model: {facts.detector['sha256'][:12]}, scores from {facts.detector['confidence']:g}")
        print(f"index: {facts.index}")
        if facts.photos_twice:
            print(f"{counted(facts.photos_twice, 'photo')} with the bytes of another one")
        for photo, reason in catalogue.table.unusable():
            print(to_terminal(f"cannot be used: {photo}: {reason}"))
        if args.photos:
            for identity, class_name, score in catalogue.table.all(
                "SELECT id, class, score FROM garments ORDER BY row"
            ):
                print(to_terminal(f"{identity}  {class_name}  {score:.2f}"))


def push(args: argparse.Namespace) -> None:
    from seamline.search.catalogue import open_catalogue
    from seamline.search.qdrant import connect
    from seamline.search.qdrant import push as push_to

    settings = search_settings()
    url, name = args.url or settings.url, args.collection or settings.collection
    client: Any = connect(url)
    with open_catalogue(args.folder) as catalogue:
        count = push_to(client, name, url, catalogue)
        if count != catalogue.facts.garments:
            raise SeamlineError(f"{url}: {name} has {count:,} garments, and {catalogue.facts.garments:,} were sent.")
    print(f"{url}: {name} has {counted(count, 'garment')}")
