"""What is found around each person and in the whole photo, put together: rectangles whose overlaps are plain to see."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seamline.models.detections import Crop, Detections
from seamline.people.merging import NOBODY, merge

HEIGHT, WIDTH = 100, 200
TOP, TROUSERS = 0, 1


class One(NamedTuple):
    of_class: int
    score: float
    x1: int
    y1: int
    x2: int
    y2: int


def found(*ones: One, masks: bool = True) -> Detections:
    """Rectangles that fill their boxes, in the photo's pixels."""
    shapes = [Crop(np.ones((one.y2 - one.y1, one.x2 - one.x1), np.uint8), one.x1, one.y1) for one in ones]
    return Detections(
        boxes=np.array([one[2:] for one in ones], np.float32).reshape(-1, 4),
        scores=np.array([one.score for one in ones], np.float32),
        classes=np.array([one.of_class for one in ones], np.int64),
        shapes=list(shapes) if masks else None,
        height=HEIGHT,
        width=WIDTH,
    )


def person(x1: int, x2: int, y1: int = 0, y2: int = 100) -> One:
    return One(0, 0.9, x1, y1, x2, y2)


def merged(
    people: Detections, whole: Detections, *around: Detections, merge_iou: float = 0.5, most: int = 100
) -> list[tuple[int, float, tuple[int, ...], int | None]]:
    """Class, score, box and owner of each that is left."""
    result = merge({NOBODY: whole, **dict(enumerate(around))}, people, merge_iou, most)
    assert result.persons is not None
    np.testing.assert_array_equal(result.persons.boxes, people.boxes)
    for index in range(len(result) if result.has_masks else 0):  # a mask stays with its box
        x1, y1, x2, y2 = result.boxes[index].astype(int)
        assert result.mask(index)[y1:y2, x1:x2].all()
        assert result.mask(index).sum() == (x2 - x1) * (y2 - y1)
    return [
        (int(number), round(float(score), 3), tuple(box.astype(int).tolist()), result.persons.owner(index))
        for index, (number, score, box) in enumerate(zip(result.classes, result.scores, result.boxes, strict=True))
    ]


def test_a_persons_garment_is_taken_from_around_the_person() -> None:
    """In the whole photo it is small, so the model drew it less well, though it is more certain there."""
    whole = found(One(TOP, 0.9, 22, 20, 40, 50))
    around = found(One(TOP, 0.7, 20, 18, 42, 52))
    assert merged(found(person(10, 60)), whole, around) == [(TOP, 0.7, (20, 18, 42, 52), 0)]


def test_what_lies_on_nobody_comes_from_the_whole_photo() -> None:
    hung, cut_off = One(TOP, 0.8, 60, 10, 100, 60), One(TOP, 0.9, 60, 10, 70, 60)  # at the edge of the crop
    own = One(TROUSERS, 0.6, 20, 50, 50, 95)
    assert merged(found(person(10, 60)), found(hung), found(cut_off, own)) == [
        (TOP, 0.8, (60, 10, 100, 60), None),
        (TROUSERS, 0.6, (20, 50, 50, 95), 0),
    ]


def test_a_neighbours_garment_in_the_margin_is_not_taken_twice() -> None:
    people = found(person(0, 50), person(50, 100))
    around_first = found(One(TOP, 0.5, 10, 20, 40, 50), One(TOP, 0.95, 55, 20, 60, 50))
    around_second = found(One(TOP, 0.6, 55, 20, 95, 50), One(TOP, 0.9, 40, 20, 42, 50))
    assert merged(people, found(), around_first, around_second) == [
        (TOP, 0.6, (55, 20, 95, 50), 1),
        (TOP, 0.5, (10, 20, 40, 50), 0),
    ]


def test_of_two_that_show_one_garment_the_one_that_lies_better_in_its_person_wins() -> None:
    """Boxes of two people overlap; each part shows the first one's top, the second cut off at the part's edge."""
    people = found(person(0, 60), person(45, 100), masks=False)
    whole_top, rest_of_it = One(TOP, 0.6, 10, 20, 58, 50), One(TOP, 0.9, 45, 20, 58, 50)
    around = [found(whole_top, masks=False), found(rest_of_it, masks=False)]
    assert merged(people, found(masks=False), *around) == [(TOP, 0.6, (10, 20, 58, 50), 0)]
    other_class = found(rest_of_it._replace(of_class=TROUSERS), masks=False)
    assert len(merged(people, found(masks=False), around[0], other_class)) == 2


def test_two_of_one_part_are_left_as_the_model_left_them() -> None:
    jackets = found(One(TOP, 0.9, 20, 20, 50, 60), One(TOP, 0.8, 22, 22, 50, 60))
    assert len(merged(found(person(10, 60)), found(), jackets)) == 2


def test_merge_iou_says_how_much_overlap_makes_one_of_two() -> None:
    people = found(person(0, 50), person(40, 100), masks=False)
    first, second = One(TOP, 0.9, 20, 0, 50, 30), One(TOP, 0.8, 40, 0, 68, 30)  # IoU 10 / 48 = 0.21
    around = [found(first, masks=False), found(second, masks=False)]
    assert len(merged(people, found(masks=False), *around, merge_iou=0.22)) == 2
    assert len(merged(people, found(masks=False), *around, merge_iou=0.20)) == 1


def test_a_garment_is_a_persons_from_one_half_of_it_on() -> None:
    mostly, hardly = One(TOP, 0.9, 38, 0, 58, 30), One(TOP, 0.8, 41, 50, 61, 80)  # 12 and 9 of 20 columns
    around = found(mostly._replace(score=0.7), hardly._replace(score=0.6))
    assert merged(found(person(0, 50)), found(mostly, hardly), around) == [
        (TOP, 0.8, (41, 50, 61, 80), None),
        (TOP, 0.7, (38, 0, 58, 30), 0),
    ]


def test_one_that_lies_in_another_is_the_same_however_little_they_overlap() -> None:
    people = found(person(0, 60), person(40, 100), masks=False)
    large = found(One(TOP, 0.9, 10, 0, 58, 30), masks=False)
    for left, count in ((41, 1), (43, 2)):  # 17 and 15 of 20 columns lie in the large one; IoU 0.1
        small = found(One(TOP, 0.8, left, 0, left + 20, 10), masks=False)
        assert len(merged(people, found(masks=False), large, small)) == count


def test_a_garment_a_little_of_which_lies_beside_its_person_does_not_lose_to_a_part_of_it() -> None:
    """Of two that lie as well in their persons, to the hundredth, the larger one is taken."""
    people = found(person(0, 60), person(40, 90), masks=False)
    people.boxes[0, 2] = 57.9  # 47.9 of the first one's 48 columns
    around = [found(One(TOP, 0.6, 10, 0, 58, 30), masks=False), found(One(TOP, 0.9, 41, 0, 57, 10), masks=False)]
    assert merged(people, found(masks=False), *around) == [(TOP, 0.6, (10, 0, 58, 30), 0)]


def test_boxes_decide_where_one_of_the_two_models_has_no_masks() -> None:
    for masks_of_people in (False, True):
        people = found(person(10, 60), masks=masks_of_people)
        whole = found(One(TOP, 0.9, 22, 20, 40, 50), masks=not masks_of_people)
        around = found(One(TOP, 0.7, 20, 18, 42, 52), masks=not masks_of_people)
        assert merged(people, whole, around) == [(TOP, 0.7, (20, 18, 42, 52), 0)]


def test_people_who_are_not_looked_at_closely_have_what_the_whole_photo_shows() -> None:
    people = found(person(0, 50), person(100, 150))
    whole = found(One(TOP, 0.9, 110, 10, 140, 60), One(TOP, 0.8, 10, 10, 40, 60))
    around_first = found(One(TOP, 0.7, 10, 10, 41, 60))
    assert merged(people, whole, around_first) == [(TOP, 0.9, (110, 10, 140, 60), 1), (TOP, 0.7, (10, 10, 41, 60), 0)]


def test_masks_decide_where_boxes_cannot() -> None:
    """The first one's arm makes the box reach over all of the second; the top lies on the second one's mask."""
    arm, body = np.zeros((100, 100), np.uint8), np.zeros((100, 40), np.uint8)
    arm[:, :40] = arm[:10] = 1
    body[10:] = 1
    boxes = np.array([[0, 0, 100, 100], [50, 10, 90, 100]], np.float32)
    scores, classes = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    people = Detections(boxes, scores, classes, [Crop(arm, 0, 0), Crop(body, 50, 0)], HEIGHT, WIDTH)
    top = found(One(TOP, 0.9, 45, 20, 95, 60))  # wide: a part of it lies beside the second one
    assert merged(people, found(), found(), top) == [(TOP, 0.9, (45, 20, 95, 60), 1)]
    assert merged(people, top, top, found()) == []  # the second one's part shows none


def test_a_child_before_an_adult_keeps_its_own_where_there_are_only_boxes() -> None:
    people = found(person(0, 100), person(30, 70, 50, 100), masks=False)
    small, large = One(TOP, 0.6, 35, 60, 65, 80), One(TOP, 0.9, 10, 10, 90, 45)
    around = [found(small, large, masks=False), found(small, masks=False)]
    assert merged(people, found(masks=False), *around) == [
        (TOP, 0.9, (10, 10, 90, 45), 0),
        (TOP, 0.6, (35, 60, 65, 80), 1),
    ]


def test_without_people_all_is_as_the_whole_photo_shows_it() -> None:
    whole = found(One(TOP, 0.9, 22, 20, 40, 50), One(TROUSERS, 0.8, 22, 50, 40, 90))
    assert [box for _, _, box, _ in merged(found(), whole)] == [(22, 20, 40, 50), (22, 50, 40, 90)]
    assert [owner for *_, owner in merged(found(), whole)] == [None, None]
    assert merged(found(), found()) == []


def test_at_most_as_many_as_asked_for_are_left_the_best_ones() -> None:
    around = found(*(One(TOP, score, 10, 10 * row, 40, 10 * row + 9) for row, score in enumerate((0.3, 0.9, 0.6))))
    assert [score for _, score, _, _ in merged(found(person(0, 50)), found(), around, most=2)] == [0.9, 0.6]
