"""Shapes on a photo: masks or boxes, and labels that stay small, inside and the right way round."""

from __future__ import annotations

import numpy as np
import pytest

from seamline.images.drawing import Shape, drawn
from seamline.images.lettering import shortened
from seamline.images.overlays import SIDE_PX, overlay

MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # of direction


def test_texts_of_masks_in_one_place_are_drawn_one_below_the_other() -> None:
    image = np.full((300, 200, 3), 100, np.uint8)
    mask = np.zeros((300, 200), np.uint8)
    mask[140:160, 90:110] = 1

    def covered(*words: str) -> list[int]:
        """Rows of the picture that texts cover."""
        with_text = drawn(image, [Shape((0, 0, 0), word, mask=mask) for word in words])
        without = drawn(image, [Shape((0, 0, 0), "", mask=mask) for _ in words])
        return [int(row) for row in np.flatnonzero((with_text != without).any(axis=(1, 2)))]

    def rows(*words: str) -> int:
        return len(covered(*words))

    assert rows("top") > 5
    assert rows("top", "jacket") > 1.7 * rows("top")
    assert min(covered("top", "top")) == min(covered("top")), "the first text stays, the second is below"
    assert rows("a name that is much longer than the picture is wide, and no narrower") > 3
    assert rows("two\nlines") < 1.6 * rows("top")


@pytest.mark.parametrize("at", [(0, 0), (295, 195)])
def test_a_text_stays_inside_the_picture(at: tuple[int, int]) -> None:
    image = np.full((300, 200, 3), 100, np.uint8)
    mask = np.zeros((300, 200), np.uint8)
    mask[at[0] : at[0] + 5, at[1] : at[1] + 5] = 1
    found = drawn(image, [Shape((0, 0, 0), "short sleeve top", mask=mask)])
    changed = (found != 100).any(axis=2)
    assert changed[:, :2].sum() + changed[:, -2:].sum() < 40  # a letter's rim at most, and the mask
    assert changed.sum() > 300


def test_where_there_is_no_mask_the_box_is_drawn() -> None:
    """As a model gives it that finds boxes only: its rim and nothing inside of it but the label."""
    image = np.full((1200, 600, 3), 100, np.uint8)
    picture = overlay(image, [Shape((0, 0, 255), "", box=(100, 200, 500, 1000))])
    scale = SIDE_PX / 1200
    top, bottom, left, right = (round(scale * side) for side in (200, 1000, 100, 500))
    changed = (picture != 100).any(axis=2)
    assert (picture[top, left + 5 : right - 5] == (0, 0, 255)).all()
    assert (picture[top + 5 : bottom - 5, left] == (0, 0, 255)).all()
    assert not changed[top + 4 : bottom - 4, left + 4 : right - 4].any()
    assert not changed[: top - 3].any() and not changed[bottom + 3 :].any()
    labelled = overlay(image, [Shape((0, 0, 255), "top", " 0.87", box=(100, 200, 500, 1000))])
    rows = np.flatnonzero((labelled != picture).any(axis=(1, 2)))
    assert abs(rows.mean() - (top + bottom) / 2) < 3
    assert (drawn(image, [Shape((0, 0, 255), "top")]) == image).all(), "neither mask nor box"


@pytest.mark.parametrize("name", ["x" * 80, "a name of " * 8, "短袖上衣" * 20, "x" * 4000])
def test_a_name_of_any_length_is_one_line_with_its_score_whole(name: str) -> None:
    image = np.full((384, 256, 3), 100, np.uint8)
    mask = np.ones((384, 256), np.uint8)
    plain = drawn(image, [Shape((0, 0, 0), "", mask=mask)])
    first, second = (drawn(image, [Shape((0, 0, 0), name, score, mask)]) for score in (" 0.87", " 0.11"))
    rows = np.flatnonzero((first != plain).any(axis=(1, 2)))
    assert 4 < np.ptp(rows) < 24, "one line of letters that can be read"
    columns = np.flatnonzero((first != second).any(axis=(0, 2)))
    assert 8 < np.ptp(columns) < 60
    assert (first != plain)[:, [0, -1]].sum() == 0


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_of_direction_in_a_name_turns_no_score_round(mark: str) -> None:
    image = np.full((300, 200, 3), 100, np.uint8)
    mask = np.ones((300, 200), np.uint8)
    expected = drawn(image, [Shape((0, 0, 0), "top", " 0.87: missed", mask)])
    for name in (f"top{mark}", f"{mark}top", f"to{mark}p"):
        assert (drawn(image, [Shape((0, 0, 0), name, " 0.87: missed", mask)]) == expected).all()
        assert shortened(name) == "top"
    assert len(shortened(mark * 80 + "x" * 80, 32)) <= 32
