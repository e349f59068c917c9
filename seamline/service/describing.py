"""What a service has beside its detector: models that describe garments, and a catalogue that is searched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seamline.photos.describing import Describer, open_describer
from seamline.search.catalogue import Catalogue, open_catalogue


class Described(NamedTuple):
    describer: Describer
    attributes: Path | None  # where the model of attributes lies
    catalogue: Catalogue | None


@contextlib.contextmanager
def opened_described(
    attributes: Path | None, embed: Path | None, catalogue: Path | None, names: Sequence[str], threads: int
) -> Iterator[Described]:
    """Open what a service is to have; at the end of the block all of it is closed.

    Args:
        names: of the detector's classes.

    Raises:
        SeamlineError: when a model or the catalogue cannot be opened, or the catalogue has vectors of another embedder.
    """
    with contextlib.closing(open_describer(attributes, embed, names, threads)) as describer:
        if catalogue is None:
            yield Described(describer, attributes, None)
            return
        with open_catalogue(catalogue, describer.embedder, threads) as opened:
            yield Described(describer, attributes, opened)
