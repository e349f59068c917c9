"""One annotation made canonical: repaired where that is certain, else left out under a named reason.

docs/data.md has the table of what is repaired and what is dropped; tests/ingest/test_canonical.py holds every row of
it. No mask is ever made from a box, nor is one changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from pycocotools import mask as coco_mask

from seamline.base.coco import Record
from seamline.ingest.canonical.boxless import Look, applies, look_at, read_at_word
from seamline.ingest.canonical.checks import (
    FAR_OUTSIDE,
    OTHER_SIZE,
    Unusable,
    check_polygon,
    check_rle,
    is_box,
    is_number,
    is_rectangle,
)
from seamline.ingest.canonical.contradictions import (
    BOTH_SWAPPED,
    CONVENTIONS,
    GOOD_IOU,
    MAX_EDGE,
    MIN_AREA_SHARE,
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
    scaled,
    scaled_box,
    share_inside,
    swap_axes,
    within_image,
)
from seamline.ingest.canonical.dress import plain_box, plain_segmentation
from seamline.masks.rle import Rle, segmentation_to_rle

TIE = 0.05  # of IoU, by which a mask as it is may agree better in a file whose boxes bear the convention out
NO_PIXEL = "annotation: its mask covers no pixel of the image"
CONTRADICTION = "annotation: its box and its mask contradict each other"
BACKGROUND = "annotation: its box and area are those of the image without its mask"
ROUGH = "annotation: its box and its mask agree only roughly, and most others of its file contradict each other"
AREA_OFF = "annotation: has no box, and its area is under half or over twice that of its mask"
WITHIN_A_PIXEL = "annotation: its mask lies within one pixel, as coordinates in shares of the image do"
BEYOND = "annotation: its mask reaches far beyond the image, whose record has no size"
OUTSIDE = "annotation: more than half of its outline lies outside the image"
ROWS = "annotation: has no box, and its RLE makes a shape only if its runs go along the rows"
INVERTED = "annotation: has no box, and its area is that of the image without its mask"
EXCHANGED = "annotation: has no box, and its RLE has height and width exchanged"
RESIZED = "annotation: has no box, and its RLE is of an image of another size and the same shape"
UNSEEN = (NO_PIXEL, BEYOND, OUTSIDE)  # what outlines of larger photos, or with y before x, are without a box
SHARES = "annotation: its coordinates were shares of the image, turned into pixels"
SCALED = "annotation: its coordinates were those of a photo of another size, scaled"
READ = "annotation: read by the convention that pull.convention names"
AREA_TAKEN = "annotation: its area was missing or not its mask's, taken from the mask"
BOX_ONLY = "annotation: has a box and no mask"


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


class Mended(NamedTuple):
    repairs: list[str]
    rle: Rle
    has_box: bool  # whether there was a box to hold the mask to
    look: Look | None = None  # at an RLE without a box
    has_area: bool = True  # whether its area, at least, was held to the mask
    outside: Sequence[str] = ()  # what its outline looks like where it leaves the image
    fit: float = 1.0  # IoU of box and mask; 1 where they agree but for rounding
    area_off: bool = False  # whether an area was given that cannot be that of the mask


class Contradiction(Unusable):
    """A record whose mask is not where its box or image is: its mask and box show what it looks like."""

    def __init__(self, reason: str, segmentation: Any, box: Box | None) -> None:
        super().__init__(reason)
        self.segmentation = segmentation
        self.box = box


def mend_annotation(record: Record, setting: Setting) -> Mended:
    """Give an annotation a valid segmentation, bbox, area and iscrowd, in place.

    Raises:
        Contradiction: when its box and its mask are not of one thing.
        Unusable: when it cannot be repaired with certainty otherwise.
    """
    repairs: list[str] = []
    given = plain_box(record.get("bbox"))
    segmentation = to_pixels(record, setting, repairs)
    if record.get("isbbox") is True and is_rectangle(segmentation):
        raise Unusable(BOX_ONLY)
    box = scaled_box(given, setting.box_factors) if given and setting.box_factors else given
    if setting.convention == BOTH_SWAPPED and isinstance(segmentation, list) and are_numbers(segmentation):
        segmentation = [swap_axes(polygon) for polygon in segmentation]
        box = box and [box[1], box[0], box[3], box[2]]
        repairs.append(READ)
    look, area_given = None, area_to_trust(record, setting)
    if given is None:
        look = look_at(segmentation, record.get("area"), setting.height, setting.width)
    segmentation, rle, read_box = agreeing(segmentation, box, given, area_given, look, setting, repairs)
    if look is not None and READ in repairs:
        look = look_at(segmentation, record.get("area"), setting.height, setting.width)
    record["segmentation"] = shorter_segmentation(segmentation, rle)
    crowd = record.pop("is_crowd", None)
    crowd = record.get("iscrowd", crowd)
    record["iscrowd"] = crowd_to_number(crowd)
    if crowd is not record["iscrowd"]:
        repairs.append("annotation: iscrowd was missing or no number")
    own = own_box(rle)
    if read_box is None:
        record["bbox"] = own
        repairs.append("annotation: its box was missing or empty, made from the mask")
    elif are_corners(read_box, own):
        record["bbox"] = own
        repairs.append("annotation: its box was given as corners, made from the mask")
    elif read_box is not given:
        record["bbox"] = read_box
    elif not is_box(record["bbox"]):
        record["bbox"] = given
        repairs.append("annotation: its box was not in COCO's form, put into it")
    area = float(coco_mask.area(rle))
    area_off = area_given is not None and area_is_off(area_given, area, read_box)
    if area_off and given is None and setting.convention == "drop":
        raise Contradiction(AREA_OFF, segmentation, None)
    if not (is_number(record.get("area")) and MIN_AREA_SHARE <= record["area"] / area <= 1 / MIN_AREA_SHARE):
        record["area"] = area
        repairs.append(AREA_TAKEN)
    outside = looks_outside(segmentation, setting.height, setting.width) if touches_border(own, setting) else []
    fit = agreed(read_box, own) if given is not None and read_box is not None else 1.0
    return Mended(repairs, rle, given is not None, look, AREA_TAKEN not in repairs, outside, fit, area_off)


def area_to_trust(record: Record, setting: Setting) -> float | None:
    """The area given, where it may say something of the mask; nobody knows in what units it is beside scaled masks."""
    area: Any = record.get("area")
    if setting.convention == "pixels" or setting.mask_factors or not setting.areas_tell:
        return None
    return area if is_number(area) and area > 0 else None


def to_pixels(record: Record, setting: Setting, repairs: list[str]) -> Any:
    """The segmentation in COCO's form, in pixels where the whole file's coordinates are something else."""
    segmentation = plain_segmentation(record.get("segmentation"), setting.height, setting.width, repairs)
    if not isinstance(segmentation, (list, dict)) or not segmentation:
        raise Unusable(BOX_ONLY if record.get("bbox") else "annotation: has no mask")
    if setting.mask_factors and isinstance(segmentation, list) and are_numbers(segmentation):
        segmentation = scaled(segmentation, setting.mask_factors)
        if is_number(record.get("area")) and (setting.scale_reason == SCALED or record["area"] <= 1):
            record["area"] *= setting.mask_factors[0] * setting.mask_factors[1]
    if setting.scale_reason:
        repairs.append(setting.scale_reason)
    return segmentation


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
        if problem not in (NO_PIXEL, OTHER_SIZE, FAR_OUTSIDE) or not is_readable(segmentation):
            raise
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


def shorter_segmentation(segmentation: Any, rle: Rle) -> Any:
    """The segmentation itself, or its union as compressed RLE where that is less text; the mask is the same.

    Outlines traced from pixels are many times as long, and the dataset holds its masks three times: raw, subset, split.
    """
    compressed = {"size": [int(side) for side in rle["size"]], "counts": counts_to_text(rle["counts"])}
    if isinstance(segmentation, dict):
        return compressed
    return min(segmentation, compressed, key=lambda form: len(msgspec.json.encode(form)))


def counts_to_text(counts: bytes | str) -> str:
    return counts if isinstance(counts, str) else counts.decode("ascii")


def crowd_to_number(crowd: Any) -> int:
    if isinstance(crowd, list) and len(crowd) == 1:
        crowd = crowd[0]
    if crowd is None or crowd in (0, "0"):
        return 0
    if crowd in (1, "1"):
        return 1
    raise Unusable("annotation: iscrowd is neither 0 nor 1")


def whole_number(value: Any) -> int | None:
    """An id as an integer, also from text such as "000042"; None where it is not one that fits 53 bits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None
