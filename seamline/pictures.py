"""Image files as they come: whether the whole pipeline can read one, how large it is, which way EXIF turns it."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

MIN_SIDE_PX = 10  # ultralytics leaves smaller images out of training without counting them
MAX_PIXELS = 200_000_000
TOO_LARGE = f"image: has more than {MAX_PIXELS // 1_000_000} million pixels"
# What both OpenCV, which everything here reads images with, and ultralytics' check take; and the suffix it asks for.
SUFFIX_OF_FORMAT = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
END_OF_JPEG = b"\xff\xd9"
CANNOT_BE_DECODED = "image: cannot be decoded"
ORIENTATION_TAG = 0x0112
# What Pillow raises on broken files, beside OSError; ImportError where ultralytics has put its own Image.open in place.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
    struct.error, zlib.error, ImportError,
)  # fmt: skip


class Picture(msgspec.Struct, frozen=True):
    """An image file; height and width in pixels as OpenCV shows it, EXIF's orientation applied."""

    height: int
    width: int
    format: str
    orientation: int = 1  # EXIF's, where OpenCV obeys it: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 on its side
    wrong_end: bool = False  # a JPEG that does not end where it should, which ultralytics would rewrite
    sha256: str = ""  # of the file as it came

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width in the file, EXIF ignored."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def inspect(path: Path) -> Picture | str:
    """Decode an image once; the reason where the pipeline cannot use it."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as opened:
            image_format = str(opened.format)
            if image_format not in SUFFIX_OF_FORMAT:
                return f"image: its format is none of {', '.join(sorted(set(SUFFIX_OF_FORMAT) - {'MPO'}))}"
            if opened.width * opened.height > MAX_PIXELS:
                return TOO_LARGE
            orientation = opened.getexif().get(ORIENTATION_TAG, 1)
    except Image.DecompressionBombError:  # beyond Pillow's own limit
        return TOO_LARGE
    except BROKEN:
        return CANNOT_BE_DECODED
    seen = decoded(data)
    if seen is None:
        return CANNOT_BE_DECODED
    if min(seen.shape[:2]) < MIN_SIDE_PX:
        return f"image: a side has fewer than {MIN_SIDE_PX} pixels"
    # Pillow also finds an orientation in XMP, or in formats that OpenCV does not turn: what counts is what is seen.
    if orientation not in range(2, 9) or same(seen, decoded(data, cv2.IMREAD_IGNORE_ORIENTATION)):
        orientation = 1
    wrong_end = image_format == "JPEG" and not data.endswith(END_OF_JPEG)
    if wrong_end and with_right_end(data) is None:
        return CANNOT_BE_DECODED
    digest = hashlib.sha256(data).hexdigest()
    return Picture(seen.shape[0], seen.shape[1], image_format, orientation, wrong_end, digest)


def same(first: npt.NDArray[np.uint8] | None, second: npt.NDArray[np.uint8] | None) -> bool:
    return first is not None and second is not None and np.array_equal(first, second)


def decoded(data: bytes, flags: int = 0) -> npt.NDArray[np.uint8] | None:
    """The pixels as everything here reads them; None where OpenCV cannot."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | flags)
    except cv2.error:  # a side beyond its limits
        return None
    return None if pixels is None else np.asarray(pixels, dtype=np.uint8)


def without_orientation(data: bytes, image_format: str) -> tuple[bytes, str]:
    """The same pixels with no EXIF orientation, and the suffix they now want; a JPEG is not encoded again."""
    if image_format in ("JPEG", "MPO"):
        return without_exif(data), ".jpg"
    pixels = decoded(data, cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.imencode(".png", np.asarray(pixels))[1].tobytes(), ".png"


def without_exif(jpeg: bytes) -> bytes:
    """A JPEG without its EXIF segments (marker FFE1, two bytes of length, "Exif"); all else byte for byte."""
    kept = [jpeg[:2]]
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1] != 0xDA:  # FFDA: the image itself, to the end
        length = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if not (jpeg[at + 1] == 0xE1 and jpeg[at + 4 : at + 8] == b"Exif"):
            kept.append(jpeg[at : at + length])
        at += length
    return b"".join([*kept, jpeg[at:]])


def with_right_end(jpeg: bytes) -> bytes | None:
    """The same pixels in a JPEG that ends with its end marker; None where that cannot be had.

    Either there are bytes behind the marker, or it is missing.
    """
    wanted = decoded(jpeg)
    end = jpeg.rfind(END_OF_JPEG)
    for candidate in (jpeg[: end + 2] if end > 0 else b"", jpeg + END_OF_JPEG):
        if candidate and same(decoded(candidate), wanted):
            return candidate
    return None
