"""Where attributes come from, and when there are none to learn."""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from seamline.base.coco import read_coco
from seamline.base.errors import SeamlineError, some
from seamline.ingest.remote.cache import locked
from seamline.ingest.remote.fetch import fetch
from seamline.params.attributes import Attributes

SAMPLE, SAMPLE_OF_PULL = "samples/tshirts.zip", "samples/garments.zip"


def switched_off(params: Attributes, pulled: str) -> str:
    """Why no attributes are learned, as a sentence; "" where they are.

    Args:
        params: attributes of params.yaml.
        pulled: pull.source.
    """
    if not params.enabled:
        return "Attributes are switched off (attributes.enabled)."
    if is_sample(params.source, SAMPLE) and not is_sample(pulled, SAMPLE_OF_PULL):
        return (
            "No attributes are learned: attributes.source is the sample's T-shirts, and pull.source names photos of "
            "your own."
        )
    return ""


def check_classes(classes: Sequence[str] | None, split: Path) -> None:
    """Raises SeamlineError where the pipeline's detector will find none of the classes that attributes are of.

    Args:
        classes: attributes.classes; None: all.
        split: the pipeline's split; where there is none, nothing is known.
    """
    path = split / "train.json"
    if classes is None or not path.is_file():
        return
    names = [one.name for one in read_coco(path).category_refs()]
    if not {name.strip().casefold() for name in names} & {name.strip().casefold() for name in classes}:
        raise SeamlineError(
            f"attributes.classes: the pipeline learns none of {some(classes)}, but {some(names)}; name those that "
            "these attributes are of, or null for all."
        )


def is_sample(source: str, sample: str) -> bool:
    return posixpath.normpath(source.replace("\\", "/")) == sample


@contextmanager
def of_attributes() -> Iterator[None]:
    """Have pull's own sentences say which source it is."""
    try:
        yield
    except SeamlineError as error:
        raise SeamlineError(str(error).replace("pull.source", "attributes.source")) from None


@contextmanager
def source_folder(source: str, scratch: Path) -> Iterator[Path]:
    """A local folder with the source's files, for one process at a time; afterwards it is held against the source.

    Raises:
        SeamlineError: when it cannot be had, or has changed in the meantime; pull's own sentences, about this source.
    """
    with of_attributes():
        lock = locked(scratch)
    with lock:
        try:
            with of_attributes():
                found = fetch(source, scratch)
            yield found.folder
            with of_attributes():
                found.check_unchanged()
            if found.cache is not None:
                found.cache.drop_others()
        finally:
            shutil.rmtree(scratch / "unpacked", ignore_errors=True)
