"""What the annotations of a source say together, while they are judged one by one: which convention they follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.ingest.canonical.checks import four_corners, is_crossed, is_rectangle
from seamline.ingest.canonical.contradictions import (
    BOTH_SWAPPED,
    CONVENTIONS,
    GOOD_IOU,
    NUMBER,
    leaves_image,
    looks_better,
    looks_like,
    looks_outside,
)
from seamline.ingest.canonical.judging import (
    BACKGROUND,
    BEYOND,
    EXCHANGED,
    INVERTED,
    OUTSIDE,
    RESIZED,
    ROWS,
    WITHIN_A_PIXEL,
    Contradiction,
    Setting,
    is_readable,
)
from seamline.ingest.canonical.repair import Mended

MAX_SHARE = 0.1  # of the records that can be checked: more contradictions are not a few mistakes but a convention
MAX_LOOKED_AT = 300  # contradictions, for what they look like
MAX_DOUBTS = 100  # annotations whose box and mask agree only roughly, for what they agree better under
MIN_DOUBTS = 3  # that agree much better by one convention, before they say something
MIN_AREAS = 3  # that are not their masks', before they say something
MIN_RECORDS = 10  # before all coordinates together say something
FEW, PART = 3, 0.25  # contradictions in one of several files, and of its records; MIN_RECORDS need not be that part
MAX_LOOKED_AT_IN_FILE = 20  # of several: there may be hundreds of them
MAX_REACH = 0.75  # of a photo; where masks of many photos reach no farther, the photos may have been enlarged
Looks = Callable[[], list[str]]
LOOKS = {
    ROWS: "rows", INVERTED: "inverted", BACKGROUND: "inverted", EXCHANGED: "swapped", RESIZED: "scaled",
    WITHIN_A_PIXEL: "relative",
}  # fmt: skip


class Side(msgspec.Struct):
    """Annotations with a box, or those without: how many could be checked, and how many contradict themselves."""

    checked: int = 0
    contradictory: int = 0
    first: str = ""
    looked_at: int = 0  # of the contradictory ones, for what they look like
    looks: Counter[str] = msgspec.field(default_factory=Counter)
    areas: int = 0  # given; and of them those that cannot be the masks'
    areas_off: int = 0
    first_off: str = ""


class Doubts(msgspec.Struct):
    """Annotations whose box and mask agree only roughly, and what those looked at agree better by."""

    count: int = 0
    looked_at: int = 0
    looks: Counter[str] = msgspec.field(default_factory=Counter)
    first: dict[str, str] = msgspec.field(default_factory=dict)


class Tally:
    """What the annotations of a source say together, one after the other: which convention they seem to follow."""

    def __init__(self, of_file: bool = False) -> None:
        """Of a source; with `of_file` of one of its several files, where a few records are easily many of them."""
        self.of_file = of_file
        self.boxed = Side()
        self.boxless = Side()
        self.doubts = Doubts()
        self.masks = 0
        self.rectangles = 0
        self.crossed = 0  # masks of four points in a wrong order
        self.unheld = 0  # outlines without a box, and RLE without one, an area, or a shape that says something
        self.orders = Counter[bool]()  # of RLE without a box but with an area: whether its shape says which way runs go
        self.sideless = 0  # RLE without a box and an area, and those that cover all corners, as backgrounds do
        self.cornered = 0
        self.first_cornered = ""
        self.leaving = 0  # outlines that leave the image, and those that would not with y before x
        self.leaving_only_unswapped = 0
        self.first_leaving = ""
        self.reach_of_all = 0.0  # of any mask, from 0 to 1, and where the one nearest to the left or upper edge begins
        self.start = 1.0
        self.sizeless = 0  # masks on photos whose records have no size, and how far they reach, from 0 to 1
        self.reach = 0.0
        self.turned = 0  # outlines on photos that EXIF turns, whose records have the size as stored
        self.beyond = 0  # those of them that fit the photo only as shown
        self.first_beyond = ""

    def add_turned(self, segmentation: Any, setting: Setting, where: str) -> None:
        """Counts an annotation of a photo that is taken as it is stored; its outline as it came."""
        if setting.mask_factors or not is_readable(segmentation) or isinstance(segmentation, dict):
            return
        self.turned += 1
        as_stored, as_shown = (setting.height, setting.width), (setting.width, setting.height)
        if leaves_image(segmentation, *as_stored) and not leaves_image(segmentation, *as_shown):
            self.beyond += 1
            self.first_beyond = self.first_beyond or where

    def add(self, mended: Mended, record: Record, setting: Setting, where: str, looks: Looks) -> None:
        """Counts an annotation that is kept; `looks` gives the conventions by which its box and mask agree better."""
        self.masks += 1
        if four_corners(record["segmentation"]) is not None:
            self.rectangles += is_rectangle(record["segmentation"])
            self.crossed += is_crossed(record["segmentation"])
        side = self.boxed if mended.has_box else self.boxless
        side.checked += 1
        side.areas += mended.has_area or mended.area_off
        side.areas_off += mended.area_off
        if mended.area_off:
            side.first_off = side.first_off or where
        if not mended.has_box:
            self.add_boxless(mended, where)
        elif mended.fit < GOOD_IOU:
            self.add_doubt(setting, where, looks)
        if mended.outside:
            self.leaving += 1
            self.leaving_only_unswapped += BOTH_SWAPPED in mended.outside
            self.first_leaving = self.first_leaving or where
        left, top, width, height = record["bbox"]
        reach = max((left + width) / setting.width, (top + height) / setting.height)
        self.reach_of_all = max(self.reach_of_all, reach)
        self.start = min(self.start, left / setting.width, top / setting.height)
        if not setting.has_size:
            self.sizeless += 1
            self.reach = max(self.reach, reach)

    def add_boxless(self, mended: Mended, where: str) -> None:
        look = mended.look
        if look is None or not look.is_rle:
            self.unheld += 1  # an outline has the same area wherever it lies
        elif look.order is not None or mended.has_area:
            self.orders[look.order is not None] += 1
        else:
            self.unheld += 1
        if look is not None and look.is_rle and look.side is None:
            self.sideless += 1
            self.cornered += look.covers_corners
            self.first_cornered = self.first_cornered or (where if look.covers_corners else "")

    @property
    def unchecked(self) -> int:
        """Masks that nothing shows to lie where they should.

        An area is the same in rows and columns, and on square photos so is the shape: there the others have to tell.
        """
        return self.unheld + (0 if self.orders[True] else self.orders[False])

    def add_doubt(self, setting: Setting, where: str, looks: Looks) -> None:
        """An IoU from 0.5 on contradicts nothing in one record; in many it may be chance that helps a convention."""
        doubts = self.doubts
        doubts.count += 1
        if setting.convention is None and doubts.looked_at < (MAX_LOOKED_AT_IN_FILE if self.of_file else MAX_DOUBTS):
            doubts.looked_at += 1
            for name in looks():
                doubts.looks[name] += 1
                doubts.first.setdefault(name, where)

    def add_contradiction(self, boxless: bool, where: str, looks: Looks) -> None:
        side = self.boxless if boxless else self.boxed
        side.checked += 1
        side.contradictory += 1
        side.first = side.first or where
        if side.contradictory <= (MAX_LOOKED_AT_IN_FILE if self.of_file else MAX_LOOKED_AT):
            side.looked_at += 1
            side.looks.update(looks())

    def say(self, convention: str | float | None) -> None:
        """Prints what may be wrong with the whole source, and is too uncertain to stop for."""
        if self.rectangles > MAX_SHARE * self.masks:
            print(f"{self.rectangles} of {self.masks} masks are upright rectangles; are they boxes, and not outlines?")
        if self.crossed > MAX_SHARE * self.masks:
            print(
                f"{self.crossed} of {self.masks} masks have four points in an order in which their sides cross, which "
                "covers two triangles; are the points in the right order?"
            )
        if convention is None and self.sizeless >= MIN_RECORDS and self.reach <= MAX_REACH:
            print(
                f"none of {self.sizeless} masks, on photos whose records have no size, reaches beyond "
                f"{self.reach:.0%} of its photo; if the photos were enlarged after annotation, pull.convention: NUMBER "
                "scales the masks, 2 to twice the size"
            )
        elif convention is None and self.masks >= MIN_RECORDS and self.lie_in_corner():
            print(
                f"none of {self.masks} masks reaches beyond {self.reach_of_all:.0%} of its photo, though they begin at "
                f"{max(0, self.start):.0%}; if the photos were enlarged after annotation, pull.convention: NUMBER "
                "scales the masks, 2 to twice the size"
            )

    def say_areas(self) -> bool:
        """Prints that areas are not those of masks whose boxes agree with them, and whether that was so."""
        side = self.boxed
        if side.areas_off < MIN_AREAS or not self.too_many(side.areas_off, side.areas):
            return False
        print(
            f"{side.first_off}: {side.areas_off} of {side.areas} areas are under half or over twice those of the "
            "masks, whose boxes agree with them, this one first; do masks and boxes lie where they should? look at some"
        )
        return True

    def lie_in_corner(self) -> bool:
        """Whether all masks leave a quarter of their photo free on the right and below, and much less elsewhere."""
        return self.reach_of_all <= MAX_REACH and self.start <= (1 - self.reach_of_all) / 4

    def too_many(self, count: int, of: int) -> bool:
        """Whether this number cannot be single mistakes."""
        enough = not self.of_file or count >= MIN_RECORDS or (count >= FEW and count > PART * of)
        return enough and count > MAX_SHARE * of

    def check(self, convention: str | float | None) -> None:
        """Raises SeamlineError when that many contradict themselves: it has to be a convention."""
        if self.too_many(self.beyond, self.turned):
            raise SeamlineError(
                f"{self.first_beyond}: {self.beyond} of {self.turned} masks on photos that EXIF turns, this one first, "
                "reach beyond the photo as it is stored, whose size its record has, and not beyond it as shown; if "
                "they were drawn on photos as shown, exchange width and height in those records."
            )
        if convention != "drop":
            boxed, boxless = self.boxed, self.boxless
            both = Side(boxed.checked + boxless.checked, boxed.contradictory + boxless.contradictory)
            for counts, side, what in (
                (boxed, boxed, "have a box and a mask that contradict each other"),
                (both, boxless, "have no box, and a mask that cannot be right as it is"),
            ):
                if self.too_many(counts.contradictory, counts.checked):
                    raise SeamlineError(
                        f"{side.first}: {side.contradictory} of {side.checked} annotations {what}, this one first; "
                        f"{guess_of(side.looks, side.looked_at)}; pull.convention: drop leaves them out."
                    )
            self.check_areas(convention)
        if convention is None:
            self.check_doubts()
        if convention is not None:
            return
        if self.too_many(self.leaving, self.masks) and self.leaving == self.leaving_only_unswapped:
            raise SeamlineError(
                f"{self.first_leaving}: {self.leaving} of {self.masks} masks, this one first, reach beyond their "
                f"photo, and all of them would lie in it with y before x, which pull.convention: {BOTH_SWAPPED} reads; "
                "pull.convention: pixels takes them as they are."
            )
        if self.cornered >= (FEW if self.of_file else MIN_RECORDS) and self.cornered > self.sideless / 2:
            raise SeamlineError(
                f"{self.first_cornered}: {self.cornered} of {self.sideless} masks without box and area cover all "
                f"four corners of their photo; they look like {CONVENTIONS['inverted']}, which "
                "pull.convention: inverted reads; pull.convention: pixels takes them as they are."
            )

    def check_areas(self, convention: str | float | None) -> None:
        """Raises SeamlineError when areas are all there is to hold masks to, and most of them are others'."""
        side = self.boxless
        if convention != "pixels" and side.areas_off >= MIN_AREAS and side.areas_off > side.areas / 2:
            raise SeamlineError(
                f"{side.first_off}: {side.areas_off} of {side.areas} annotations without a box have an area under half "
                "or over twice that of their mask, this one first, so that the masks may be written in another way; "
                "if they are right, pull.convention: pixels takes them as they are; pull.convention: drop leaves them "
                "out."
            )

    def check_doubts(self) -> None:
        """Raises SeamlineError when a convention fits most masks better that agree only roughly with their boxes."""
        doubts, checked = self.doubts, self.boxed.checked
        name, count = next(iter(doubts.looks.most_common(1)), ("", 0))
        estimated = round(doubts.count * count / max(1, doubts.looked_at))
        if count >= MIN_DOUBTS and count > doubts.looked_at / 2 and self.too_many(estimated, checked):
            raise SeamlineError(
                f"{doubts.first[name]}: about {estimated} of {checked} annotations have a box and a mask that agree "
                f"much better in another way, this one first; {guess_of({name: 1}, 1)}; pull.convention: pixels takes "
                "them as they are."
            )


class Tallies:
    """What is counted of the whole source, and of each of several files: a small one may follow a convention alone."""

    def __init__(self, files: int) -> None:
        self.source = Tally()
        self.files = [Tally(of_file=True) for _ in range(files)] if files > 1 else []
        self.incomplete: set[int] = set()  # images of which an annotation was left out

    def of(self, part: int) -> list[Tally]:
        return [self.source, self.files[part]] if self.files else [self.source]

    def add(self, part: int, mended: Mended, record: Record, setting: Setting, where: str) -> None:
        looks: Looks = list
        if mended.fit < GOOD_IOU:
            size = setting.height, setting.width
            looks = cache(lambda: looks_better(record["segmentation"], record["bbox"], mended.fit, *size))
        for tally in self.of(part):
            tally.add(mended, record, setting, where, looks)

    def add_turned(self, part: int, segmentation: Any, setting: Setting, where: str) -> None:
        for tally in self.of(part):
            tally.add_turned(segmentation, setting, where)

    def add_contradiction(self, part: int, contradiction: Contradiction, setting: Setting, where: str) -> None:
        looks = cache(lambda: looks_of(contradiction, setting))
        for tally in self.of(part):
            tally.add_contradiction(contradiction.box is None, where, looks)

    def check(self, convention: str | float | None) -> None:
        """Raises SeamlineError as Tally.check does, for the source or for one of its files."""
        for tally in (self.source, *self.files):
            tally.check(convention)

    def say(self, convention: str | float | None) -> None:
        """Prints what may be wrong, and is too uncertain to stop for."""
        self.source.say(convention)
        any(tally.say_areas() for tally in (self.source, *self.files))


def looks_of(contradiction: Contradiction, setting: Setting) -> list[str]:
    """The conventions by which a contradiction would be none."""
    reason, segmentation, box = str(contradiction), contradiction.segmentation, contradiction.box
    if reason in LOOKS:
        return [LOOKS[reason]]
    if box is None or reason in (BEYOND, OUTSIDE):
        return looks_outside(segmentation, setting.height, setting.width)
    return looks_like(segmentation, box, setting.height, setting.width)


def guess_of(looks: Mapping[str, int], looked_at: int) -> str:
    """What to try, by how many of the records looked at look like each convention; it has to be half of them."""
    name = max(looks, key=lambda look: looks[look], default=None)
    if name is None or looks[name] < looked_at / 2:
        return "no convention that pull.convention knows fits most of them"
    if name == BOTH_SWAPPED:
        return f"they look like masks and boxes with y before x, which pull.convention: {BOTH_SWAPPED} reads"
    if name == NUMBER:
        return (
            "they look like masks for larger photos, which pull.convention: NUMBER scales, 0.5 to half the size; "
            "if garments reach beyond their photo, pull.convention: pixels keeps them"
        )
    return f"they look like {CONVENTIONS[name]}, which pull.convention: {name} reads"
