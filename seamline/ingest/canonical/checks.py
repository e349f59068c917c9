"""What of a record is a number, a box, a polygon or an RLE that pycocotools can take."""

from __future__ import annotations

import operator
from typing import Any, TypeGuard

import numpy as np

from seamline.masks.rle import counts_to_runs

MAX_RUN_CHARACTERS = 7  # of one number in compressed RLE: 35 bits
Point = tuple[float, float]
FAR_OUTSIDE = "annotation: a coordinate lies far outside the image"
OTHER_SIZE = "annotation: its RLE is of another size than its image"
UNFILLED = "annotation: its RLE's runs do not fill its size"


class Unusable(Exception):
    """A record that is left out; its text is the reason it is counted under."""


def check_polygon(polygon: Any, height: int, width: int) -> None:
    """Raises Unusable when a coordinate is not a number, has no partner, or lies absurdly far outside the image."""
    if not isinstance(polygon, list) or not all(is_number(value) for value in polygon):
        raise Unusable("annotation: a coordinate is not a number")
    if len(polygon) % 2:
        raise Unusable("annotation: a polygon has an odd number of coordinates")
    # pycocotools' memory grows with the length of a polygon's edges, and beyond 2**31 it writes where it must not.
    if any(abs(value) > 10 * max(height, width) for value in polygon):
        raise Unusable(FAR_OUTSIDE)
    outline = sum(map(abs, map(operator.sub, polygon[2:], polygon)))
    if outline > 1000 * (height + width):
        raise Unusable("annotation: the outline of a polygon is absurdly long")


def check_rle(segmentation: dict[str, Any], height: int, width: int) -> None:
    """Raises Unusable unless the run lengths fill exactly an image of this size; pycocotools does not look."""
    if segmentation.get("size") != [height, width]:
        raise Unusable(OTHER_SIZE)
    counts = segmentation.get("counts")
    if isinstance(counts, list) and any(isinstance(run, float) for run in counts):  # whole ones are integers by now
        raise Unusable("annotation: its RLE's runs are not whole numbers")
    if not fills(counts, height * width):
        raise Unusable(UNFILLED)


def fills(counts: Any, pixels: int) -> bool:
    """Whether run lengths, compressed or not, are valid and add up to this number of pixels."""
    if isinstance(counts, str):
        runs = text_to_runs(counts)
    elif isinstance(counts, list) and all(type(run) is int and 0 <= run <= pixels for run in counts):
        runs = np.array(counts, dtype=np.int64)
    else:
        runs = None
    return runs is not None and not (runs < 0).any() and bool(runs.sum() == pixels)


def text_to_runs(counts: str) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Run lengths of compressed RLE; None where the text is not an RLE."""
    if not counts or not all("0" <= character <= "o" for character in counts) or counts[-1] >= "P":
        return None
    if any(len(run) >= MAX_RUN_CHARACTERS for run in continued_runs(counts)):
        return None
    return counts_to_runs(counts)


def continued_runs(counts: str) -> list[str]:
    """The characters before the last one of every number: those that say that more follow."""
    return "".join(character if character >= "P" else " " for character in counts).split()


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def is_box(box: Any) -> TypeGuard[list[float]]:
    """Whether it is four numbers, of which the last two, width and height, are positive."""
    return isinstance(box, list) and len(box) == 4 and all(is_number(value) for value in box) and min(box[2:]) > 0


def is_rectangle(segmentation: Any) -> bool:
    """Whether a mask is one upright rectangle: a box's four corners, one after the other."""
    corners = four_corners(segmentation)
    if corners is None or len(set(corners)) < 4:
        return False
    axes = [[first[axis] == second[axis] for axis in range(2)] for first, second in sides(corners)]
    return axes in ([[True, False], [False, True]] * 2, [[False, True], [True, False]] * 2)


def is_crossed(segmentation: Any) -> bool:
    """Whether a mask is four points in an order in which two of its sides cross, as a bow tie's do."""
    corners = four_corners(segmentation)
    if corners is None:
        return False
    first, second, third, fourth = sides(corners)
    return do_cross(*first, *third) or do_cross(*second, *fourth)


def four_corners(segmentation: Any) -> list[Point] | None:
    """The points of a mask of one polygon of four points, whose first may be there once more at the end."""
    if not isinstance(segmentation, list) or len(segmentation) != 1 or len(segmentation[0]) not in (8, 10):
        return None
    points = list(zip(segmentation[0][::2], segmentation[0][1::2], strict=True))
    return points[:4] if len(points) == 4 or points[4] == points[0] else None


def sides(points: list[Point]) -> list[tuple[Point, Point]]:
    return list(zip(points, points[1:] + points[:1], strict=True))


def do_cross(first: Point, second: Point, third: Point, fourth: Point) -> bool:
    """Whether two lines cross between their ends: those of each lie on both sides of the other."""
    ends = (
        turn(first, second, third) * turn(first, second, fourth),
        turn(third, fourth, first) * turn(third, fourth, second),
    )
    return max(ends) < 0


def turn(first: Point, second: Point, third: Point) -> float:
    """Above zero where the way turns left at the second point, below where it turns right."""
    (x, y), (a, b), (c, d) = first, second, third
    return (a - x) * (d - y) - (b - y) * (c - x)
