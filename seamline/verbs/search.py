"""Search: garments of a catalogue that are similar to those in a photo, to a vector, or to a text.

The search is for each garment that is found in PHOTO; with --garment 2 for the second one alone, with --whole for the
whole photo. Answers come best first with their similarity (the cosine, at most 1); those that are nearly the same
picture are one answer. Filters are exact: --class and --where may be given several times, values of one column are
alternatives.

--compare embeds the photos of catalogue.source (params.yaml) with each EMBEDDER and prints how often a search finds the
right garment, so that you choose by your own pairs.

Example: seamline search photo.jpg --class trousers --where source=shop -k 5 --sheet similar.jpg
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seamline.base.errors import SeamlineError
from seamline.base.escaping import to_terminal
from seamline.base.numbers import MOST_THREADS, number_from
from seamline.search.options import CATALOGUE, add_model_options, search_settings

if TYPE_CHECKING:
    from seamline.search.asking import AnyCatalogue, Question
    from seamline.search.catalogue import Match
    from seamline.search.filters import Filters

COLUMN_WIDTH = 24


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "seamline search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("photo", nargs="?", type=Path, help="an image file")
    add("--garment", type=number_from(int, 1, 1000), metavar="N", help="search for the photo's Nth garment alone")
    add("--whole", action="store_true", help="search for the photo as a whole")
    add("--vector", type=Path, metavar="FILE.npy", help="search for a vector, or for several")
    add("--text", help="search for a text, if the embedder embeds texts")
    add("--id", help="search for a garment of the catalogue, by its id")
    add("--catalogue", type=Path, default=Path(CATALOGUE), help=f"folder of the catalogue (default: {CATALOGUE})")
    add_model_options(made)
    add("--class", dest="classes", action="append", default=[], metavar="NAME", help="answers of this class only")
    add("--where", action="append", default=[], metavar="COLUMN=VALUE", help="answers with this value in a column only")
    add("--attribute", action="append", default=[], metavar="NAME=VALUE", help="answers with this attribute only")
    add("-k", type=number_from(int, 1, 10_000), default=10, help="at most this many answers (default: 10)")
    add("--min-score", type=number_from(float, -1, 1), help="the lowest similarity of an answer")
    add("--all", action="store_true", help="each of several that are nearly the same picture is an answer")
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--sheet", type=Path, metavar="FILE.jpg", help="write a picture of the answers")
    add("--url", help="search on this Qdrant server (default: as search.backend of params.yaml says)")
    add("--collection", help="its catalogue (default: search.collection, else garments)")
    add("--threads", type=number_from(int, 1, MOST_THREADS), help="CPU threads (default: all usable cores)")
    add("--compare", nargs="+", type=Path, metavar="EMBEDDER", help="recall of several embedders on your own pairs")
    return made


def pairs(texts: Sequence[str], option: str) -> dict[str, set[str]]:
    """COLUMN=VALUE, several times, as columns with their values.

    Raises:
        SeamlineError: for a text without =.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SeamlineError(f"{option} {text!r}: has to be NAME=VALUE.")
        found[name].add(value)
    return dict(found)


def main(arguments: Sequence[str]) -> None:
    made = parser()
    args = made.parse_args(arguments)
    asked = [name for name in ("photo", "vector", "text", "id", "compare") if getattr(args, name) is not None]
    if len(asked) != 1:
        made.error("name one photo, or one of --vector, --text, --id and --compare")
    if (args.garment is not None or args.whole) and (args.photo is None or (args.garment is not None and args.whole)):
        made.error("--garment and --whole: need a photo, and cannot be combined")
    if args.compare:
        compare(args)
        return

    from seamline.inference.threads import limit_other_threads
    from seamline.search.asking import ask, open_search
    from seamline.search.catalogue import DUPLICATES
    from seamline.search.filters import Filters

    limit_other_threads()
    filters = Filters(args.classes, pairs(args.where, "--where"), pairs(args.attribute, "--attribute"))
    with open_search(args, search_settings()) as (catalogue, embedder):
        questions = ask(args, catalogue, embedder)
        vectors = [question.vector for question in questions]
        duplicates = None if args.all else DUPLICATES
        found = catalogue.search(vectors, args.k, filters, args.min_score, duplicates) if vectors else []
        if args.sheet is not None:
            write_sheet(args.sheet, questions, found, catalogue)
        for name, value in values_of_nothing(catalogue, filters) if args.where or args.attribute else ():
            print(f"no garment of the catalogue has {to_terminal(name)}={to_terminal(value)}", file=sys.stderr)
    print_answers(args, questions, found)


def values_of_nothing(catalogue: "AnyCatalogue", filters: "Filters") -> list[tuple[str, str]]:
    """Columns and attributes with values that no garment of a catalogue has: mistyped, as a rule.

    Of a catalogue on a server nothing is said: it would be a request for each.
    """
    from seamline.search.catalogue import Catalogue
    from seamline.search.filters import Filters

    if not isinstance(catalogue, Catalogue):
        return []
    alone = [(name, value, Filters(columns={name: value})) for name, own in filters.columns.items() for value in own]
    alone += [
        (name, value, Filters(attributes={name: value})) for name, own in filters.attributes.items() for value in own
    ]
    return [(name, value) for name, value, one in alone if not len(catalogue.table.rows_of(one, catalogue.classes))]


def print_answers(args: argparse.Namespace, questions: "Sequence[Question]", found: "Sequence[list[Match]]") -> None:
    import msgspec

    if args.json:
        records = [
            {**question.record, "matches": [msgspec.to_builtins(match) for match in matches]}
            for question, matches in zip(questions, found, strict=True)
        ]
        print(msgspec.json.format(msgspec.json.encode({"questions": records}), indent=2).decode())
        return
    if not questions:
        print("no garment was found in the photo; --whole searches for the photo as a whole", file=sys.stderr)
    for question, matches in zip(questions, found, strict=True):
        print(to_terminal(question.title))
        for row in to_table(matches):
            print(to_terminal(row.rstrip()))
        if not matches:
            print("  no garment is similar enough and meets the conditions")


def to_table(matches: "Sequence[Match]") -> list[str]:
    """A line for each answer: its place, similarity, class, id, split and columns."""
    if not matches:
        return []
    columns = list(matches[0].columns)
    rows = [["", "similarity", "class", "id", "split", *columns, "also"]]
    for place, match in enumerate(matches, 1):
        values = [match.columns[name] or "" for name in columns]
        also = f"{len(match.duplicates)} nearly the same" if match.duplicates else ""
        rows.append(
            [str(place), f"{match.similarity:.3f}", match.class_name, match.id, match.split or "", *values, also]
        )
    cut = [[cell if len(cell) <= COLUMN_WIDTH else f"{cell[: COLUMN_WIDTH - 1]}…" for cell in row] for row in rows]
    for row, full in zip(cut, rows, strict=True):
        row[3] = full[3]  # what the next command is given
    widths = [max(len(row[index]) for row in cut) for index in range(len(cut[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cut]


def write_sheet(path: Path, questions: "Sequence[Question]", found: "Sequence[list[Match]]", catalogue: Any) -> None:
    from seamline.base.files import write_bytes
    from seamline.charts.answers import Cell, answers_jpeg

    rows = [
        [
            Cell(question.crop, question.title),
            *(Cell(catalogue.crop(match.id), f"{match.class_name} {match.similarity:.2f}") for match in matches),
        ]
        for question, matches in zip(questions, found, strict=True)
    ]
    data = answers_jpeg(rows)
    if not data:
        raise SeamlineError(f"{path}: is not written, since there was nothing to ask with.")
    write_bytes(path, data)
    print(f"see {path}", file=sys.stderr)


def compare(args: argparse.Namespace) -> None:
    from seamline.inference.threads import limit_other_threads
    from seamline.search.comparing import compare_embedders, comparison_to_lines

    limit_other_threads()
    found = compare_embedders(args.compare, args.model, args.threads)
    if args.json:
        import json

        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for line in comparison_to_lines(found):
        print(to_terminal(line))
