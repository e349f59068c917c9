"""Whether a mask can be right: held to its box, its area and its image, as it is or by another convention.

Neither side is trusted: what contradicts itself is left out under a reason of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

from seamline.ingest.canonical.boxless import Look, applies, look_at, read_at_word
from seamline.ingest.canonical.checks import (
    FAR_OUTSIDE,
    OTHER_SIZE,
    Unusable,
    check_polygon,
    check_rle,
    is_number,
)
from seamline.ingest.canonical.contradictions import (
    CONVENTIONS,
    GOOD_IOU,
    MAX_EDGE,
    MIN_INSIDE,
    Box,
    Factors,
    agreed,
    agreement,
    are_corners,
    area_is_off,
    best_reading,
    box_iou,
    contradict,
    is_background,
    is_within_a_pixel,
    largest_difference,
    leaves_image,
    looks_outside,
    outline_bounds,
    own_box,
    share_inside,
    within_image,
)
from seamline.ingest.canonical.runs import other_runs
from seamline.masks.rle import Rle, segmentation_to_rle

TIE = 0.05  # of IoU, by which a mask as it is may agree better in a file whose boxes bear the convention out
NO_PIXEL = "annotation: its mask covers no pixel of the image"
CONTRADICTION = "annotation: its box and its mask contradict each other"
BACKGROUND = "annotation: its box and area are those of the image without its mask"
ROUGH = "annotation: its box and its mask agree only roughly, and most others of its file contradict each other"
WITHIN_A_PIXEL = "annotation: its mask lies within one pixel, as coordinates in shares of the image do"
BEYOND = "annotation: its mask reaches far beyond the image, whose record has no size"
OUTSIDE = "annotation: more than half of its outline lies outside the image"
ROWS = "annotation: has no box, and its RLE makes a shape only if its runs go along the rows"
INVERTED = "annotation: has no box, and its area is that of the image without its mask"
EXCHANGED = "annotation: has no box, and its RLE has height and width exchanged"
RESIZED = "annotation: has no box, and its RLE is of an image of another size and the same shape"
UNSEEN = (NO_PIXEL, BEYOND, OUTSIDE)  # what outlines of larger photos, or with y before x, are without a box
READ = "annotation: read by the convention that pull.convention names"


class Setting(NamedTuple):
    """What is known of an annotation's image and file."""

    height: int  # of the image, in pixels
    width: int
    convention: str | None = None  # one of CONVENTIONS: tried where box and mask do not agree well
    at_word: bool = False  # no annotation of the file has a box to hold its convention to
    mask_factors: Factors | None = None  # what makes pixels of the coordinates of all masks, or boxes, of the file
    box_factors: Factors | None = None
    scale_reason: str = ""  # what this repair is counted under
    has_size: bool = True  # whether the image's record has one, so that its photo was not shrunk afterwards
    areas_tell: bool = True  # whether areas differ from record to record, as those of masks do
    follows: bool = False  # whether the boxes of its file bear the convention out
    strict: bool = False  # most of its file contradicts itself, so that what agrees roughly does so by chance


class Contradiction(Unusable):
    """A record whose mask is not where its box or image is: its mask and box show what it looks like."""

    def __init__(self, reason: str, segmentation: Any, box: Box | None) -> None:
        super().__init__(reason)
        self.segmentation = segmentation
        self.box = box


def agreeing(
    segmentation: Any,
    box: Box | None,
    given: Box | None,
    area: float | None,
    look: Look | None,
    setting: Setting,
    repairs: list[str],
) -> tuple[Any, Rle, Box | None]:
    """Mask and box of which neither contradicts the other, as they are or by the setting's convention."""
    height, width = setting.height, setting.width
    fit, problem, result = 0.0, "", None
    try:
        checked, rle = checked_segmentation(segmentation, height, width, repairs)
        if not coco_mask.area(rle):
            raise Unusable(NO_PIXEL)
        if box is not None and (isinstance(checked, dict) or setting.convention == "pixels"):
            box = cut_box(box, own_box(rle), setting, repairs)
        segmentation, result = checked, (checked, rle, box)
        fit, problem = judged(checked, rle, box, area, setting, repairs)
    except Unusable as unusable:
        problem = str(unusable)
    if problem or (box is None and isinstance(segmentation, list) and not area_agrees(area, result)):
        other = other_runs(segmentation, box, area, height, width)
        if other is not None:
            repairs.append(other.reason)
            if given is None:
                look = look_at(other.rle, area, height, width)
            return agreeing(other.rle, box, given, area, look, setting, repairs)
        if result is None and (problem not in (NO_PIXEL, OTHER_SIZE, FAR_OUTSIDE) or not is_readable(segmentation)):
            raise Unusable(problem)
    if box is None or given is None:
        return without_box(segmentation, result and result[:2], problem, look or Look(), setting, repairs)
    if (
        result is not None
        and not problem
        and (setting.convention not in CONVENTIONS or (fit >= GOOD_IOU and not setting.follows))
    ):
        return result
    if setting.convention in CONVENTIONS:
        of_boxes = setting.convention.startswith("box_")
        best = best_reading(setting.convention, segmentation, given if of_boxes else box, height, width)
        # Where all others agree better by it, so do masks in the middle of a photo, of which nothing shows it.
        if best is not None and best[0] > fit - (TIE if setting.follows and not problem else 0):
            repairs.append(READ)
            return *checked_segmentation(best[1], height, width, repairs), best[2]
    if result is None or problem:
        raise Contradiction(problem, segmentation, box)
    return result


def area_agrees(area: float | None, result: tuple[Any, Rle, Box | None] | None) -> bool:
    """Whether an area is given and may be that of a mask."""
    return area is not None and result is not None and not area_is_off(area, float(coco_mask.area(result[1])), None)


def without_box(
    segmentation: Any, result: tuple[Any, Rle] | None, problem: str, look: Look, setting: Setting, repairs: list[str]
) -> tuple[Any, Rle, None]:
    """A mask without a box that nothing contradicts, as it is or by the setting's convention.

    Args:
        segmentation: in pixels.
        result: what `checked_segmentation` made of it, where it could.
        problem: the reason why that cannot be right, or "".
        look: what the RLE's shape and area say.
        setting: of the annotation.
        repairs: what was mended, to be added to.
    """
    height, width, convention = setting.height, setting.width, setting.convention
    read = None
    if convention in CONVENTIONS and not (setting.mask_factors and isinstance(segmentation, list)):
        holds = applies(convention, segmentation, look, height, width, setting.at_word, setting.follows)
        if holds is None:
            raise Unusable(problem or "annotation: has no box that tells whether pull.convention holds for it")
        read = read_at_word(convention, segmentation, height, width) if holds else None
    if read is not None:
        repairs.append(READ)
        segmentation, rle = checked_segmentation(read, height, width, repairs)
        result, problem = (segmentation, rle), judged(segmentation, rle, None, None, setting, repairs)[1]
    elif isinstance(segmentation, dict):
        problem = rle_problem(segmentation, problem, look, setting)
    if problem in (WITHIN_A_PIXEL, ROWS, INVERTED, EXCHANGED, RESIZED):
        raise Contradiction(problem, segmentation, None)
    if problem in UNSEEN and looks_outside(segmentation, height, width):
        raise Contradiction(problem, segmentation, None)
    if problem or result is None:
        raise Unusable(problem)
    return *result, None


def rle_problem(rle: Rle, problem: str, look: Look, setting: Setting) -> str:
    """Why an RLE without a box cannot be right as it is, or ""."""
    if look.order == "rows":
        return ROWS
    if problem == OTHER_SIZE and look.order == "columns":
        return EXCHANGED
    if problem == OTHER_SIZE and read_at_word("scaled", rle, setting.height, setting.width):
        return RESIZED
    return problem or (INVERTED if look.side == "inverted" else "")


def cut_box(box: Box, own: Box, setting: Setting, repairs: list[str]) -> Box:
    """The box, or its part in the image where that agrees with the mask and the whole box does not.

    RLE ends at the image's border, where boxes may reach beyond. Outlines that do may be those of a larger photo.
    """
    cut = within_image(box, setting.height, setting.width)
    if contradict(box, own) and not are_corners(box, own) and not contradict(cut, own):
        repairs.append("annotation: its box reached beyond the image, cut at the border")
        return cut
    return box


def judged(
    segmentation: Any, rle: Rle, box: Box | None, area: float | None, setting: Setting, repairs: list[str]
) -> tuple[float, str]:
    """How well a box agrees with its mask (IoU), and the reason why they cannot both be right, or ""."""
    own = own_box(rle)
    if own[2] * own[3] <= 4 and is_within_a_pixel(segmentation):
        return 0.0, WITHIN_A_PIXEL
    if not setting.has_size and leaves_image(segmentation, setting.height, setting.width):
        return 0.0, BEYOND
    outside = lies_outside(segmentation, own, setting)
    if outside and (setting.convention == "pixels" or (box is not None and not contradict(box, own))):
        repairs.append("annotation: more than half of its outline lay outside the image, cut at the border")
    elif outside and (box is None or agreement(box, outline_bounds(segmentation)) >= GOOD_IOU):
        return 0.0, OUTSIDE
    if box is None:
        return 0.0, ""
    fit = agreed(box, own)
    if contradict(box, own) and not are_corners(box, own):
        return fit, CONTRADICTION
    if setting.strict and box_iou(box, own) < GOOD_IOU and largest_difference(box, own) > MAX_EDGE:
        return fit, ROUGH
    if setting.convention == "pixels" or not (isinstance(segmentation, dict) or fit < GOOD_IOU):
        return fit, ""
    if is_background(segmentation, rle, box, area):
        return fit, BACKGROUND
    covered = float(coco_mask.area(rle))
    rough = fit < GOOD_IOU and largest_difference(box, own) > MAX_EDGE
    return fit, CONTRADICTION if rough and area is not None and area_is_off(area, covered, box) else ""


def lies_outside(segmentation: Any, own: Box, setting: Setting) -> bool:
    """Whether most of what polygons cover is not in the image; it is looked at only where their mask ends there."""
    if not isinstance(segmentation, list) or not touches_border(own, setting):
        return False
    left, top, width, height = outline_bounds(segmentation)
    if min(left, top) >= -1 and left + width <= setting.width + 1 and top + height <= setting.height + 1:
        return False
    return share_inside(segmentation, setting.height, setting.width) < MIN_INSIDE


def touches_border(own: Box, setting: Setting) -> bool:
    return min(own[:2]) <= 0 or own[0] + own[2] >= setting.width or own[1] + own[3] >= setting.height


def checked_segmentation(segmentation: Any, height: int, width: int, repairs: list[str]) -> tuple[Any, Rle]:
    """The segmentation as polygons or RLE that pycocotools takes, and its union as RLE."""
    if isinstance(segmentation, dict):
        check_rle(segmentation, height, width)
        return segmentation, segmentation_to_rle(segmentation, height, width)
    polygons = []
    for polygon in segmentation:
        check_polygon(polygon, height, width)
        if len(polygon) >= 6:
            polygons.append(polygon)
    if not polygons:
        raise Unusable("annotation: its polygons have fewer than three points")
    if len(polygons) < len(segmentation):
        repairs.append("annotation: a polygon of fewer than three points left out beside others")
    return polygons, segmentation_to_rle(polygons, height, width)


def is_readable(segmentation: Any) -> bool:
    """Whether another convention can be tried on it."""
    if not isinstance(segmentation, list):
        return isinstance(segmentation, dict)
    return bool(segmentation) and are_numbers(segmentation) and all(map(len, segmentation))


def are_numbers(polygons: list[Any]) -> bool:
    return all(
        isinstance(polygon, list) and len(polygon) % 2 == 0 and all(map(is_number, polygon)) for polygon in polygons
    )
