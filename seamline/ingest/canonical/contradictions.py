"""Boxes and masks that contradict each other, and the conventions of other tools under which they agree.

Nothing here says which of the two is right. What a record looks like is only said; `pull.convention` decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from seamline.ingest.canonical.checks import Unusable, check_polygon, check_rle, fills, is_box
from seamline.masks.rle import Mask, Rle, mask_to_rle, segmentation_to_rle

Box = list[float]  # left, top, width, height in pixels
Factors = tuple[float, float]  # of x and of y

MIN_IOU = 0.5  # a box that overlaps its mask's own less is another thing's
SURE_IOU = 0.7  # of box and mask under a convention that is taken for the right one
GOOD_IOU = 0.9  # no other reading is looked for
SAME_AREA = 0.02  # of the area given: tools that write RLE count its pixels
MIN_AREA_SHARE = 0.5  # of the mask's; polygons' own areas differ from their masks' by less, those in shares by far more
BETTER = 0.1  # of IoU by which a convention has to be better than what agrees roughly as it is, to say something
SOMEHOW = ("scaled", "in_box")  # readings that follow the box of each record, so that rough boxes fit them too
MAX_EDGE = 2.0  # pixels; tools round, or write the last pixel minus the first for a width
FRAMES = {"relative": 1, "percent": 100, "thousandths": 1000}  # what the coordinates of a whole side are
NUMBER = "NUMBER"  # what pull.convention is called where coordinates have to be multiplied
BOTH_SWAPPED = "both_swapped"  # and where y comes before x in masks and in boxes, so that they agree with each other
MIN_INSIDE = 0.5  # of an outline; one that lies farther outside is that of another photo, or of another size
MAX_CANVAS = 16_000  # pixels a side; pycocotools counts in 32 bits
CONVENTIONS = {
    "rows": "RLE written row by row, where COCO goes down the columns",
    "inverted": "inverted RLE, the background in place of the garment",
    "swapped": "swapped axes, y before x",
    "flipped": "masks upside down, y counted from below",
    "relative": "relative coordinates, from 0 to 1",
    "percent": "coordinates in percent, from 0 to 100",
    "thousandths": "coordinates from 0 to 1000",
    "scaled": "masks for another size of the photo",
    "in_box": "masks that count from the corner of their box",
    "box_centers": "boxes that begin with their centre",
    "box_swapped": "boxes with y before x",
    "box_corners_swapped": "boxes as top, left, bottom, right",
}


def contradict(box: Box, own: Box) -> bool:
    """Whether a box is not that of a mask, whose own box is given; neither in its size nor to about a pixel."""
    return box_iou(box, own) < MIN_IOU and largest_difference(box, own) > MAX_EDGE


def are_corners(box: Box, own: Box) -> bool:
    """Whether a box is left, top, right, bottom: read so it agrees with the mask's own, and better than as it is."""
    read = corners_to_box(box)
    if read is None or box_iou(read, own) <= box_iou(box, own):
        return False
    exact = largest_difference(read, own) <= 1 and largest_difference(box, own) > MAX_EDGE
    return exact or (contradict(box, own) and not contradict(read, own))


def corners_to_box(box: Box) -> Box | None:
    read = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    return read if is_box(read) else None


def agreement(box: Box, own: Box) -> float:
    """IoU of a box, or of the corners that it may be, with a mask's own box."""
    corners = corners_to_box(box)
    return max(box_iou(box, own), 0.0 if corners is None else box_iou(corners, own))


def agreed(box: Box, own: Box) -> float:
    """IoU of a box, or of the corners that it may be, with a mask's own box; 1 where a pixel is all the difference."""
    return 1.0 if largest_difference(box, own) <= 1 else agreement(box, own)


def box_iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes; 0 for two empty ones."""
    sides = [
        max(0.0, min(first[axis] + first[axis + 2], second[axis] + second[axis + 2]) - max(first[axis], second[axis]))
        for axis in range(2)
    ]
    common = math.prod(sides)
    union = first[2] * first[3] + second[2] * second[3] - common
    return common / union if union > 0 else 0.0


def largest_difference(first: Box, second: Box) -> float:
    """How far apart their edges are at most."""
    return max(
        abs(first[0] - second[0]),
        abs(first[1] - second[1]),
        abs(first[0] + first[2] - second[0] - second[2]),
        abs(first[1] + first[3] - second[1] - second[3]),
    )


def within_image(box: Box, height: int, width: int) -> Box:
    """The part of a box that lies in the image; the box itself where none does, or where its corners may be meant."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], float(width)), min(box[1] + box[3], float(height))
    return [left, top, right - left, bottom - top] if right > left and bottom > top else box


def outline_bounds(polygons: Sequence[Sequence[float]]) -> Box:
    """The box of polygons before they are cut at the border of the image."""
    left, right = (pick(pick(polygon[::2]) for polygon in polygons) for pick in (min, max))
    top, bottom = (pick(pick(polygon[1::2]) for polygon in polygons) for pick in (min, max))
    return [left, top, right - left, bottom - top]


def is_within_a_pixel(segmentation: Any) -> bool:
    """Whether polygons cover less than a pixel at the image's corner, as those in shares of the image do."""
    if not isinstance(segmentation, list):
        return False
    left, top, width, height = outline_bounds(segmentation)
    return min(left, top) > -0.1 and left + width <= 1.1 and top + height <= 1.1


def leaves_image(segmentation: Any, height: int, width: int) -> bool:
    """Whether polygons reach beyond the image by more than a twentieth of its side."""
    if not isinstance(segmentation, list):
        return False
    bounds = outline_bounds(segmentation)
    return bounds[0] + bounds[2] > 1.05 * width + 1 or bounds[1] + bounds[3] > 1.05 * height + 1


def looks_like(segmentation: Any, box: Box, height: int, width: int) -> list[str]:
    """The conventions under which a box and a mask that contradict each other agree."""
    found = []
    for convention in CONVENTIONS:
        for read, read_box in readings(convention, segmentation, box, height, width):
            if fit_of(convention, read, read_box, height, width) >= SURE_IOU:
                found.append(convention)
                break
    if isinstance(segmentation, list) and agreement(box, outline_bounds(segmentation)) >= GOOD_IOU:
        found += looks_outside(segmentation, height, width)  # they agree with each other, and not with the photo
    return found


def looks_better(segmentation: Any, box: Box, fit: float, height: int, width: int) -> list[str]:
    """The conventions under which a box and a mask agree well that as they are agree only roughly (IoU `fit`)."""
    found = []
    for convention in CONVENTIONS:
        if convention not in SOMEHOW:
            best = best_reading(convention, segmentation, box, height, width)
            if best is not None and best[0] >= max(GOOD_IOU, fit + BETTER):
                found.append(convention)
    return found


def is_background(segmentation: Any, rle: Rle, box: Box, area: float | None) -> bool:
    """Whether an RLE covers what its garment does not: box and area are those of the rest of the image.

    The box of a background is the whole image, which that of a garment that fills its photo overlaps well.
    """
    if not isinstance(segmentation, dict):
        return False
    own, (height, width) = own_box(rle), rle["size"]
    covered = int(coco_mask.area(rle))
    inverse_area = area is not None and area_is(area, height * width - covered) and not area_is(area, covered)
    rough = largest_difference(box, own) > MAX_EDGE
    if not inverse_area and (not rough or (area is not None and area_is(area, covered))):
        return False
    rest = next(inverted(segmentation, height, width), None)
    if rest is None or not coco_mask.area(rest):
        return False
    other, fit = own_box(rest), agreement(box, own)
    if inverse_area:
        return agreement(box, other) >= fit
    return agreement(box, other) >= max(GOOD_IOU, fit + BETTER) or (rough and largest_difference(box, other) <= 1)


def area_is(area: float, pixels: int) -> bool:
    return abs(area - pixels) <= max(1, SAME_AREA * area)


def area_is_off(area: float, covered: float, box: Box | None) -> bool:
    """Whether an area cannot be that of a mask of `covered` pixels; that of the box, or a share, says nothing."""
    if area <= 1 or (box is not None and area_is(area, round(box[2] * box[3]))):
        return False
    return not MIN_AREA_SHARE <= area / covered <= 1 / MIN_AREA_SHARE


def looks_outside(segmentation: Any, height: int, width: int) -> list[str]:
    """What outlines that leave the image look like: those of a larger photo, or y before x if they fit so."""
    if not isinstance(segmentation, list) or not leaves_image(segmentation, height, width):
        return []
    return [NUMBER] if leaves_image(segmentation, width, height) else [BOTH_SWAPPED, NUMBER]


def share_inside(polygons: Sequence[Sequence[float]], height: int, width: int) -> float:
    """Which share of what polygons cover lies in the image, as pycocotools fills them; 0 where they cover nothing."""
    bounds = outline_bounds(polygons)
    left, top = min(bounds[0], 0.0), min(bounds[1], 0.0)
    right, bottom = max(bounds[0] + bounds[2], width), max(bounds[1] + bounds[3], height)
    factor = min(1.0, MAX_CANVAS / (max(right - left, bottom - top) + 1))
    canvas = math.ceil((bottom - top) * factor) + 1, math.ceil((right - left) * factor) + 1
    moved = [
        [(value - (top if index % 2 else left)) * factor for index, value in enumerate(polygon)] for polygon in polygons
    ]
    whole = segmentation_to_rle(moved, *canvas)
    [frame] = coco_mask.frPyObjects(np.array([[-left, -top, width, height]]) * factor, *canvas)
    area = float(coco_mask.area(whole))
    return float(coco_mask.area(coco_mask.merge([whole, frame], intersect=True))) / area if area else 0.0


def best_reading(
    convention: str, segmentation: Any, box: Box, height: int, width: int
) -> tuple[float, Any, Box] | None:
    """The reading by a convention under which box and mask agree best, with their IoU; None where none is valid."""
    best = None
    for read, read_box in readings(convention, segmentation, box, height, width):
        fit = fit_of(convention, read, read_box, height, width)
        if fit >= SURE_IOU and (best is None or fit > best[0]):
            best = fit, read, read_box
    return best


def fit_of(convention: str, segmentation: Any, box: Box, height: int, width: int) -> float:
    """How well a box and a mask that a convention has made agree (IoU); 0 where the mask is not one."""
    rle = checked_rle(segmentation, height, width)
    if rle is None:
        return 0.0
    # What says how boxes are written says whether they are corners.
    return box_iou(box, own_box(rle)) if convention.startswith("box_") else agreement(box, own_box(rle))


def own_box(rle: Rle) -> Box:
    return [float(value) for value in coco_mask.toBbox(rle)]


def checked_rle(segmentation: Any, height: int, width: int) -> Rle | None:
    """None where a reading has made what pycocotools cannot take, or what covers nothing."""
    try:
        if isinstance(segmentation, dict):
            check_rle(segmentation, height, width)
        for polygon in segmentation if isinstance(segmentation, list) else ():
            check_polygon(polygon, height, width)
    except Unusable:
        return None
    if isinstance(segmentation, list) and not any(len(polygon) >= 6 for polygon in segmentation):
        return None
    rle = segmentation_to_rle(segmentation, height, width)
    return rle if coco_mask.area(rle) else None


def readings(convention: str, segmentation: Any, box: Box, height: int, width: int) -> Iterator[tuple[Any, Box]]:
    """What a convention makes of a record: masks (polygons or RLE) with their boxes, not checked."""
    match convention:
        case "rows":
            yield from ((read, box) for read in rows_to_columns(segmentation, height, width))
        case "inverted":
            yield from ((read, box) for read in inverted(segmentation, height, width))
        case "swapped" if isinstance(segmentation, dict):
            right = segmentation.get("size") == [width, height]
            yield {**segmentation, "size": [height, width] if right else None}, box
        case "swapped":
            yield [swap_axes(polygon) for polygon in segmentation], box
        case "flipped":
            yield from ((read, box) for read in flipped(segmentation, height, width))
        case "relative" | "percent" | "thousandths":
            side = FRAMES[convention]
            factors = (width / side, height / side)
            if isinstance(segmentation, list):
                yield scaled(segmentation, factors), box
                if convention == "relative":
                    yield scaled(segmentation, factors), scaled_box(box, factors)
            yield segmentation, scaled_box(box, factors)
        case "scaled":
            yield from ((read, box) for read in fitted(segmentation, box, height, width))
        case "in_box":
            yield from ((read, box) for read in moved_into(segmentation, box, height, width))
        case _:
            other = other_box(convention, box)
            if other is not None:
                yield segmentation, other
                yield from ((segmentation, scaled_box(other, (width / side, height / side))) for side in (1, 100))


def other_box(convention: str, box: Box) -> Box | None:
    match convention:
        case "box_centers":
            return [box[0] - box[2] / 2, box[1] - box[3] / 2, box[2], box[3]]
        case "box_swapped":
            return [box[1], box[0], box[3], box[2]]
        case _:
            return corners_to_box([box[1], box[0], box[3], box[2]])


def rows_to_columns(segmentation: Any, height: int, width: int) -> Iterator[Any]:
    """RLE whose runs go along the rows; its size may be said in either order."""
    if isinstance(segmentation, dict) and segmentation.get("size") in ([height, width], [width, height]):
        mask = decoded(segmentation.get("counts"), width, height)
        if mask is not None:
            yield mask_to_rle(np.ascontiguousarray(mask.T))


def inverted(segmentation: Any, height: int, width: int) -> Iterator[Any]:
    if isinstance(segmentation, dict) and segmentation.get("size") == [height, width]:
        mask = decoded(segmentation.get("counts"), height, width)
        if mask is not None:
            yield mask_to_rle(1 - mask)


def flipped(segmentation: Any, height: int, width: int) -> Iterator[Any]:
    if isinstance(segmentation, list):
        yield [[height - y if index % 2 else y for index, y in enumerate(polygon)] for polygon in segmentation]
    elif segmentation.get("size") == [height, width]:
        mask = decoded(segmentation.get("counts"), height, width)
        if mask is not None:
            yield mask_to_rle(np.ascontiguousarray(mask[::-1]))


def decoded(counts: Any, height: int, width: int) -> Mask | None:
    if not fills(counts, height * width):
        return None
    mask: Mask = coco_mask.decode(segmentation_to_rle({"size": [height, width], "counts": counts}, height, width))
    return mask


def moved_into(segmentation: Any, box: Box, height: int, width: int) -> Iterator[Any]:
    """A mask that counts from the corner of its box; an RLE of the size of the box is put there."""
    left, top = box[:2]
    if isinstance(segmentation, list):
        yield [
            [value + (top if index % 2 else left) for index, value in enumerate(polygon)] for polygon in segmentation
        ]
        return
    size = segmentation.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        return
    first_row, first_column = round(top), round(left)
    if max(abs(size[0] - box[3]), abs(size[1] - box[2])) > 1 or min(first_row, first_column) < 0:
        return
    mask = decoded(segmentation.get("counts"), size[0], size[1])
    if mask is not None and first_row < height and first_column < width:
        whole = np.zeros((height, width), np.uint8)
        part = whole[first_row : first_row + size[0], first_column : first_column + size[1]]
        part[:] = mask[: part.shape[0], : part.shape[1]]
        yield mask_to_rle(whole)


def fitted(segmentation: Any, box: Box, height: int, width: int) -> Iterator[Any]:
    """A mask of another size, brought to the size of its box or image, where its place agrees as well."""
    if isinstance(segmentation, list):
        bounds = outline_bounds(segmentation)
        factors = fitted_factor(bounds[::2], box[::2]), fitted_factor(bounds[1::2], box[1::2])
        if largest_difference(scaled_box(bounds, factors), box) <= max(MAX_EDGE, 0.05 * max(box[2:])):
            yield scaled(segmentation, factors)
        return
    size = segmentation.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and 0 < side < 2**15 for side in size)):
        return
    if size != [height, width] and abs(size[0] * width - size[1] * height) <= max(size[0], size[1], height, width):
        mask = decoded(segmentation.get("counts"), size[0], size[1])
        if mask is not None:
            resized = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            yield mask_to_rle(np.asarray(resized, np.uint8))


def fitted_factor(have: Sequence[float], want: Sequence[float]) -> float:
    """What a start and a length have to be multiplied by: the least squares of both ends."""
    start, end = have[0], have[0] + have[1]
    squares = start * start + end * end
    return (start * want[0] + end * (want[0] + want[1])) / squares if squares else 1.0


def swap_axes(polygon: Sequence[float]) -> list[float]:
    swapped = list(polygon)
    swapped[::2], swapped[1::2] = polygon[1::2], polygon[::2]
    return swapped


def scaled(polygons: Sequence[Sequence[float]], factors: Factors) -> list[list[float]]:
    return [[value * factors[index % 2] for index, value in enumerate(polygon)] for polygon in polygons]


def scaled_box(box: Sequence[float], factors: Factors) -> Box:
    return [value * factors[index % 2] for index, value in enumerate(box)]
