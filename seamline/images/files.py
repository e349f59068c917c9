"""Image files as they come: whether the whole pipeline can read one, how large it is, which way EXIF turns it."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,  # noqa: F401 (each makes its format known to Pillow)
    GifImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

MIN_SIDE_PX = 10  # ultralytics leaves smaller images out of training without counting them
MAX_PIXELS = 200_000_000
TOO_LARGE = f"image: has more than {MAX_PIXELS // 1_000_000} million pixels"
# What both OpenCV, which everything here reads images with, and ultralytics' check take; and the suffix it asks for.
SUFFIX_OF_FORMAT = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}
PIPELINE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
# What prediction reads as well, through Pillow, with the suffixes of each.
OTHER_FORMATS = {
    "GIF": {".gif"},
    **({"AVIF": {".avif", ".avifs"}} if AvifImagePlugin.SUPPORTED else {}),
    **({"HEIF": {".heic", ".heif", ".hif"}} if find_spec("pillow_heif") else {}),
}
SUFFIXES = PIPELINE_SUFFIXES.union({".jfif", ".jpe"}, *OTHER_FORMATS.values())
# Suffixes of photos and videos that cannot be read here, and what to do about them.
TO_JPEG = "convert them to JPEG"
UNREAD = {
    "pip install pillow-heif": (".heic", ".heif", ".hif"),
    TO_JPEG: (
        ".avif", ".avifs", ".jxl", ".jp2", ".j2k", ".jpx", ".svg", ".psd", ".tga", ".ico",
        ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw",
    ),
    "save frames of the video as images, as ffmpeg does": (
        ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp",
    ),
}  # fmt: skip
UNREAD_SUFFIXES = {suffix: what for what, suffixes in UNREAD.items() for suffix in suffixes if suffix not in SUFFIXES}
END_OF_JPEG = b"\xff\xd9"
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
HEIC = "is a HEIC photo, and pillow-heif, which reads those, is not installed; pip install pillow-heif"
DAMAGED = "is not an image that can be decoded; it is damaged"
CANNOT_BE_DECODED = "image: cannot be decoded"
TOO_SMALL = f"image: a side has fewer than {MIN_SIDE_PX} pixels"
SEVERAL_PICTURES = "image: has several pictures (an animation, or pages)"
ORIENTATION_TAG = 0x0112
BITS_TAG = 258  # of TIFF: bits of each channel
# What Pillow raises on broken files, beside OSError; RuntimeError of the libraries for AVIF and HEIF.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class NotUsable(Exception):
    """Why a file cannot be used, without its name, as the end of a sentence; and the reason pull counts it under."""

    def __init__(self, sentence: str, reason: str = CANNOT_BE_DECODED) -> None:
        super().__init__(sentence)
        self.reason = reason


class Picture(msgspec.Struct, frozen=True):
    """An image file; height and width in pixels as OpenCV shows it, EXIF's orientation applied."""

    height: int
    width: int
    format: str
    orientation: int = 1  # EXIF's, where OpenCV obeys it: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 on its side
    wrong_end: bool = False  # a JPEG that does not end where it should, which ultralytics would rewrite
    sha256: str = ""  # of the file as it came
    dark_bits: int = 0  # how many of its 16 a file uses, where so few leave it nearly black; else 0

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width in the file, EXIF ignored."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def opened(stream: IO[bytes], formats: Collection[str]) -> Any:
    """Pillow's image over a file of one of these formats, of which only the header has been read; None for others.

    Image.open() is not used: it has a pixel limit of its own, tries formats that nobody named (some start other
    programs), and ultralytics replaces it by its own, which installs packages.

    Raises:
        One of BROKEN: when the header is damaged.
    """
    if "HEIF" in formats and "HEIF" not in Image.OPEN:
        import pillow_heif

        pillow_heif.register_heif_opener()
    start = stream.read(16)
    wrong = None
    for name in formats:
        if name == "MPO":  # a JPEG until it is opened
            continue
        make, accepts = Image.OPEN[name]
        accepted = accepts is None or accepts(start)
        if accepted and not isinstance(accepted, str):
            stream.seek(0)
            try:
                return make(stream, "")
            except SyntaxError as error:  # of another format with the same beginning: AVIF and HEIC share "mif1"
                wrong = error
    if wrong:
        raise wrong
    return None


def pictures_in(opened_image: Any) -> int:
    """How many there are in a file: an animation's frames, or pages.

    A camera's MPO is a photo with a smaller one of itself behind it, and the first is read.
    """
    return 1 if opened_image.format in ("JPEG", "MPO") else int(getattr(opened_image, "n_frames", 1))


def header_of(stream: IO[bytes], formats: Collection[str], max_pixels: int = MAX_PIXELS) -> Any:
    """Pillow's image over a file of which only the header has been read: of a photo that may be decoded.

    With pixels_of() it is the one judgement of what a usable photo is, for pull as for prediction.

    Raises:
        NotUsable: when it is of no such format, has too many pixels or more than one picture.
    """
    if not stream.read(1):
        raise NotUsable("is empty", CANNOT_BE_DECODED)
    stream.seek(0)
    try:
        header = opened(stream, formats)
        if header is None:
            names = ", ".join(sorted(set(formats) - {"MPO"}))
            sentence = HEIC if is_heic(stream) else f"{DAMAGED}, or not in a format that is read ({names})"
            raise NotUsable(sentence, f"image: its format is none of {names}")
        if header.format == "TIFF" and header.mode in ("I", "F"):
            raise NotUsable("has samples of 32 bits; save it with 8 or 16 bits a sample", CANNOT_BE_DECODED)
        check_pixels(header.width, header.height, max_pixels)
        count = pictures_in(header)
    except BROKEN:
        sentence = HEIC if "HEIF" not in formats and is_heic(stream) else f"{DAMAGED}, or cut short"
        raise NotUsable(sentence, CANNOT_BE_DECODED) from None
    if count > 1:
        raise NotUsable(
            f"has {count} pictures (an animation, or pages); save the one that is meant in a file of its own",
            SEVERAL_PICTURES,
        )
    return header


def check_pixels(width: int, height: int, most: int) -> None:
    """Raises NotUsable when there are more than `most`."""
    if width * height > most:
        raise NotUsable(f"has {width} x {height} pixels; at most {most:,} are read (max_pixels)", TOO_LARGE)


def is_heic(stream: IO[bytes]) -> bool:
    """Whether the file says so: its first box has the brand it is of, and others that it can be read as."""
    stream.seek(0)
    start = stream.read(64)
    brands = start[8 : int.from_bytes(start[:4], "big")]
    return start[4:8] == b"ftyp" and any(brands[at : at + 4] in HEIC_BRANDS for at in range(0, len(brands), 4))


def pixels_of(data: bytes, image_format: str) -> npt.NDArray[np.uint8]:
    """(height, width, 3), BGR, EXIF's orientation applied.

    Raises:
        NotUsable: when the file cannot be decoded, or a side is too small.
    """
    try:
        pixels = decoded(data) if image_format in SUFFIX_OF_FORMAT else decoded_by_pillow(data, image_format)
    except BROKEN:
        pixels = None
    if pixels is None:
        raise NotUsable(f"{DAMAGED}, or cut short", CANNOT_BE_DECODED)
    return large_enough(pixels)


def large_enough(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The image itself; raises NotUsable when a side is too small."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise NotUsable(f"has {width} x {height} pixels; a side needs at least {MIN_SIDE_PX}", TOO_SMALL)
    return image


def inspect(path: Path) -> Picture | str:
    """Decode an image once; the reason where the pipeline cannot use it."""
    try:
        data = path.read_bytes()
        header = header_of(io.BytesIO(data), SUFFIX_OF_FORMAT)
        image_format = str(header.format)
        orientation = header.getexif().get(ORIENTATION_TAG, 1)
        seen = pixels_of(data, image_format)
    except NotUsable as error:
        return error.reason
    except BROKEN:
        return CANNOT_BE_DECODED
    # Pillow also finds an orientation in XMP, or in formats that OpenCV does not turn: what counts is what is seen.
    # OpenCV turns every TIFF, whatever it is asked for.
    if orientation not in range(2, 9) or (
        image_format != "TIFF" and same(seen, decoded(data, cv2.IMREAD_IGNORE_ORIENTATION))
    ):
        orientation = 1
    wrong_end = image_format == "JPEG" and not data.endswith(END_OF_JPEG)
    if wrong_end and with_right_end(data) is None:
        return CANNOT_BE_DECODED
    digest = hashlib.sha256(data).hexdigest()
    dark = dark_bits(data, header)
    return Picture(seen.shape[0], seen.shape[1], image_format, orientation, wrong_end, digest, dark)


def dark_bits(data: bytes, header: Any) -> int:
    """How many of its 16 bits almost all of a PNG or TIFF uses, where those are at most 14; else 0.

    Everything here reads the upper 8 of 16 bits, of which few are left then, as in what sensors of 12 bits write.
    """
    depths = (data[24],) if header.format == "PNG" else getattr(header, "tag_v2", {}).get(BITS_TAG, (8,))
    if 16 not in depths:
        return 0
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16:
        return 0
    colours = deep[..., :3] if deep.ndim == 3 else deep
    bits = int(np.quantile(colours, 0.999, method="lower")).bit_length()  # a mark may be white
    return bits if bits <= 14 else 0


def same(first: npt.NDArray[np.uint8] | None, second: npt.NDArray[np.uint8] | None) -> bool:
    return first is not None and second is not None and np.array_equal(first, second)


def decoded(data: bytes, flags: int = 0) -> npt.NDArray[np.uint8] | None:
    """The pixels as everything here reads them; None where OpenCV cannot."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | flags)
    except cv2.error:  # a side beyond its limits
        return None
    return None if pixels is None else np.asarray(pixels, dtype=np.uint8)


def decoded_by_pillow(data: bytes, image_format: str) -> npt.NDArray[np.uint8]:
    """The pixels of what OpenCV does not read, as OpenCV would have them: BGR, EXIF's orientation applied."""
    image = opened(io.BytesIO(data), [image_format])
    return pillow_to_pixels(image)


def pillow_to_pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """(height, width, 3), BGR, of an image of Pillow's, EXIF's orientation applied, transparency left out.

    16 bits a channel become 8 as OpenCV makes them: the upper ones.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        grey = (np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.stack([grey] * 3, axis=2))
    return np.ascontiguousarray(np.asarray(upright.convert("RGB"))[:, :, ::-1])


def without_orientation(data: bytes, image_format: str, orientation: int) -> tuple[bytes, str]:
    """The same pixels with no EXIF orientation, and the suffix they now want; a JPEG is not encoded again."""
    if image_format in ("JPEG", "MPO"):
        return without_exif(data), ".jpg"
    pixels = np.asarray(decoded(data, cv2.IMREAD_IGNORE_ORIENTATION))
    pixels = turned_back(pixels, orientation) if image_format == "TIFF" else pixels
    return cv2.imencode(".png", pixels)[1].tobytes(), ".png"


def turned_back(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Pixels as they are stored, from those as EXIF's orientation shows them."""
    match orientation:
        case 2 | 4:
            turned = np.flip(pixels, axis=1 if orientation == 2 else 0)
        case 3 | 6 | 8:
            turned = np.rot90(pixels, {3: 2, 6: 1, 8: -1}[orientation])
        case _:  # 5 and 7, mirrored in a diagonal
            turned = np.swapaxes(pixels if orientation == 5 else np.rot90(pixels, 2), 0, 1)
    return np.ascontiguousarray(turned)


def without_exif(jpeg: bytes) -> bytes:
    """A JPEG without its EXIF segments (marker FFE1, two bytes of length, "Exif"); all else byte for byte."""
    segments = [jpeg[:2]]
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1] != 0xDA:  # FFDA: the image itself, to the end
        length = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if not (jpeg[at + 1] == 0xE1 and jpeg[at + 4 : at + 8] == b"Exif"):
            segments.append(jpeg[at : at + length])
        at += length
    return b"".join([*segments, jpeg[at:]])


def with_right_end(jpeg: bytes) -> bytes | None:
    """The same pixels in a JPEG that ends with its end marker; None where that is impossible.

    Either there are bytes behind the marker, or it is missing.
    """
    wanted = decoded(jpeg)
    end = jpeg.rfind(END_OF_JPEG)
    for candidate in (jpeg[: end + 2] if end > 0 else b"", jpeg + END_OF_JPEG):
        if candidate and same(decoded(candidate), wanted):
            return candidate
    return None
