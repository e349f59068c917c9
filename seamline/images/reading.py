"""Images in: what a caller may hand over, and decoding it within limits."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from seamline.base.errors import SeamlineError
from seamline.images.budget import PixelBudget
from seamline.images.files import (
    BROKEN,
    MAX_PIXELS,
    OTHER_FORMATS,
    SUFFIX_OF_FORMAT,
    NotUsable,
    check_pixels,
    header_of,
    large_enough,
    pillow_to_pixels,
    pixels_of,
)

Image = npt.NDArray[np.uint8]  # (height, width, 3), BGR
# Text is a path. Arrays are of uint8: (height, width, 3) or with 4 channels, blue first, or grey.
Source = os.PathLike[str] | str | bytes | bytearray | memoryview | IO[bytes] | Pillow.Image | npt.NDArray[Any]
FORMATS = (*SUFFIX_OF_FORMAT, *OTHER_FORMATS)
MAX_BYTES_A_PIXEL = 8  # in a file that is not compressed: four channels of 16 bits
# A file of more is opened for its header first, and read when there is room for its pixels.
READ_AT_ONCE_BYTES = 1 << 20
TAKEN = "a path, bytes, a binary file, an image of Pillow's or an array of uint8"
T = TypeVar("T")


class ImageError(SeamlineError):
    """One image cannot be used; the others can."""


class Unread(NamedTuple):
    """An image whose size is known, and that may be decoded."""

    pixels: int
    decode: Callable[[], Image]


def read_image(source: Source, name: str = "image", max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image to BGR, EXIF rotation applied.

    What the pull stage accepts: any JPEG, PNG, WebP, BMP or TIFF of one picture, greyscale, CMYK and 16 bits
    included; and what Pillow reads on this machine of GIF, AVIF and HEIF. A side has at least MIN_SIDE_PX.

    Raises:
        ImageError: naming the file, or `name` for what has no path, when it is missing, cut short or none of these, or
            has more than max_pixels.
    """
    with named(source, name):
        return looked_at(source, max_pixels).decode()


def read_within_budget(source: Source, name: str, max_pixels: int, budget: PixelBudget, use: Callable[[Image], T]) -> T:
    """What `use` makes of an image, read as by read_image; the budget is held until it has, and the image no longer.

    Raises:
        ImageError: when it cannot be used.
    """
    with named(source, name):
        unread = looked_at(source, max_pixels)
        with budget.taken(unread.pixels):
            return use(unread.decode())


@contextmanager
def named(source: Source, name: str) -> Iterator[None]:
    """What is wrong with a source, as an ImageError that begins with its path or else its name."""
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else name
    try:
        yield
    except NotUsable as error:
        raise ImageError(f"{name}: {error}.") from None
    except MemoryError:
        raise ImageError(f"{name}: does not fit into memory.") from None


def is_unchanging(source: Source) -> bool:
    """Whether a source may be read later: its owner cannot put another image into its place in memory."""
    return isinstance(source, bytes | str | os.PathLike)


def looked_at(source: Source, max_pixels: int) -> Unread:
    """What can be known of an image before it is decoded.

    Raises:
        NotUsable: when it cannot be used.
    """
    if isinstance(source, np.ndarray):
        image = array_to_image(source)
        return Unread(0, lambda: large_enough(image))  # decoded by its owner
    if isinstance(source, Pillow.Image):
        check_pixels(source.width, source.height, max_pixels)
        return Unread(source.width * source.height, lambda: large_enough(pillow_to_image(source)))
    if isinstance(source, str | os.PathLike):
        return looked_at_file(Path(source), max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif callable(getattr(source, "read", None)):
        data = stream_to_bytes(source, MAX_BYTES_A_PIXEL * max_pixels)
    else:
        raise NotUsable(f"is of type {type(source).__name__}, which is not taken; it has to be {TAKEN}")
    return looked_at_bytes(data, max_pixels)


def looked_at_bytes(data: bytes, max_pixels: int) -> Unread:
    header = header_of(io.BytesIO(data), FORMATS, max_pixels)
    image_format = str(header.format)
    return Unread(header.width * header.height, lambda: pixels_of(data, image_format))


def looked_at_file(path: Path, max_pixels: int) -> Unread:
    try:
        status = os.stat(path)  # noqa: PTH116 (a quarter of the time, for each photo)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for whoever writes to it
            raise NotUsable("is not a file")
        check_bytes(status.st_size, MAX_BYTES_A_PIXEL * max_pixels)
        if status.st_size <= READ_AT_ONCE_BYTES:
            return looked_at_bytes(path.read_bytes(), max_pixels)
        with path.open("rb") as stream:
            header = header_of(stream, FORMATS, max_pixels)
            image_format, pixels = str(header.format), header.width * header.height
    except FileNotFoundError:
        raise NotUsable("there is no such file") from None
    except OSError as error:
        raise NotUsable(f"cannot be read ({error.strerror})") from None
    except ValueError:  # a NUL in the name, which each version of Python says in other words
        raise NotUsable("cannot be the name of a file") from None

    def decode() -> Image:
        try:
            return pixels_of(path.read_bytes(), image_format)
        except OSError as error:
            raise NotUsable(f"cannot be read ({error.strerror})") from None

    return Unread(pixels, decode)


def stream_to_bytes(stream: Any, most: int) -> bytes:
    """What is left to read in a file object that its owner opened."""
    try:
        data = stream.read(most + 1)
    except (OSError, ValueError) as error:
        raise NotUsable(f"cannot be read ({error})") from None
    if not isinstance(data, bytes):
        raise NotUsable("is a file that was opened as text; it has to be opened with mode 'rb'")
    check_bytes(len(data), most)
    return data


def check_bytes(size: int, most: int) -> None:
    if size > most:
        limit = f"{MAX_BYTES_A_PIXEL} for each pixel that max_pixels allows"
        raise NotUsable(f"has {size:,} bytes; at most {most:,} are read ({limit})")


def pillow_to_image(image: Pillow.Image) -> Image:
    try:
        return pillow_to_pixels(image)
    except BROKEN as error:  # it may not have been read from its file before
        raise NotUsable(f"cannot be read as an image of Pillow's ({error})") from None


def array_to_image(array: npt.NDArray[Any]) -> Image:
    """(height, width, 3), BGR, from an array of uint8: with 3 or 4 channels, blue first, or one or none, grey."""
    array = np.asarray(array)  # subclasses such as np.matrix change their shapes on the way
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if channels not in (1, 3, 4) or array.dtype != np.uint8:
        raise NotUsable(
            f"is an array of {array.dtype} and shape {array.shape}, which is not taken; it has to be of uint8 and "
            "(height, width, 3), blue first, or with 4 channels, or grey with 1 or none"
        )
    if channels == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return array[:, :, :3]
