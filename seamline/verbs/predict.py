"""Predict: a model on your own photos; no stage of the pipeline, and nothing of the pipeline is needed but the model.

MODEL is best.pt, an ONNX file or an OpenVINO folder. IMAGES are files, folders (with all below them), globs in quotes,
or URLs such as s3://bucket/prefix, which are read with your AWS configuration and never written to disk. OUT gets
results.json (COCO results) and images.json (the COCO file they belong to), predictions.csv, a few pictures in overlays,
and errors.csv with the files that cannot be used; the exit status is 1 where there is one, and all others are done.

Example: seamline predict models/export/openvino_int8 photos 's3://my-bucket/more' --confidence 0.4
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from seamline.coco import Record
from seamline.escaping import to_spreadsheet
from seamline.files import whole_folder, write_csv, write_json

Number = TypeVar("Number", int, float)
MOST = 256  # threads, and images in a batch: more is a slip of the hand


def number_from(kind: Callable[[str], Number], low: Number, high: Number) -> Callable[[str], Number]:
    """An argparse type: a number within these limits."""

    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"has to be a number from {low} to {high}, not {text!r}")
        return value

    return parse


def count_or_all(text: str) -> int | None:
    """An argparse type: how many; None for all."""
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"has to be a number from 0 on, or all, not {text!r}")
    return int(text)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        "seamline predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="best.pt, an ONNX file or an OpenVINO folder")
    parser.add_argument("images", nargs="+", help="files, folders, globs in quotes, s3:// and other URLs")
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder for what is found")
    parser.add_argument(
        "--confidence", type=number_from(float, 0, 1), help="leave out weaker detections (default: the model's own)"
    )
    parser.add_argument("--threads", type=number_from(int, 1, MOST), help="CPU threads (default: all usable cores)")
    parser.add_argument("--precision", default="f32", help="f32 or, for OpenVINO, bf16")
    parser.add_argument("--device", default="cpu", help="cpu or, for PyTorch and ONNX, cuda")
    parser.add_argument("--batch", type=number_from(int, 1, MOST), default=1, help="images the model sees at once")
    parser.add_argument("--overlays", type=count_or_all, default=24, help="how many images are drawn, or all")
    args = parser.parse_args(arguments)

    # matplotlib, OpenCV and the engines, for which --help does not wait.
    from seamline.exporting import evenly_spaced
    from seamline.predicting import (
        COLUMNS,
        OVERLAYS,
        Photo,
        check_out,
        find_photos,
        image_record,
        predicted,
        shown_path,
        table_rows,
        write_overlays,
        writing_to,
    )
    from seamline.runtime.detector import Detector

    photos = find_photos(args.images, args.out)
    detector = Detector(
        args.model,
        args.confidence,
        threads=args.threads,
        batch=args.batch,
        precision=args.precision,
        device=args.device,
    )
    check_out(args.out)
    names, numbers = detector.names, list(range(1, len(detector.names) + 1))

    usable: list[Photo] = []
    failures: list[tuple[str, str]] = []
    images: list[Record] = []
    results: list[Record] = []
    start = time.perf_counter()
    for photo, found in tqdm(predicted(detector, photos), "predict", len(photos), unit="image", disable=None):
        if isinstance(found, str):
            failures.append((photo.name, found))
            continue
        usable.append(photo)
        images.append(image_record(len(usable), photo, found))
        results += found.to_coco(len(usable), numbers)
    seconds = time.perf_counter() - start

    of_image: defaultdict[int, list[Record]] = defaultdict(list)
    for record in results:
        of_image[record["image_id"]].append(record)
    with writing_to(args.out):
        chosen = evenly_spaced(list(enumerate(usable, 1)), args.overlays)
        with whole_folder(args.out / OVERLAYS) as folder:
            failures += write_overlays(folder, chosen, of_image, names)
        categories = [{"id": number, "name": name} for number, name in zip(numbers, names, strict=True)]
        write_json(args.out / "results.json", results)
        write_json(args.out / "images.json", {"images": images, "annotations": [], "categories": categories})
        write_csv(args.out / "predictions.csv", COLUMNS, table_rows(images, results, names))
        write_csv(
            args.out / "errors.csv",
            ("file_name", "reason"),
            ([to_spreadsheet(cell) for cell in row] for row in failures),
        )

    counts = Counter(names[record["category_id"] - 1] for record in results)
    rate = f"{len(images) / seconds:.1f} images/s in {detector.precision}"
    print(f"{len(images)} images in {seconds:.1f} s ({rate})")
    if results:
        print(f"{len(results)} instances: " + ", ".join(f"{name} {counts[name]}" for name in names))
    else:
        print(f"no instance with a score of {detector.confidence:g} or more; a lower --confidence shows weaker ones")
    print(
        f"see {shown_path(args.out)}: results.json, images.json, predictions.csv, {OVERLAYS} ({len(chosen)} pictures)"
    )
    if failures:
        print(f"{len(failures)} of {len(photos)} files cannot be used ({args.out / 'errors.csv'}):", file=sys.stderr)
        for name, reason in failures:
            print(" ".join(f"{name}: {reason}".splitlines()), file=sys.stderr)
        sys.exit(1)
