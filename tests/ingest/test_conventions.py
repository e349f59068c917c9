"""Where exactly a box and a mask contradict each other, and what each convention makes of them: worked out by hand."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from seamline.base.errors import SeamlineError
from seamline.ingest.canonical.checks import is_crossed, is_rectangle
from seamline.ingest.canonical.contradictions import (
    NUMBER,
    are_corners,
    best_reading,
    contradict,
    is_within_a_pixel,
    leaves_image,
    looks_like,
    readings,
)
from seamline.ingest.canonical.crowds import PARTS, POLYGON, RLE, mask_form
from seamline.ingest.canonical.judging import Setting
from seamline.ingest.canonical.repair import Mended, mend_annotation
from seamline.ingest.canonical.tally import Side, Tally
from tests.conftest import square


@pytest.mark.parametrize(
    ("box", "own", "wanted"),
    [
        ([0.0, 0.0, 10.0, 20.0], [0.0, 0.0, 10.0, 10.0], False),  # IoU 0.5
        ([0.0, 0.0, 10.0, 20.5], [0.0, 0.0, 10.0, 10.0], True),
        ([0.0, 0.0, 2.0, 2.0], [2.0, 2.0, 2.0, 2.0], False),  # two pixels are rounding, though nothing overlaps
        ([0.0, 0.0, 2.0, 2.0], [2.5, 0.0, 2.0, 2.0], True),
    ],
)
def test_a_contradiction_is_an_overlap_of_less_than_a_half(box: list[float], own: list[float], wanted: bool) -> None:
    assert contradict(box, own) is wanted


@pytest.mark.parametrize(
    ("box", "own", "wanted"),
    [
        ([3.0, 3.0, 44.0, 44.0], [3.0, 3.0, 40.0, 40.0], True),  # to a pixel
        ([2.0, 2.0, 45.0, 45.0], [2.0, 2.0, 40.0, 40.0], False),  # a box that is as good as it is
        ([30.0, 30.0, 50.0, 50.0], [30.0, 30.0, 17.0, 17.0], True),  # no box of this mask, and not far off as corners
        ([30.0, 30.0, 20.0, 20.0], [30.0, 30.0, 20.0, 20.0], False),
    ],
)
def test_corners_are_what_fits_better_as_corners(box: list[float], own: list[float], wanted: bool) -> None:
    assert are_corners(box, own) is wanted


def test_limits_of_a_pixel_and_of_the_image_hold_for_both_axes() -> None:
    assert is_within_a_pixel([[0.1, 0.1, 0.9, 0.1, 0.9, 1.1]])
    assert not is_within_a_pixel([[0.1, 0.1, 0.9, 0.1, 0.9, 50]])
    assert not is_within_a_pixel([[0.1, 0.1, 50, 0.1, 0.9, 0.9]])
    assert leaves_image([[1, 1, 9, 1, 9, 107]], 100, 200)
    assert leaves_image([[1, 1, 212, 1, 9, 9]], 100, 200)
    assert not leaves_image([[1, 1, 211, 1, 9, 106]], 100, 200)  # a twentieth and a pixel


def test_the_best_reading_is_taken() -> None:
    """Centres in percent of 110 pixels: as pixels they would do too, with an IoU of 100 x 100 / 110 x 110."""
    found = best_reading("box_centers", [square(0, 0, 110)], [50, 50, 100, 100], 110, 110)
    assert found is not None and found[0] == pytest.approx(1)
    assert found[2] == pytest.approx([0, 0, 110, 110])


def test_what_a_record_looks_like_overlaps_by_seven_tenths() -> None:
    mask = [square(10, 10, 20)]
    assert "box_centers" in looks_like(mask, [20, 17.5, 20, 15], 100, 100)  # read as 10, 10, 20, 15: IoU 0.75
    assert "box_centers" not in looks_like(mask, [20, 16, 20, 12], 100, 100)  # 0.6


def test_masks_and_boxes_in_shares_of_the_image_look_relative() -> None:
    mask = [[0.2, 0.3, 0.6, 0.3, 0.6, 0.9, 0.2, 0.9]]
    assert looks_like(mask, [0.2, 0.3, 0.4, 0.6], 100, 200) == ["relative"]


def test_masks_of_a_larger_photo_are_those_whose_box_says_the_same() -> None:
    outside = [square(150, 150, 100)]
    assert looks_like(outside, [150, 150, 100, 100], 200, 200) == [NUMBER]
    assert NUMBER not in looks_like(outside, [20, 20, 30, 30], 200, 200)


def test_polygons_are_turned_upside_down_at_the_images_height() -> None:
    [(read, _)] = readings("flipped", [[1, 2, 5, 2, 5, 7]], [1, 2, 4, 5], 20, 30)
    assert read == [[1, 18, 5, 18, 5, 13]]


def test_a_mask_is_of_another_size_where_its_place_agrees_too() -> None:
    [(read, _)] = readings("scaled", [square(5, 5, 10)], [10, 10, 20, 20], 100, 100)
    assert read == [square(10, 10, 20)]
    assert not list(readings("scaled", [square(0, 0, 10)], [5, 5, 20, 20], 100, 100))
    # An RLE has to have the shape of the image.
    assert not list(readings("scaled", {"size": [10, 40], "counts": [0, 400]}, [0, 0, 20, 20], 20, 20))


def test_an_rle_of_another_size_takes_the_pixel_in_whose_middle_each_lies() -> None:
    small = np.random.default_rng(0).integers(0, 2, (5, 5), dtype=np.uint8)
    flat = small.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    counts = [int(run) for run in np.diff([0, *changes, flat.size])]
    [(read, _)] = readings("scaled", {"size": [5, 5], "counts": counts}, [0, 0, 8, 8], 8, 8)
    nearest = ((np.arange(8) + 0.5) * 5 / 8).astype(int)
    assert (coco_mask.decode(read) == small[np.ix_(nearest, nearest)]).all()


def test_the_form_of_a_mask_is_that_in_which_it_came() -> None:
    assert mask_form({"counts": [1]}) == mask_form('{"counts": [1]}') == RLE
    assert mask_form([[1, 2], [3, 4]]) == PARTS
    assert mask_form([[1, 2]]) == mask_form([1, 2]) == mask_form(None) == POLYGON


def test_a_mask_that_agrees_better_as_it_is_stays_so() -> None:
    """Rows 40 to 61 of 100, and a box of rows 43 to 61: IoU 18 / 21; upside down they are rows 39 to 60: 17 / 22."""
    mask = [[10, 40, 30, 40, 30, 61, 10, 61]]
    record = {"segmentation": mask, "bbox": [10, 43, 20, 18], "area": 420, "iscrowd": 0}
    assert mend_annotation(record, Setting(100, 100, "flipped")).repairs == []
    assert record["segmentation"] == mask


@pytest.mark.parametrize(
    ("area", "wanted"), [(50, 50), (49, 100), (200, 200), (201, 100), (0, 100), (None, 100), (float("nan"), 100)]
)
def test_an_area_from_half_to_twice_the_masks_stays(area: float | None, wanted: float) -> None:
    record = {"segmentation": [square(5, 5, 10)], "bbox": [5, 5, 10, 10], "area": area, "iscrowd": 0}
    repairs = mend_annotation(record, Setting(40, 40)).repairs
    assert (record["area"], len(repairs)) == (wanted, int(area != wanted))


def tally_of(checked: int, contradictory: int) -> Tally:
    tally = Tally()
    tally.boxed = Side(checked, contradictory, "a.json: annotation 1")
    return tally


def test_more_than_a_tenth_of_what_can_be_checked_stops() -> None:
    tally_of(10, 1).check(None)
    tally_of(19, 2).check("drop")
    with pytest.raises(SeamlineError, match=r"a\.json: annotation 1: 2 of 19 annotations have a box and a mask"):
        tally_of(19, 2).check(None)
    tally = tally_of(0, 0)
    rle: Any = None
    record = {"segmentation": [square(1, 1, 5)], "bbox": [1, 1, 5, 5]}
    tally.add(Mended([], rle, has_box=False), record, Setting(20, 20), "", list)
    tally.add(Mended([], rle, has_box=True), record, Setting(20, 20), "", list)
    assert (tally.boxed.checked, tally.boxless.checked) == (1, 1)
    tally.boxed, tally.boxless = Side(18), Side(2, 2)  # two among twenty are mistakes, whatever the others have
    tally.check(None)
    tally.boxed, tally.boxless = Side(), Side(10, 2, "a.json: annotation 7")
    with pytest.raises(SeamlineError, match=r"a\.json: annotation 7: 2 of 10 annotations have no box, and a mask"):
        tally.check(None)
    tally.check("drop")


@pytest.mark.parametrize(
    ("count", "of", "stops"),
    [(2, 2, False), (3, 12, False), (3, 11, True), (9, 40, False), (10, 99, True), (10, 100, False)],
)
def test_one_of_several_files_stops_where_a_few_cannot_be_mistakes(count: int, of: int, stops: bool) -> None:
    assert Tally(of_file=True).too_many(count, of) == stops


def test_the_convention_that_most_look_like_is_named() -> None:
    tally = tally_of(10, 9)
    tally.boxed.looks.update({"rows": 3, "swapped": 6, "flipped": 2})
    with pytest.raises(SeamlineError, match=r"pull\.convention: swapped reads"):
        tally.check(None)


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_four_corners_are_a_rectangle_or_cross(order: tuple[int, ...], upright: bool) -> None:
    """What they cover as pycocotools fills it is about half of the rectangle, or of the trapezoid, if sides cross."""
    corners = [[20, 20], [60, 20], [60 if upright else 55, 50], [20 if upright else 25, 50]]
    outline = [value for number in order for value in corners[number]]
    closed = outline + outline[:2]
    covered, whole = coco_mask.area(coco_mask.frPyObjects([outline, np.ravel(corners).tolist()], 80, 80))
    crossed = bool(covered < 0.6 * whole)
    assert (is_crossed([outline]), is_crossed([closed])) == (crossed, crossed)
    assert is_rectangle([outline]) == is_rectangle([closed]) == (upright and not crossed)


def test_other_masks_have_no_sides_that_cross() -> None:
    for segmentation in ([[1, 1, 5, 1, 5, 5]], [square(1, 1, 5)] * 2, {"size": [5, 5], "counts": [25]}):
        assert not is_crossed(segmentation)


def test_points_in_an_order_that_crosses_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    tally.masks, tally.crossed = 10, 1
    tally.say(None)
    assert capsys.readouterr().out == ""
    tally.crossed = 2
    tally.say(None)
    assert "2 of 10 masks have four points in an order in which their sides cross" in capsys.readouterr().out


def test_more_than_a_tenth_of_upright_rectangles_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    tally.masks, tally.rectangles = 10, 1
    tally.say(None)
    assert capsys.readouterr().out == ""
    tally.rectangles = 2
    tally.say(None)
    assert capsys.readouterr().out == "2 of 10 masks are upright rectangles; are they boxes, and not outlines?\n"
