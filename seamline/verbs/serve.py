"""Serve: find garments in photos over HTTP, with a page to try it. Needs nothing of the pipeline but a model.

MODEL is best.pt, an ONNX file or an OpenVINO folder; left out, the format that reports/ recommends. Ready when it says
so. docs/service.md says how to call it, from curl, Python and JavaScript.

On another address than this machine's own it asks for keys: --keys names a file with one on each line.

Example: seamline serve models/export/openvino_int8
         curl --form image=@photo.jpg http://127.0.0.1:8000/v1/predict
"""

import argparse
import contextlib
import os
import re
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.numbers import number_from
from seamline.base.process import project_scratch
from seamline.people.options import add_people_options, check_people_options, with_people
from seamline.photos.describing_options import add_describing_options
from seamline.photos.options import add_model_options

if TYPE_CHECKING:
    from seamline.inference.detector import Detector
    from seamline.people.detector import AnyDetector
    from seamline.service.describing import Described
    from seamline.service.listening import Address

MEGABYTE = 2**20


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "seamline serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add(
        "model", nargs="?", type=Path, help="best.pt, an ONNX file or an OpenVINO folder (default: the recommended one)"
    )
    add("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine alone)")
    add("--port", type=number_from(int, 0, 65535), default=8000, help="port (default: 8000; 0: any that is free)")
    add("--keys", type=Path, metavar="FILE", help="file of keys, one a line; a request has to send one of them")
    add("--no-keys", action="store_true", help="listen at a public address without keys")
    add(
        "--allow-host",
        action="append",
        default=[],
        type=host_name,
        metavar="NAME",
        help="a name that the service is reached under",
    )
    add("--fetch-urls", action="store_true", help="fetch photos from https:// URLs that requests name, of global hosts")
    add(
        "--source",
        type=web_address,
        metavar="URL",
        help="where the source of the model and its training is (AGPL, section 13)",
    )
    add("--queue", type=number_from(int, 1, 10_000), default=64, help="photos under way at once (default: 64)")
    add("--photos", type=number_from(int, 1, 1000), default=32, help="photos in a request at most (default: 32)")
    add("--body-mb", type=number_from(int, 1, 1024), default=32, help="size of a request at most (default: 32)")
    add_model_options(made, "photos", million_pixels=50)
    add("--access-log", action="store_true", help="write a line for each request")
    add_people_options(made)
    add_describing_options(made)
    add("--catalogue", type=Path, metavar="FOLDER", help="search this catalogue for similar garments; needs --embed")
    return made


def host_name(text: str) -> str:
    """An argparse type: a name or address as a Host header has it, in small letters; no Host equals a URL."""
    if not re.fullmatch(r"[^\s/@:\[\]*]+|\[?[0-9A-Fa-f:.]+\]?", text):
        raise argparse.ArgumentTypeError(f"has to be a name without scheme, port and path, not {text!r}")
    return text.strip("[].").lower()


def web_address(text: str) -> str:
    """An argparse type: an address that the page can link to."""
    if not re.fullmatch(r"https?://[^\s/]\S*", text):
        raise argparse.ArgumentTypeError(f"has to be an address that begins with https:// or http://, not {text!r}")
    return text


def main(arguments: Sequence[str]) -> None:
    made = parser()
    args = made.parse_args(arguments)
    check_people_options(made, args)
    if args.catalogue is not None and args.embed is None:
        made.error("--catalogue: needs --embed, the embedder that it was made with")
    end_by_sigterm()

    # Imports OpenCV, the engines and the server, which --help does not need.
    from seamline.inference.threads import limit_other_threads

    limit_other_threads()
    from seamline.service.arenas import limit_arenas

    limit_arenas()
    from seamline.inference.detector import Detector
    from seamline.service.listening import open_address

    model, precision = (args.model, args.precision) if args.model else recommended_model()
    address = open_address(args.host, args.port, args.keys, args.no_keys)
    scratch = project_scratch()
    with Detector(
        model,
        args.confidence,
        threads=args.threads,
        precision=precision,
        device=args.device,
        max_pixels=args.max_pixels,
        compiled=scratch and scratch / "openvino",
    ) as garments:
        compiling = threading.Thread(target=compile_ahead, args=(garments,))
        compiling.start()  # while the server is imported, which takes a third of a second
        try:
            with with_people(garments, args) as detector, described(garments, args) as more:
                serve(model, detector, address, args, more)
        finally:
            compiling.join()


def end_by_sigterm() -> None:
    """Have SIGTERM end a container's first process too, until the server is there and ends in order.

    The kernel lets that process ignore the signals that it has no handler for, and also those that it sends itself.
    """
    before = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: Any) -> None:
        if callable(before):  # deletes the temporary folder
            before(number, frame)
        os._exit(128 + number)

    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, end)


def compile_ahead(detector: "Detector") -> None:
    """Have the engine compile its model; whoever needs it waits for that, and gets the error where it fails."""
    with contextlib.suppress(Exception):
        detector.engine.callers  # noqa: B018


def described(garments: "Detector", args: argparse.Namespace) -> "contextlib.AbstractContextManager[Described | None]":
    """What the service has beside its detector; None where nothing is asked for.

    Raises:
        SeamlineError: when a model or the catalogue cannot be opened, or they do not belong together.
    """
    if args.attributes is None and args.embed is None:
        return contextlib.nullcontext()
    try:
        from seamline.service.describing import opened_described
    except ModuleNotFoundError as error:
        raise not_installed("seamline serve", error) from None
    return opened_described(args.attributes, args.embed, args.catalogue, garments.names, garments.threads)


def serve(
    model: Path, detector: "AnyDetector", address: "Address", args: argparse.Namespace, more: "Described | None"
) -> None:
    try:
        from seamline.service.running import serve_detector
        from seamline.service.settings import Settings
    except ModuleNotFoundError as error:
        raise not_installed("seamline serve", error) from None

    settings = Settings(
        body_bytes=args.body_mb * MEGABYTE,
        bodies_bytes=8 * args.body_mb * MEGABYTE,
        photos=args.photos,
        pixels=args.max_pixels,
        queue=args.queue,
        fetch_urls=args.fetch_urls,
        hosts=tuple(args.allow_host),
        access_log=args.access_log,
    )
    serve_detector(model, detector, settings, address, args.source, more)


def recommended_model() -> tuple[Path, str]:
    """The format that the last run's report recommends, and its precision.

    Raises:
        SeamlineError: when there is no run whose model lies here.
    """
    benchmark = Path("reports/benchmark.json")
    if not benchmark.is_file():
        raise SeamlineError(
            f"{benchmark}: is not here, so no format is recommended; name a model: seamline serve MODEL."
        )
    try:
        from seamline.benchmark.recommendation import recommended
        from seamline.models.exported import model_paths
        from seamline.params.export import Export
        from seamline.params.loading.loader import load_params
        from seamline.report.records import read_record
    except ModuleNotFoundError as error:
        raise SeamlineError(
            f"seamline serve: finding the recommended format needs {error.name}, which is not installed; the extra "
            "benchmark brings it, or name a model: seamline serve MODEL."
        ) from None
    name = recommended(read_record(benchmark), load_params()[Export].int8.max_drop)
    row, _, precision = name.partition("_")
    paths = model_paths(Path("models/train/best.pt"), Path("models/export"))
    return (paths[row], precision) if precision == "bf16" else (paths[name], "f32")
