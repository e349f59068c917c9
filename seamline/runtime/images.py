"""Images in: decoding, and the letterboxed canvas that every engine is fed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from seamline.errors import SeamlineError
from seamline.pictures import BROKEN, MAX_PIXELS, MIN_SIDE_PX, SUFFIX_OF_FORMAT, decoded

Image = npt.NDArray[np.uint8]  # (height, width, 3), BGR
Source = Path | str | bytes | Image  # text is a path
PAD_VALUE = 114  # ultralytics' grey


class ImageError(SeamlineError):
    """One image cannot be used; the others can."""


class Letterbox(NamedTuple):
    """How an image of height x width was fitted into the square input: scaled to fit, then centred."""

    height: int
    width: int
    scaled_height: int
    scaled_width: int
    top: int
    left: int


def read_image(source: Source, name: str = "image") -> Image:
    """Decode a file or bytes to BGR, EXIF rotation applied; an array is passed through.

    Taken is what the pull stage takes: any JPEG, PNG, WebP, BMP or TIFF of one picture, greyscale, CMYK and 16 bits
    included, with at least MIN_SIDE_PX a side and at most MAX_PIXELS.

    Raises:
        ImageError: naming the file, or `name` for bytes and arrays, when it is missing, cut short or none of these.
    """
    source = Path(source) if isinstance(source, str) else source
    name = str(source) if isinstance(source, Path) else name
    if isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8:
            raise ImageError(
                f"{name}: is an array of {source.dtype} and shape {source.shape}; it has to be of uint8 and "
                "(height, width, 3), blue first."
            )
        image = source
    else:
        try:
            data = source.read_bytes() if isinstance(source, Path) else source
        except FileNotFoundError:
            raise ImageError(f"{name}: there is no such file.") from None
        except OSError as error:
            raise ImageError(f"{name}: cannot be read ({error.strerror}).") from None
        reason = why_not(data)
        if reason is not None:
            raise ImageError(f"{name}: {reason}.")
        pixels = decoded(data)
        if pixels is None:
            raise ImageError(f"{name}: is not an image that can be decoded; it is damaged, or cut short.")
        image = pixels
    if min(image.shape[:2]) < MIN_SIDE_PX:
        height, width = image.shape[:2]
        raise ImageError(f"{name}: has {width} x {height} pixels; a side needs at least {MIN_SIDE_PX}.")
    return image


def why_not(data: bytes) -> str | None:
    """Why an image file is not even decoded, as its header says; None where it may be."""
    if not data:
        return "is empty"
    formats = ", ".join(sorted(set(SUFFIX_OF_FORMAT) - {"MPO"}))
    try:
        with Pillow.open(io.BytesIO(data)) as opened:
            if opened.format not in SUFFIX_OF_FORMAT:
                return f"is a {opened.format} file; its format has to be one of {formats}"
            if opened.width * opened.height > MAX_PIXELS:
                return f"has {opened.width} x {opened.height} pixels; at most {MAX_PIXELS:,} are read"
            # A camera's MPO is a photo with a smaller one of itself behind it, and OpenCV reads the first.
            frames = 1 if opened.format in ("JPEG", "MPO") else getattr(opened, "n_frames", 1)
            if frames > 1:
                return f"has {frames} pictures (an animation, or pages); save the one that is meant in its own file"
    except Pillow.DecompressionBombError:  # beyond Pillow's own limit
        return f"has more pixels than the {MAX_PIXELS:,} that are read"
    except BROKEN:
        return f"is not an image that can be decoded; it is damaged, or of no format of {formats}"
    return None


def letterbox_of(height: int, width: int, imgsz: int) -> Letterbox:
    """Fit into imgsz x imgsz as ultralytics' LetterBox does (rounding included)."""
    ratio = min(imgsz / height, imgsz / width)
    scaled_height, scaled_width = max(round(height * ratio), 1), max(round(width * ratio), 1)
    top, left = round((imgsz - scaled_height) / 2 - 0.1), round((imgsz - scaled_width) / 2 - 0.1)
    return Letterbox(height, width, scaled_height, scaled_width, top, left)


def image_to_canvas(image: Image, imgsz: int) -> tuple[Image, Letterbox]:
    """The image fitted into (imgsz, imgsz, 3), still BGR from 0 to 255, and how it lies there."""
    box = letterbox_of(image.shape[0], image.shape[1], imgsz)
    canvas = np.full((imgsz, imgsz, 3), PAD_VALUE, dtype=np.uint8)
    content = canvas[box.top : box.top + box.scaled_height, box.left : box.left + box.scaled_width]
    if content.shape == image.shape:
        content[:] = image
    else:
        cv2.resize(image, (box.scaled_width, box.scaled_height), dst=content, interpolation=cv2.INTER_LINEAR)
    return canvas, box


def canvases_to_tensor(canvases: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What models take: (batch, 3, imgsz, imgsz), RGB from 0 to 1; from (batch, imgsz, imgsz, 3), BGR from 0 to 255."""
    return np.asarray(cv2.dnn.blobFromImages(list(canvases), scalefactor=1 / 255, swapRB=True), dtype=np.float32)
