"""Garments changed at random in ways that leave their attributes as they are.

Nothing is cut off, since a neck or a sleeve's end may lie at the edge; hues stay, since a colour may be the attribute.
What is drawn depends on the seed alone, so that a training that resumes sees what an uninterrupted one does.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from seamline.images.reading import Image
from seamline.params.classify import Augment


def augmented(square: Image, how: Augment, seed: tuple[int, ...], fill: list[int]) -> Image:
    """A model's input changed at random: mirrored, turned, made smaller and moved, lit otherwise, with noise.

    Args:
        square: (side, side, 3), BGR.
        seed: of the random numbers, such as (seed, epoch, index of the garment).
        fill: the colour around it, blue first.
    """
    rng = np.random.default_rng(seed)
    if rng.random() < how.fliplr:
        square = square[:, ::-1]
    matrix = inside_matrix(square.shape[0], how, rng)
    side = square.shape[:2]
    moved = cv2.warpAffine(np.ascontiguousarray(square), matrix, side, flags=cv2.INTER_LINEAR, borderValue=fill)
    return relit(np.asarray(moved, np.uint8), how, rng)


def inside_matrix(side: int, how: Augment, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(2, 3): turned, made smaller by up to `scale`, and moved as far as all of the square stays inside."""
    angle = math.radians(rng.uniform(-how.degrees, how.degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    shrunk = rng.uniform(1 - how.scale, 1) / (abs(cosine) + abs(sine))  # a turned square needs that much more room
    room = side * (1 - shrunk * (abs(cosine) + abs(sine))) / 2
    x, y = rng.uniform(-room, room, 2)
    turn = shrunk * np.array([[cosine, sine], [-sine, cosine]])
    middle = np.array([side / 2, side / 2])
    shift = middle - turn @ middle + (x, y)
    return np.column_stack([turn, shift])


def relit(image: Image, how: Augment, rng: np.random.Generator) -> Image:
    """Brightness, contrast and saturation changed by up to these shares, and noise of up to this deviation added."""
    light, contrast, colour = 1 + rng.uniform(-1, 1, 3) * (how.brightness, how.contrast, how.saturation)
    pixels = image.astype(np.float32)
    grey = pixels @ np.array([0.114, 0.587, 0.299], np.float32)
    pixels = grey[..., None] + np.float32(colour) * (pixels - grey[..., None])
    mean = grey.mean()
    pixels = np.float32(light) * (mean + np.float32(contrast) * (pixels - mean))
    if how.noise:
        deviation = np.float32(255 * how.noise * rng.random())
        pixels += deviation * rng.standard_normal(pixels.shape, np.float32)
    return np.asarray(np.clip(pixels, 0, 255), np.uint8)
