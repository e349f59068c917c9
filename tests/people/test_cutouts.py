"""What is cut out of a photo for a person, with numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamline.base.errors import SeamlineError
from seamline.images.cutouts import Place, box_to_place
from seamline.models.detections import Detections
from seamline.people.cutouts import boxes_to_cutouts, most_prominent_first, person_class


def box(*sides: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(sides, np.float32)


@pytest.mark.parametrize(
    ("sides", "margin", "expected"),
    [
        ((20, 30, 60, 130), 0.1, (16, 20, 64, 140)),  # 4 pixels of 40, 10 of 100
        ((20.4, 30.6, 60.4, 130.6), 0.0, (20, 30, 61, 131)),  # every pixel that the box touches
        ((0, 0, 50, 150), 0.2, (0, 0, 60, 180)),  # clipped at the photo's corner
        ((150, 100, 200, 300), 0.5, (125, 0, 200, 300)),  # at all of the other sides
        ((40, 40, 43, 44), 0.0, (37, 37, 47, 47)),  # too small for an image
        ((197, 40, 200, 60), 0.0, (190, 40, 200, 60)),  # and at the edge
    ],
)
def test_a_crop_is_the_box_with_a_margin_inside_the_photo(
    sides: tuple[float, ...], margin: float, expected: tuple[int, ...]
) -> None:
    assert box_to_place(box(*sides), margin, 300, 200) == Place(*expected)


@given(st.tuples(*[st.floats(-20, 220)] * 4), st.floats(0, 3), st.integers(10, 200), st.integers(10, 200))
def test_whatever_the_box_a_crop_is_an_image_inside_the_photo(
    sides: tuple[float, ...], margin: float, height: int, width: int
) -> None:
    (x1, x2), (y1, y2) = sorted(sides[:2]), sorted(sides[2:])
    left, top, right, bottom = box_to_place(box(x1, y1, x2, y2), margin, height, width)
    assert 0 <= left <= right - 10 <= width - 10
    assert 0 <= top <= bottom - 10 <= height - 10


def test_large_people_that_are_certain_come_first_and_nothing_else() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 30, 30], [0, 0, 40, 40], [0, 0, 20, 20]], np.float32)
    scores, classes = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([1, 1, 0, 1])
    people = most_prominent_first(Detections(boxes, scores, classes, None, 50, 50), 1)
    assert people.boxes[:, 2].tolist() == [30, 20, 10]  # 720, 240 and 90 pixels times score; 40 is of another class
    assert people.scores.tolist() == pytest.approx([0.8, 0.6, 0.9])


def test_who_is_large_and_certain_comes_before_who_is_larger_alone_or_more_certain_alone() -> None:
    boxes = np.array([[0, 0, 30, 30], [0, 0, 20, 20], [0, 0, 10, 10]], np.float32)
    scores, classes = np.array([0.3, 0.8, 0.9], np.float32), np.zeros(3, np.int64)
    people = most_prominent_first(Detections(boxes, scores, classes, None, 50, 50), 0)
    assert people.boxes[:, 2].tolist() == [20, 30, 10]  # 320, 270 and 90


def test_who_would_be_seen_hardly_larger_is_not_cut_out() -> None:
    """Not 1.25 times: the longer side of a part of a photo 200 pixels wide has at most 160."""
    boxes = np.array([[0, 0, 161, 50], [0, 0, 160, 50], [10, 0, 50, 100], [20, 0, 50, 90]], np.float32)
    assert boxes_to_cutouts(boxes, 0.0, 4, 100, 200) == {
        1: Place(0, 0, 160, 50), 2: Place(10, 0, 50, 100), 3: Place(20, 0, 50, 90),
    }  # fmt: skip
    assert [*boxes_to_cutouts(boxes, 0.0, 2, 100, 200)] == [1, 2]
    assert [*boxes_to_cutouts(boxes, 0.5, 4, 100, 200)] == [2, 3]  # with its margin the second one fills the photo


def test_the_class_that_is_people_is_found_by_its_name_in_capitals_too() -> None:
    assert person_class(["cat", "Person"], None, "coco.pt") == 1
    assert person_class(["cat", "pedestrian"], "Pedestrian", "m.onnx") == 1
    assert person_class(["Person", "person"], None, "m.onnx") == 1
    with pytest.raises(SeamlineError, match=r"m\.onnx: the model has no class 'person'; it has cat, dog; .*name"):
        person_class(["cat", "dog"], None, "m.onnx")
    with pytest.raises(SeamlineError, match=r"the model has no class 'dogs'; it has cat, dog\."):
        person_class(["cat", "dog"], "dogs", "m.onnx")
