"""Describe: attributes of product photos, each of one garment that fills it, as a table.

MODEL is an exported model of attributes, as the classify stage makes them: an ONNX file or an OpenVINO folder. PHOTOS
are files, folders, zips, globs in quotes, or addresses such as s3://bucket/prefix. OUT gets Output.csv, with the
columns and codes of the CSV that the model learned from, and confidences.csv with the same rows and columns. Where the
model is not sure enough, a cell of Output.csv is empty. errors.csv has the photos that could not be used; if there are
any, the exit status is 1, and all others are done. After a kill the same command resumes.

Example: seamline describe shop.zip --model models/attributes/openvino --out described
"""

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seamline.base.numbers import MOST_PIXELS, MOST_THREADS, number_from

if TYPE_CHECKING:
    from seamline.photos.listing import PhotoList
    from seamline.photos.product_photos import WholePhotos
    from seamline.photos.running import Run


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "seamline describe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("photos", nargs="*", help="files, folders, zips, globs in quotes, s3://, https:// and http:// addresses")
    add("--list", action="append", default=[], metavar="FILE", help="text file with one of these on each line")
    add("--model", type=Path, required=True, help="a model of attributes: an ONNX file or an OpenVINO folder")
    add("--out", type=Path, default=Path("described"), help="folder for the tables (default: described)")
    add("--likeliest", action="store_true", help="name the likeliest value, also where the model is not sure enough")
    add(
        "--max-pixels",
        type=number_from(int, 1, MOST_PIXELS),
        default=200_000_000,
        help="refuse larger photos (default: 200 million)",
    )
    add("--threads", type=number_from(int, 1, MOST_THREADS), help="CPU threads (default: all usable cores)")
    add("--precision", default="f32", help="f32 (default); bf16 for OpenVINO")
    return made


def main(arguments: Sequence[str]) -> None:
    made = parser()
    args = made.parse_args(arguments)
    if not args.photos and not args.list:
        made.error("name photos, or with --list a file that lists them")

    # Imports OpenCV and the engines, which --help does not need.
    from seamline.base.parallel import usable_cores
    from seamline.inference.classifier import AttributeClassifier
    from seamline.inference.threads import limit_other_threads
    from seamline.photos.finding import words
    from seamline.photos.product_photos import WholePhotos, photos_and_archives
    from seamline.photos.remote import Remote

    limit_other_threads()
    threads = args.threads or usable_cores()
    classifier = AttributeClassifier(args.model, threads, args.precision)
    with (
        contextlib.closing(WholePhotos(classifier, threads, args.max_pixels, args.likeliest)) as whole,
        contextlib.closing(Remote()) as remote,
        photos_and_archives(words(args.photos, args.list), args.out, remote) as photos,
    ):
        run = describe(args, photos, whole, remote)
    report(args, photos, run)


def describe(args: argparse.Namespace, photos: "PhotoList", whole: "WholePhotos", remote: Any) -> "Run":
    """Describe and write."""
    from seamline.photos.predicting import Wanted, model_sha256
    from seamline.photos.product_photos import GARMENT, check_tables, facts_to_form, write_tables
    from seamline.photos.running import predict_resumed

    facts = whole.classifier.facts
    wanted = Wanted([GARMENT], frozenset([0]), False, False, args.max_pixels, attributes=[*facts.attributes])
    asked = {
        "attributes": model_sha256(args.model),
        "precision": args.precision,
        "max_pixels": args.max_pixels,
        "likeliest": args.likeliest,
    }
    check_tables(args.out)
    return predict_resumed(
        args.out, asked, photos, whole, wanted, remote,
        lambda journal, positions: write_tables(args.out, journal, photos, positions, facts_to_form(facts)),
        called="photos",
    )  # fmt: skip


def report(args: argparse.Namespace, photos: "PhotoList", run: "Run") -> None:
    """Print how much was named and where it is; exit with 1 if files could not be used."""
    from seamline.base.errors import counted
    from seamline.photos.finding import shown_path
    from seamline.photos.running import report_unusable

    summary, seconds, before = run
    rate = f" ({(len(photos) - before) / seconds:.1f} photos/s)" if seconds else ""
    earlier = f", {before} of them before" if before else ""
    print(f"{counted(summary.images, 'photo')} described in {seconds:.1f} s{rate}{earlier}")
    print(f"{counted(summary.instances, 'value')} named; see {shown_path(args.out)}: Output.csv, confidences.csv")
    report_unusable(args.out, photos, summary)
