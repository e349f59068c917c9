"""What is changed at random stays whole and keeps its hue, and depends on the seed alone."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import pytest

from seamline.attributes.augmenting import augmented, inside_matrix, relit
from seamline.params.classify import Augment

STRONG = Augment(fliplr=0.5, degrees=20.0, scale=0.3, brightness=0.3, contrast=0.3, saturation=0.3, noise=0.0)
NOTHING = Augment(fliplr=0.0, degrees=0.0, scale=0.0, brightness=0.0, contrast=0.0, saturation=0.0, noise=0.0)
PLACED = Augment(0.5, 20.0, 0.3, 0.0, 0.0, 0.0, 0.0)  # moved, and lit as it was
GREY = [128, 128, 128]


def test_all_of_the_picture_stays_inside() -> None:
    side = 64
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]).T
    for seed in range(200):
        moved = inside_matrix(side, STRONG, np.random.default_rng(seed)) @ corners
        assert moved.min() >= -1e-9 and moved.max() <= side + 1e-9


def test_marks_at_the_edges_are_still_there() -> None:
    """A collar at the upper edge, the end of a sleeve at the left one."""
    picture = np.full((64, 64, 3), 128, np.uint8)
    picture[0:4, 28:36] = 255
    picture[28:36, 0:4] = 0
    for seed in range(50):
        found = augmented(picture, PLACED, (seed,), GREY)
        assert (found > 200).sum() >= 3 * 8 and (found < 60).sum() >= 3 * 8


def test_what_is_around_a_smaller_picture_is_the_fill() -> None:
    picture = np.full((64, 64, 3), 255, np.uint8)
    found = augmented(picture, PLACED, (1,), [10, 20, 30])
    corners = found[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()
    assert [10, 20, 30] in corners
    assert {tuple(corner) for corner in corners} <= {(10, 20, 30), (255, 255, 255)}


def test_saturation_leaves_what_a_grey_picture_would_be_like() -> None:
    """OpenCV's weights of blue, green and red."""
    picture = np.random.default_rng(0).integers(90, 160, (32, 32, 3), dtype=np.uint8)
    coloured = Augment(0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.0)
    for seed in range(5):
        found = relit(picture, coloured, np.random.default_rng(seed))
        grey = [cv2.cvtColor(one, cv2.COLOR_BGR2GRAY).astype(int) for one in (picture, found)]
        assert np.abs(grey[0] - grey[1]).max() <= 2  # roundings
        assert np.abs(picture.astype(int) - found).max() > 2


def test_hues_stay() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:] = (60, 120, 180)  # blue, green, red
    wanted = colorsys.rgb_to_hsv(180 / 255, 120 / 255, 60 / 255)[0]
    for seed in range(50):
        blue, green, red = augmented(picture, STRONG, (seed,), GREY)[16, 16].tolist()
        if max(red, green, blue) < 255:  # nothing was cut off
            assert colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)[0] == pytest.approx(wanted, abs=0.02)


def test_the_seed_decides_and_nothing_else() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    noisy = Augment(0.5, 10.0, 0.2, 0.2, 0.2, 0.2, 0.05)
    first = augmented(picture, noisy, (0, 3, 7), GREY)
    augmented(picture, noisy, (9,), GREY)
    assert np.array_equal(first, augmented(picture, noisy, (0, 3, 7), GREY))
    assert not np.array_equal(first, augmented(picture, noisy, (0, 4, 7), GREY))
    assert np.array_equal(augmented(picture, NOTHING, (0,), GREY), picture)
