"""The options that name the models which describe garments; imports nothing that --help does not need."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seamline.photos.describing import Describer


def add_describing_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--attributes", type=Path, metavar="MODEL", help="say attributes of each garment, with this model")
    add("--embed", type=Path, metavar="MODEL", help="give each garment a vector, with this embedder")


def with_describer(
    args: argparse.Namespace, names: Sequence[str]
) -> contextlib.AbstractContextManager[Describer | None]:
    """What the options ask for, to be closed at the end of a block.

    Args:
        names: of the detector's classes.

    Raises:
        SeamlineError: when a model cannot be opened, or knows none of these classes.
    """
    if args.attributes is None and args.embed is None:
        return contextlib.nullcontext()
    from seamline.photos.describing import open_describer

    return contextlib.closing(open_describer(args.attributes, args.embed, names, args.threads))
