"""Photos' files looked at, many at once, and what libjpeg says of each.

libjpeg decodes damaged data, paints grey what is lost, and only prints a line without the file's name. The lines are
caught; where a block of photos brings one, its JPEGs are decoded once more, one by one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tqdm import tqdm

from seamline.base.parallel import in_threads
from seamline.images.files import Picture, decoded, inspect, with_right_end

BLOCK = 256
# How libjpeg begins its lines where a part of the picture is lost (jerror.h); the others are of bytes too many.
LOST = (
    "Corrupt JPEG data: premature end",
    "Corrupt JPEG data: bad Huffman",
    "Premature end",
    "Inconsistent progression",
)
DAMAGED_DATA = "image: a part of its JPEG data is damaged, and of the picture lost"


class Lines:
    """What has come into a file since it was last read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.at = 0

    def __call__(self) -> str:
        text = os.pread(self.stream.fileno(), 1 << 20, self.at)
        self.at += len(text)
        return text.decode("utf-8", "replace").strip()


def read_pictures(paths: Sequence[Path]) -> Iterator[tuple[Picture | str, str]]:
    """Each photo's picture, or the reason why it cannot be used; and what libjpeg says of one that can."""
    with (
        printed_by_libraries() as (terminal, lines),
        tqdm(desc="reading images", total=len(paths), disable=None, file=terminal) as progress,
    ):
        for start in range(0, len(paths), BLOCK):
            block = paths[start : start + BLOCK]
            pictures = list(in_threads(inspect, block))
            doubtful = any(isinstance(picture, Picture) for picture in pictures) and bool(lines())
            for path, picture in zip(block, pictures, strict=True):
                said = said_of(path, picture, lines) if doubtful and isinstance(picture, Picture) else ""
                yield (DAMAGED_DATA, "") if said.startswith(LOST) else (picture, said)
                progress.update()


def said_of(path: Path, picture: Picture, lines: Lines) -> str:
    """What libjpeg prints when it decodes a photo alone; "" for nothing."""
    if picture.format not in ("JPEG", "MPO"):
        return ""
    data = path.read_bytes()
    if picture.wrong_end:
        data = with_right_end(data) or data
        lines()  # what it says of the wrong end
    decoded(data)
    return lines().partition("\n")[0]


@contextmanager
def printed_by_libraries() -> Iterator[tuple[IO[str], Lines]]:
    """Catch what libraries write to standard error; gives a stream to the real one, and what was caught."""
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as caught, os.fdopen(os.dup(standard_error), "w", buffering=1) as terminal:
        os.dup2(caught.fileno(), 2)
        try:
            yield terminal, Lines(caught)
        finally:
            sys.stderr.flush()
            os.dup2(standard_error, 2)
            os.close(standard_error)
