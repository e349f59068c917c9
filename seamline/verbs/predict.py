"""Predict: find garments in your own photos. Needs nothing of the pipeline but a model.

MODEL is best.pt, an ONNX file or an OpenVINO folder. IMAGES are files, folders (with everything below them), globs in
quotes, or addresses such as s3://bucket/prefix and https://host/photo.jpg, which are read with your AWS configuration
and never written to disk. OUT gets results.json (COCO results) and images.json (the COCO file they belong to),
predictions.csv, a few pictures in overlays, and errors.csv with the files that could not be used; if there are any, the
exit status is 1, and all others are done. With --attributes each instance has attributes, and with --embed OUT gets
embeddings.npy, a row for each instance. Finished photos are in OUT/unfinished: after a kill the same command resumes.

Example: seamline predict models/export/openvino photos 's3://my-bucket/more' --confidence 0.4
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seamline.base.errors import SeamlineError
from seamline.base.numbers import MOST_THREADS, number_from
from seamline.people.options import add_people_options, check_people_options, with_people
from seamline.photos.describing_options import add_describing_options, with_describer
from seamline.photos.options import add_model_options

if TYPE_CHECKING:
    from seamline.people.detector import AnyDetector
    from seamline.photos.describing import Describer
    from seamline.photos.listing import PhotoList
    from seamline.photos.running import Run


def count_or_all(text: str) -> int | None:
    """An argparse type: how many; None for all."""
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"has to be a number from 0 on, or all, not {text!r}")
    return int(text)


def names_to_classes(text: str, names: Sequence[str]) -> list[str]:
    """The classes to find; a class may have a comma in its name.

    Raises:
        SeamlineError: for a class that the model does not have.
    """
    chosen = [text] if text in names else [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in names]
    if unknown or not chosen:
        raise SeamlineError(f"--classes: the model has no class {(unknown or [text])[0]!r}; it has {', '.join(names)}.")
    return [name for name in names if name in chosen]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "seamline predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("model", type=Path, help="best.pt, an ONNX file or an OpenVINO folder")
    add("images", nargs="*", help="files, folders, globs in quotes, s3://, https:// and http:// addresses")
    add(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="text file with one of these on each line; - is stdin",
    )
    add("--out", type=Path, default=Path("predictions"), help="folder for the results (default: predictions)")
    add("--classes", help="find these classes only, as in shirt,dress")
    add(
        "--format",
        choices=("rle", "polygons"),
        default="rle",
        help="format of the masks in results.json (default: rle)",
    )
    add("--crops", action="store_true", help="write each instance as a PNG with transparency")
    add("--overlays", type=count_or_all, default=24, help="how many images to draw, or all (default: 24)")
    add_model_options(made, "images", million_pixels=200)
    add(
        "--batch",
        type=number_from(int, 1, MOST_THREADS),
        help="images that the model sees at once (default: 1; on a GPU 16)",
    )
    add_people_options(made)
    add_describing_options(made)
    return made


def main(arguments: Sequence[str]) -> None:
    made = parser()
    args = made.parse_args(arguments)
    if not args.images and not args.list:
        made.error("name images, or with --list a file that lists them")
    check_people_options(made, args)
    if args.people is not None and args.batch is not None:
        made.error("--batch: cannot be combined with --people, which looks at each photo by itself")

    # Imports OpenCV and the engines, which --help does not need.
    from seamline.inference.detector import Detector
    from seamline.inference.threads import limit_other_threads
    from seamline.photos.finding import find_photos, words
    from seamline.photos.remote import Remote

    limit_other_threads()
    remote = Remote()
    try:
        photos = find_photos(words(args.images, args.list), args.out, remote)
        garments = Detector(
            args.model,
            args.confidence,
            threads=args.threads,
            batch=args.batch,
            precision=args.precision,
            device=args.device,
            max_pixels=args.max_pixels,
        )
        with garments, with_people(garments, args) as detector, with_describer(args, garments.names) as describer:
            run = predict(args, photos, detector, describer, remote)
    finally:
        remote.close()
    report(args, detector, photos, run)


def predict(
    args: argparse.Namespace,
    photos: "PhotoList",
    detector: "AnyDetector",
    describer: "Describer | None",
    remote: Any,
) -> "Run":
    """Predict and write."""
    from seamline.photos.predicting import Wanted, model_sha256
    from seamline.photos.running import predict_resumed
    from seamline.photos.writing import check_out, write_results

    names = detector.names
    classes = names if args.classes is None else names_to_classes(args.classes, names)
    chosen = frozenset(index for index, name in enumerate(names) if name in classes)
    wanted = Wanted(names, chosen, args.format == "polygons", args.crops, args.max_pixels, args.people is not None)
    if describer is not None:
        wanted = wanted._replace(attributes=describer.attributes, dimension=describer.dimension)
    asked = {
        "model": model_sha256(args.model),
        "confidence": detector.confidence,
        "classes": sorted(chosen),
        "format": args.format,
        "crops": args.crops,
        "precision": args.precision,
        "device": detector.device,
        "batch": detector.batch,
        "max_pixels": args.max_pixels,
    }
    if args.people is not None:
        asked |= {name: getattr(args, name) for name in ("person_class", "person_confidence", "most_people")}
        asked["people"] = model_sha256(args.people)
    asked |= {name: model_sha256(path) for name in ("attributes", "embed") if (path := getattr(args, name)) is not None}
    check_out(args.out, args.crops)
    return predict_resumed(
        args.out, asked, photos, detector, wanted, remote,
        lambda journal, positions: write_results(args.out, journal, photos, positions, wanted, args.overlays, remote),
        batch=detector.batch, describer=describer,
    )  # fmt: skip


def report(
    args: argparse.Namespace,
    detector: "AnyDetector",
    photos: "PhotoList",
    run: "Run",
) -> None:
    """Print what was found and where it is; exit with 1 if files could not be used."""
    from seamline.photos.finding import shown_path
    from seamline.photos.running import report_unusable

    summary, seconds, before = run
    now = len(photos) - before
    place = "" if detector.device == "cpu" else f" on {detector.device}"
    rate = f" ({now / seconds:.1f} images/s in {detector.precision}{place})" if summary.images else ""
    images = "1 image" if summary.images == 1 else f"{summary.images} images"
    print(f"{images} in {seconds:.1f} s{rate}" + (f", {before} of them before" if before else ""))
    if not summary.images:
        print("no image could be used")
    elif summary.instances:
        found = ", ".join(f"{name} {summary.counts[name]}" for name in detector.names)
        print(f"{summary.instances} instances: {found}")
    else:
        print(f"no instance with a score of {detector.confidence:g} or more; a lower --confidence shows weaker ones")
    more = (", embeddings.npy" if args.embed else "") + (", crops" if args.crops else "")
    print(
        f"see {shown_path(args.out)}: results.json, images.json, predictions.csv, overlays ({summary.pictures} "
        f"picture{'' if summary.pictures == 1 else 's'}){more}"
    )
    report_unusable(args.out, photos, summary)
