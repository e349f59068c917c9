"""Images in: decoding, and the letterboxed tensor that every engine is fed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from seamline.errors import SeamlineError

Image = npt.NDArray[np.uint8]  # (height, width, 3), BGR
PAD_VALUE = 114  # ultralytics' grey


class Letterbox(NamedTuple):
    """How an image of height x width was fitted into the square input: scaled to fit, then centred."""

    height: int
    width: int
    scaled_height: int
    scaled_width: int
    top: int
    left: int


def read_image(source: Path | bytes | Image) -> Image:
    """Decode a file or bytes to BGR, EXIF rotation applied; an array is passed through.

    Raises:
        SeamlineError: naming the file, when it is missing or cannot be decoded.
    """
    if isinstance(source, np.ndarray):
        return source
    name = str(source) if isinstance(source, Path) else "image"
    try:
        data = np.fromfile(source, dtype=np.uint8) if isinstance(source, Path) else np.frombuffer(source, np.uint8)
    except FileNotFoundError:
        raise SeamlineError(f"{name}: there is no such file.") from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise SeamlineError(f"{name}: is not an image that can be decoded.")
    return np.asarray(image, dtype=np.uint8)


def letterbox_of(height: int, width: int, imgsz: int) -> Letterbox:
    """Fit into imgsz x imgsz as ultralytics' LetterBox does (rounding included)."""
    ratio = min(imgsz / height, imgsz / width)
    scaled_height, scaled_width = max(round(height * ratio), 1), max(round(width * ratio), 1)
    top, left = round((imgsz - scaled_height) / 2 - 0.1), round((imgsz - scaled_width) / 2 - 0.1)
    return Letterbox(height, width, scaled_height, scaled_width, top, left)


def image_to_tensor(image: Image, imgsz: int) -> tuple[npt.NDArray[np.float32], Letterbox]:
    """A (1, 3, imgsz, imgsz) tensor, RGB, 0 to 1, and how the image lies in it."""
    box = letterbox_of(image.shape[0], image.shape[1], imgsz)
    if (box.scaled_height, box.scaled_width) != (box.height, box.width):
        image = np.asarray(cv2.resize(image, (box.scaled_width, box.scaled_height), interpolation=cv2.INTER_LINEAR))
    canvas = np.full((imgsz, imgsz, 3), PAD_VALUE, dtype=np.uint8)
    canvas[box.top : box.top + box.scaled_height, box.left : box.left + box.scaled_width] = image
    tensor = np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1)[None], dtype=np.float32)
    tensor /= 255
    return tensor, box
