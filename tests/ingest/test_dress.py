"""What a mask in another dress says: each form beside the plain one that it means."""

from __future__ import annotations

from typing import Any

import pytest
from pycocotools import mask as coco_mask

from seamline.ingest.canonical.checks import Unusable, check_polygon
from seamline.ingest.canonical.dress import DRESSED, plain_segmentation
from tests.conftest import square

FLAT = [1.0, 2.0, 30.0, 2.0, 30.0, 40.0]
SIZE = [60, 80]
COMPRESSED = coco_mask.frPyObjects({"size": SIZE, "counts": [100, 20, 4680]}, *SIZE)["counts"].decode()
RUNS = {"size": SIZE, "counts": [100, 20, 4680]}
TEXT = {"size": SIZE, "counts": COMPRESSED}


@pytest.mark.parametrize(
    ("dressed", "plain"),
    [
        ([[[1, 2], [30, 2], [30, 40]]], [FLAT]),
        ([[{"y": 2, "x": 1}, {"y": 2, "x": 30}, {"Y": 40, "X": 30}]], [FLAT]),  # by name, not by place
        ([["1", "2", "30", "2", "30", "40"]], [FLAT]),
        ("[[1, 2, 30, 2, 30, 40]]", [FLAT]),
        ("[[1, 2], [30, 2], [30, 40]]", [FLAT]),
        ("{'size': [60, 80], 'counts': [100, 20, 4680], 'id': null}", {**RUNS, "id": None}),  # both spellings at once
        ([[[[[1, 2], [30, 2], [30, 40]]]]], [FLAT]),
        ({"size": SIZE, "counts": "100 20 4680"}, RUNS),
        ({"size": SIZE, "counts": "[100, 20, 4680]"}, RUNS),
        ({"size": SIZE, "counts": [[100, 20, 4680]]}, RUNS),
        ({"size": SIZE, "counts": repr(COMPRESSED.encode())}, TEXT),
        ({"size": SIZE, "counts": f'b"{COMPRESSED}"'}, TEXT),
        ([RUNS], RUNS),
        ({"size": SIZE, "counts": [100.0, 20.0, 4680]}, RUNS),
        ({"size": [60.0, 80.0], "counts": [100, 20, 4680]}, RUNS),
    ],
)
def test_a_dress_is_taken_off_and_counted(dressed: Any, plain: Any) -> None:
    repairs: list[str] = []
    assert plain_segmentation(dressed, 60, 80, repairs) == plain
    assert repairs == [DRESSED]


@pytest.mark.parametrize("plain", [[FLAT], [FLAT, FLAT], RUNS, TEXT, None, {"size": SIZE, "counts": [1.5, 4798.5]}])
def test_what_is_plain_or_no_mask_at_all_stays(plain: Any) -> None:
    """Half a pixel in a run is no number of pixels, and is refused later."""
    repairs: list[str] = []
    assert plain_segmentation(plain, 60, 80, repairs) == plain
    assert repairs == []


@pytest.mark.parametrize("text", ["7", "'a'", "[[1, 2, 3", "nonsense"])
def test_text_without_a_mask_is_refused(text: str) -> None:
    with pytest.raises(Unusable, match="its mask is text that cannot be read"):
        plain_segmentation(text, 60, 80, [])


def test_points_of_three_numbers_are_refused() -> None:
    with pytest.raises(Unusable, match="its points have three numbers each"):
        plain_segmentation([[[1, 2, 0], [30, 2, 0], [30, 40, 0]]] * 2, 60, 80, [])


def test_runs_that_are_floats_become_integers() -> None:
    plain = plain_segmentation({"size": [60.0, 80.0], "counts": [100.0, 20.0, 4680.0]}, 60, 80, [])
    assert [type(value) for value in plain["size"] + plain["counts"]] == [int] * 5


def points(outline: list[float]) -> list[list[float]]:
    return [outline[at : at + 2] for at in range(0, len(outline), 2)]


@pytest.mark.parametrize(
    ("other", "refused"),
    [
        (square(20, 20, 10), True),
        (square(10, 10, 40), True),  # the same box
        (square(0, 20, 20), False),  # beyond it to the left
        (square(20, 0, 20), False),
        (square(40, 20, 20), False),
        (square(20, 40, 20), False),
    ],
)
def test_an_outline_in_another_may_be_a_hole_where_points_are_lists(other: list[float], refused: bool) -> None:
    outer = square(10, 10, 40)
    nested = [points(outer), points(other)]
    if not refused:
        assert plain_segmentation(nested, 60, 80, []) == [outer, other]
        return
    with pytest.raises(Unusable, match="may be a part or a hole"):
        plain_segmentation(nested, 60, 80, [])


def test_far_outside_is_ten_times_the_longer_side() -> None:
    check_polygon([0, 0, 800, 0, 0, 5], 60, 80)
    for polygon in ([0, 0, 801, 0, 0, 5], [0, 0, 5, 0, 0, -801]):
        with pytest.raises(Unusable, match="far outside the image"):
            check_polygon(polygon, 60, 80)
