"""What is cut out of a photo, by hand and by other libraries' own steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from torchvision.transforms import v2

from seamline.images.cutouts import MOST_TIMES_AS_LONG, Background, cut_out, squares_to_tensor, to_square

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
Array = np.ndarray[Any, Any]


def noise(height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_garment_is_cut_out_by_its_box_and_mask() -> None:
    photo = noise(40, 50)
    mask = np.zeros((40, 50), np.uint8)
    mask[12:30, 15:22] = 1
    crop = (mask[12:30, 15:22], 15, 12)
    box = (14.0, 11.0, 34.0, 31.0)
    assert np.array_equal(cut_out(photo, box, crop), photo[11:31, 14:34])
    assert np.array_equal(cut_out(photo, box, crop, margin=0.1), photo[9:33, 12:36])
    backgrounds: dict[Background, tuple[int, int, int]] = {"white": (255, 255, 255), "mean": (104, 117, 123)}
    for background, colour in backgrounds.items():
        expected = photo.copy()
        expected[mask == 0] = colour
        assert np.array_equal(cut_out(photo, box, crop, 0.1, background, MEAN), expected[9:33, 12:36])
        assert np.array_equal(cut_out(photo, None, crop, 0.1, background, MEAN), expected)
    assert np.array_equal(photo, noise(40, 50)), "the photo was changed"


@pytest.mark.parametrize(
    ("box", "margin", "rows", "columns"),
    [
        ((12.5, 10.9, 30.1, 31.0), 0.0, (10, 31), (12, 31)),  # every pixel that the box touches
        ((10, 10, 30, 30), 0.02, (9, 31), (9, 31)),
        ((-5, -5, 60, 70), 0.5, (0, 40), (0, 50)),
        ((20, 20, 24, 22), 0.0, (16, 26), (17, 27)),  # ten at least
        ((48, 38, 50, 40), 0.0, (30, 40), (40, 50)),
        ((0, 0, 2, 2), 0.0, (0, 10), (0, 10)),
    ],
)
def test_the_pixels_of_a_box(box: Any, margin: float, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    photo = noise(40, 50)
    assert np.array_equal(cut_out(photo, box, None, margin), photo[slice(*rows), slice(*columns)])


@pytest.mark.parametrize(("left", "top"), [(-3, -2), (45, 38), (12, 33)])
def test_of_a_mask_that_reaches_beyond_its_box_or_photo_the_part_inside_counts(left: int, top: int) -> None:
    photo, mask = noise(40, 50), np.ones((10, 9), np.uint8)
    whole = np.zeros((80, 80), np.uint8)
    whole[top + 20 : top + 30, left + 20 : left + 29] = 1
    expected = photo.copy()
    expected[whole[20:60, 20:70] == 0] = 255
    assert np.array_equal(cut_out(photo, None, (mask, left, top), 0.0, "white"), expected)


def test_without_a_pixel_of_the_mask_in_the_box_the_background_stays() -> None:
    photo = noise(40, 50)
    for mask in (np.ones((4, 4), np.uint8), np.zeros((40, 50), np.uint8), np.zeros((0, 0), np.uint8)):
        assert np.array_equal(cut_out(photo, (20, 20, 40, 40), (mask, 1, 1), 0.0, "white"), photo[20:40, 20:40])


@given(st.tuples(*[st.integers(-20, 80)] * 4), st.floats(0, 2), st.integers(-30, 60), st.integers(-30, 60))
def test_whatever_box_and_mask_a_cut_out_is_an_image(
    sides: tuple[int, ...], margin: float, left: int, top: int
) -> None:
    (x1, x2), (y1, y2) = sorted(sides[:2]), sorted(sides[2:])
    made = cut_out(noise(40, 50), (x1, y1, x2, y2), (np.ones((1, 1), np.uint8), left, top), margin, "mean")
    assert 10 <= made.shape[0] <= 40
    assert 10 <= made.shape[1] <= 50
    assert to_square(made, 16, "pad", "bilinear", MEAN).shape == (16, 16, 3)


SHAPES = [(300, 200), (200, 300), (301, 200), (200, 303), (97, 331), (224, 224), (40, 60), (13, 100), (31, 65)]


def torchvision_tensor(image: Array, steps: list[Any]) -> Array:
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    made: Array = v2.Compose([*steps, *last])(Pillow.fromarray(image[:, :, ::-1])).numpy()
    return made


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("imgsz", [32, 33])
def test_squares_are_those_of_torchvisions_steps(shape: tuple[int, int], imgsz: int) -> None:
    """Which open_clip makes its images with."""
    image, cubic, linear = noise(*shape), v2.InterpolationMode.BICUBIC, v2.InterpolationMode.BILINEAR
    squashed = torchvision_tensor(image, [v2.Resize((imgsz, imgsz), linear)])
    cropped = torchvision_tensor(image, [v2.Resize(imgsz, cubic), v2.CenterCrop(imgsz)])
    for expected, square in (
        (squashed, to_square(image, imgsz, "squash", "bilinear", MEAN)),
        (cropped, to_square(image, imgsz, "crop", "bicubic", MEAN)),
    ):
        np.testing.assert_allclose(squares_to_tensor([square], MEAN, STD)[0], expected, atol=1e-5)


def test_a_padded_image_lies_in_the_middle_of_the_mean_colour() -> None:
    image = noise(60, 30)
    square = to_square(image, 60, "pad", "bilinear", MEAN)
    assert np.array_equal(square[:, 15:45], image)
    assert (square[:, :15] == (104, 117, 123)).all()
    assert (square[:, 45:] == (104, 117, 123)).all()
    tensor = squares_to_tensor([square], MEAN, STD)
    assert np.abs(tensor[0, :, :, :15]).max() < 0.01  # the model sees it as 0, up to the rounding to whole numbers


def test_a_ribbon_does_not_fill_the_memory() -> None:
    image = np.zeros((10, 400_000, 3), np.uint8)
    image[:, 199_900:200_100] = 255
    square = to_square(image, 20, "crop", "bicubic", MEAN)
    assert square.shape == (20, 20, 3)
    assert square.min() == 255  # it is the middle
    assert 10 * MOST_TIMES_AS_LONG < 400_000
    assert to_square(image, 20, "pad", "bicubic", MEAN).shape == (20, 20, 3)


def test_tensors_of_several_squares_are_those_of_each() -> None:
    squares = [to_square(noise(50, 40, seed), 24, "squash", "bicubic", MEAN) for seed in range(3)]
    together = squares_to_tensor(squares, MEAN, STD)
    assert together.shape == (3, 3, 24, 24)
    assert together.dtype == np.float32
    for own, square in zip(together, squares, strict=True):
        assert np.array_equal(own, squares_to_tensor([square], MEAN, STD)[0])
