"""The photos that training reads: garments cut out, or whole photos made smaller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from seamline.attributes.garments import Garment
from seamline.base.files import copy
from seamline.base.parallel import in_threads
from seamline.images.cutouts import cut_out
from seamline.images.reading import Image, read_image
from seamline.masks.rle import rle_to_crop
from seamline.params.attributes import Attributes

# Colours are stored at full size: stripes of a garment that is small are a pixel or two wide.
JPEG = [
    cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]  # fmt: skip
KEPT_AS_THEY_ARE = (".jpg", ".png")


def write_photos(garments: Sequence[Garment], folder: Path, params: Attributes) -> list[Path]:
    """A file a garment, called by its id, in their order."""
    folder.mkdir()
    found = in_threads(lambda one: write_photo(one, folder, params), garments)
    return list(tqdm(found, "cutting out", len(garments), unit="garment", disable=None))


def write_photo(one: Garment, folder: Path, params: Attributes) -> Path:
    image = read_image(one.photo)
    if one.box is None:
        suffix = one.photo.suffix.lower().replace(".jpeg", ".jpg")
        if max(image.shape[:2]) <= params.side_px and suffix in KEPT_AS_THEY_ARE and is_plain(one.photo):
            path = folder / f"{one.id}{suffix}"
            copy(one.photo, path)
            return path
        part = image
    else:
        mask = None if one.mask is None else rle_to_crop(one.mask)
        part = cut_out(image, one.box, mask, params.margin, params.background)
    path = folder / f"{one.id}.jpg"
    path.write_bytes(cv2.imencode(".jpg", smaller(part, params.side_px), JPEG)[1].tobytes())
    return path


def is_plain(path: Path) -> bool:
    """Whether the file's pixels are those that everything sees: no EXIF, of which the orientation would be obeyed."""
    return b"Exif\0" not in path.read_bytes()[:65536]


def smaller(image: Image, side_px: int) -> Image:
    """Scaled down so that its longer side fits; a small one stays as it is."""
    scale = side_px / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
