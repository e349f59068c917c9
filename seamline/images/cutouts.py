"""What is cut out of a photo around a box, with or without its background, and as the square that a model takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from seamline.images.files import MIN_SIDE_PX
from seamline.images.reading import Image

# What takes the place of the pixels outside a mask: nothing, white, or the mean colour of the images that a model was
# trained with, which it sees as 0.
Background = Literal["keep", "white", "mean"]
# How an image becomes square. squash: scaled to the square, whatever its shape; crop: scaled until its shorter side
# fits, and its middle taken, as CLIP does; pad: scaled until its longer side fits, in the middle of the mean colour.
Squaring = Literal["squash", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
RESAMPLING = {"bilinear": Pillow.Resampling.BILINEAR, "bicubic": Pillow.Resampling.BICUBIC}
PlacedMask = tuple[npt.NDArray[np.uint8], int, int]  # 0 or 1, (rows, columns), and where its left and top are
WHITE = 255
IMAGENET_MEAN = (0.485, 0.456, 0.406)
# Of an image that is longer than this many times its width, crop scales the middle alone: all of a ribbon of 10 x
# 100,000 would become 1.5 GB.
MOST_TIMES_AS_LONG = 16


class Place(NamedTuple):
    """A part of a photo, in whole pixels; right and bottom are the first that are outside."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, image: Image) -> Image:
        """That part of the photo's pixels, which are not copied."""
        return image[self.top : self.bottom, self.left : self.right]


def cut_out(
    image: Image,
    box: Sequence[float] | npt.NDArray[np.float32] | None,
    mask: PlacedMask | None = None,
    margin: float = 0.0,
    background: Background = "keep",
    mean_rgb: Sequence[float] = IMAGENET_MEAN,
) -> Image:
    """A garment's part of a photo, and the photo itself is left as it is.

    Args:
        image: (height, width, 3), BGR.
        box: x1, y1, x2, y2 in pixels of the photo; None: all of it.
        mask: the garment's pixels in the photo, wherever they are; None, or a mask with no pixel in what is cut out:
            the background stays.
        margin: around the box, on each side as a share of its width or height.
        background: what is put outside the mask.
        mean_rgb: for "mean": red, green and blue from 0 to 1.

    Returns:
        At least MIN_SIDE_PX high and wide; a view where the background stays.
    """
    height, width = image.shape[:2]
    place = Place(0, 0, width, height) if box is None else box_to_place(box, margin, height, width)
    part = place.of(image)
    if mask is None or background == "keep":
        return part
    inside = mask_in_place(mask, place)
    if not inside.any():
        return part
    colour = [WHITE] * 3 if background == "white" else mean_to_bgr(mean_rgb)
    return np.where(inside[:, :, None] > 0, part, np.array(colour, np.uint8))


def mask_in_place(mask: PlacedMask, place: Place) -> npt.NDArray[np.uint8]:
    """The part of a mask that lies in a place, as large as the place."""
    pixels, left, top = mask
    rows, columns = pixels.shape
    found = np.zeros((place.bottom - place.top, place.right - place.left), np.uint8)
    first_row, last_row = max(top, place.top), min(top + rows, place.bottom)
    first_column, last_column = max(left, place.left), min(left + columns, place.right)
    if first_row < last_row and first_column < last_column:
        found[first_row - place.top : last_row - place.top, first_column - place.left : last_column - place.left] = (
            pixels[first_row - top : last_row - top, first_column - left : last_column - left]
        )
    return found


def mean_to_bgr(mean_rgb: Sequence[float]) -> list[int]:
    return [round(255 * value) for value in reversed(mean_rgb)]


def box_to_place(box: Sequence[float] | npt.NDArray[np.float32], margin: float, height: int, width: int) -> Place:
    """What is cut out for a box: it and a margin around it, inside the photo.

    Args:
        box: x1, y1, x2, y2 in pixels of the photo.
        margin: on each side, as a share of the box's width or height.
        height, width: of the photo, in pixels.
    """
    x1, y1, x2, y2 = (float(side) for side in box)
    left, right = widened(x1, x2, margin, width)
    top, bottom = widened(y1, y2, margin, height)
    return Place(left, top, right, bottom)


def widened(low: float, high: float, margin: float, side: int) -> tuple[int, int]:
    """A range of pixels with a margin at both ends, inside 0 to side, and long enough to be an image's side."""
    extra = margin * (high - low)
    first, last = max(math.floor(low - extra), 0), min(math.ceil(high + extra), side)
    missing = MIN_SIDE_PX - (last - first)
    if missing > 0:
        first = min(max(first - missing // 2, 0), side - MIN_SIDE_PX)
        last = first + MIN_SIDE_PX
    return first, last


def to_square(
    image: Image, imgsz: int, squaring: Squaring, interpolation: Interpolation, mean_rgb: Sequence[float]
) -> Image:
    """An image as the square that a model takes, (imgsz, imgsz, 3), still BGR from 0 to 255.

    Scaled by Pillow, as CLIP's images and those of most models were: OpenCV's own filters leave out pixels where an
    image becomes smaller. Rounded as torchvision's Resize and CenterCrop, and open_clip's ResizeKeepRatio and
    CenterCropOrPad, round.
    """
    height, width = image.shape[:2]
    if squaring == "squash":
        return scaled(image, imgsz, imgsz, interpolation)
    if squaring == "crop":
        short = min(height, width)
        image = middle_of(image, MOST_TIMES_AS_LONG * short)
        height, width = image.shape[:2]
        image = scaled(image, int(imgsz * height / short), int(imgsz * width / short), interpolation)
        top, left = (round((side - imgsz) / 2) for side in image.shape[:2])
        return image[top : top + imgsz, left : left + imgsz]
    ratio = max(height, width) / imgsz
    image = scaled(image, max(round(height / ratio), 1), max(round(width / ratio), 1), interpolation)
    top, left = ((imgsz - side) // 2 for side in image.shape[:2])
    square = np.full((imgsz, imgsz, 3), mean_to_bgr(mean_rgb), np.uint8)
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return square


def middle_of(image: Image, most: int) -> Image:
    """An image without its ends, where it is longer than that."""
    height, width = image.shape[:2]
    top, left = max(height - most, 0) // 2, max(width - most, 0) // 2
    return image[top : top + most, left : left + most]


def scaled(image: Image, height: int, width: int, interpolation: Interpolation) -> Image:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Pillow.fromarray(image).resize((width, height), RESAMPLING[interpolation]))


def squares_to_tensor(
    squares: Sequence[Image], mean_rgb: Sequence[float], std_rgb: Sequence[float]
) -> npt.NDArray[np.float32]:
    """(n, 3, imgsz, imgsz) of n squares: RGB, the mean subtracted and divided by the standard deviation.

    Args:
        mean_rgb, std_rgb: of red, green and blue from 0 to 1.
    """
    side = squares[0].shape[0]
    tensor = np.empty((len(squares), 3, side, side), np.float32)
    for square, own in zip(squares, tensor, strict=True):
        for channel, (mean, std) in enumerate(zip(mean_rgb, std_rgb, strict=True)):
            # One multiplication and one addition: a third of the time of two divisions.
            np.multiply(square[:, :, 2 - channel], np.float32(1 / (255 * std)), out=own[channel])
            own[channel] -= np.float32(mean / std)
    return tensor
