"""Wrong masks that overlap their boxes well enough: what box and area still say, in one record or in many.

The right masks are those cv2 has drawn; what is written of them comes from numpy.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from tests.ingest.drawn import DROPPED, HEIGHT, WIDTH, Drawn, Shapes, iou, pulled, runs, write

BACKGROUND = "annotation: its box and area are those of the image without its mask"
ROUGH = "annotation: its box and its mask agree only roughly, and most others of its file contradict each other"
AREA_OFF = "annotation: has no box, and its area is under half or over twice that of its mask"


def shirts(count: int = 20, margin: float = 0.06) -> Shapes:
    """T-shirts that fill their photos but for a margin: outlines, and what cv2 makes of them."""
    rng = np.random.default_rng(8)
    half = [(0.3, 0), (0.42, 0.05), (1, 0.3), (0.9, 0.45), (0.68, 0.38), (0.7, 1)]
    shape = np.array([(0.5 - x / 2, y) for x, y in half] + [(0.5 + x / 2, y) for x, y in reversed(half)])
    shapes = []
    for _ in range(count):
        low, high = rng.uniform(0.01, margin, 2), 1 - rng.uniform(0.01, margin, 2)
        points = ((low + shape * (high - low)) * (WIDTH - 1, HEIGHT - 1)).round()
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
        shapes.append((points.ravel().tolist(), mask))
    return shapes


def as_rle(record: Record, mask: Drawn) -> None:
    record["segmentation"] = {"size": list(mask.shape), "counts": runs(mask.ravel(order="F"))}


def invert(record: Record) -> None:
    as_rle(record, 1 - record["mask"])


@pytest.mark.parametrize("area", [True, False])
def test_a_background_is_not_a_garment_that_fills_its_photo(tmp_path: Path, area: bool) -> None:
    """The box of a background is the whole photo, whose IoU with that of such a garment is 0.9."""

    def change(index: int, record: Record) -> None:
        invert(record)
        if not area:
            del record["area"]

    masks = write(tmp_path / "in", change, shirts())
    with pytest.raises(SeamlineError, match=r"(20|19|18) of 20 annotations have .* pull\.convention: inverted reads"):
        pulled(tmp_path / "in", tmp_path / "out")
    report, found = pulled(tmp_path / "in", tmp_path / "mended", convention="inverted")
    assert (report["dropped"], len(found)) == ({}, 20)
    assert [iou(found[index + 1][1], mask) for index, mask in enumerate(masks)] == [1] * 20


def test_one_background_among_garments_is_left_out(tmp_path: Path) -> None:
    def change(index: int, record: Record) -> None:
        (invert if index == 7 else lambda r: as_rle(r, r["mask"]))(record)

    masks = write(tmp_path / "in", change, shirts())
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["dropped"], 8 in found) == ({BACKGROUND: 1}, False)
    assert all(iou(mask, masks[number - 1]) == 1 for number, (_, mask) in found.items())


def test_a_mask_that_is_the_whole_photo_but_for_its_middle_stays(tmp_path: Path) -> None:
    """A frame is its own box and area; a rough box says nothing against an area that is right to a pixel."""

    def change(index: int, record: Record) -> None:
        frame = 1 - record["mask"]
        as_rle(record, frame)
        record |= {"bbox": [0, 0, WIDTH, HEIGHT] if index else [4, 4, WIDTH - 8, HEIGHT - 8], "area": int(frame.sum())}

    masks = write(tmp_path / "in", change, shirts())
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert report["dropped"] == {}
    assert [iou(found[index + 1][1], 1 - mask) for index, mask in enumerate(masks)] == [1] * 20


def flip(record: Record) -> None:
    record["segmentation"] = [[HEIGHT - 1 - v if i % 2 else v for i, v in enumerate(record["segmentation"][0])]]


def test_many_masks_that_agree_much_better_in_another_way_stop(tmp_path: Path) -> None:
    """Upside down, a shirt a tenth above the middle of its photo overlaps its box by 0.5 to 0.85."""
    shapes = []
    for polygon, mask in shirts():
        points = np.reshape(polygon, (-1, 2)) * (1, 0.8)
        flat = np.zeros_like(mask)
        cv2.fillPoly(flat, [points.round().astype(np.int32)], 1)
        shapes.append((points.round().ravel().tolist(), flat))
    write(tmp_path / "in", lambda index, record: flip(record), shapes)
    with pytest.raises(SeamlineError, match=r"about 20 of 20 annotations .* better .* pull\.convention: flipped reads"):
        pulled(tmp_path / "in", tmp_path / "out")
    report, _ = pulled(tmp_path / "in", tmp_path / "kept", convention="pixels")
    assert (report["annotations"], report["dropped"]) == (20, {})
    write(tmp_path / "few", lambda index, record: flip(record) if index < 2 else None, shapes)
    report, _ = pulled(tmp_path / "few", tmp_path / "all")
    assert (report["annotations"], report["dropped"]) == (20, {})


@pytest.mark.parametrize("padding", [0.1, 0.19])
def test_wide_boxes_are_no_convention(tmp_path: Path, padding: float) -> None:
    def change(index: int, record: Record) -> None:
        left, top, width, height = record["bbox"]
        margins = width * padding, height * padding
        record["bbox"] = [left - margins[0], top - margins[1], width + 2 * margins[0], height + 2 * margins[1]]
        record["area"] = record["bbox"][2] * record["bbox"][3]  # as some tools count it

    write(tmp_path / "in", change, shirts(margin=0.3))
    report, _ = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["annotations"], report["dropped"]) == (20, {})


def wrong_shape(record: Record) -> None:
    """All x, then all y: a scribble in about the same place, of hardly any area."""
    record["segmentation"] = [np.reshape(record["segmentation"][0], (-1, 2)).T.ravel().tolist()]


def test_a_rough_box_and_an_area_of_another_mask_contradict_together(tmp_path: Path) -> None:
    def change(index: int, record: Record) -> None:
        if index == 3:
            left, top, width, height = record["bbox"]
            record |= {"bbox": [left, top, 0.6 * width, height], "area": 0.3 * record["area"]}
        if index == 4:
            record["area"] *= 0.3  # alone it is repaired
        if index == 5:
            record["bbox"][2] *= 0.6  # alone it stays

    write(tmp_path / "in", change, shirts())
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["dropped"], 4 in found) == ({DROPPED: 1}, False)


@pytest.mark.parametrize("most", [True, False])
def test_dropping_most_of_a_file_keeps_no_accidents(tmp_path: Path, most: bool) -> None:
    """Boxes elsewhere, but for a few that have two thirds of their mask's by chance."""

    def change(index: int, record: Record) -> None:
        left, top, width, height = record["bbox"]
        if index % 5 == 0:
            record["bbox"] = [left, top, width, 0.67 * height]
        elif index != 7 and (most or index % 5 == 1):
            record["bbox"] = [left + width, top, width, height]

    write(tmp_path / "in", change, shirts())
    report, found = pulled(tmp_path / "in", tmp_path / "out", convention="drop")
    assert report["dropped"] == ({DROPPED: 15, ROUGH: 4} if most else {DROPPED: 4})
    assert 8 in found


@pytest.mark.parametrize("in_rle", [True, False])
def test_masks_that_count_from_the_corner_of_their_box(tmp_path: Path, in_rle: bool) -> None:
    """As tools that keep a bitmap and its origin write them."""

    def change(index: int, record: Record) -> None:
        left, top, width, height = record["bbox"]
        if in_rle:
            as_rle(record, np.ascontiguousarray(record["mask"][top : top + height, left : left + width]))
        else:
            points = np.reshape(record["segmentation"][0], (-1, 2)) - (left, top)
            record["segmentation"] = [points.ravel().tolist()]

    masks = write(tmp_path / "in", change, moved())
    with pytest.raises(SeamlineError, match=r"corner of their box, which pull\.convention: in_box reads"):
        pulled(tmp_path / "in", tmp_path / "out")
    report, found = pulled(tmp_path / "in", tmp_path / "mended", convention="in_box")
    assert (report["dropped"], len(found)) == ({}, 20)
    assert min(iou(found[index + 1][1], mask) for index, mask in enumerate(masks)) > (0.999 if in_rle else 0.8)


def moved() -> Shapes:
    """Shirts of a third of their photos' size, in the lower right half."""
    rng = np.random.default_rng(2)
    shapes = []
    for polygon, _ in shirts():
        points = (np.reshape(polygon, (-1, 2)) / 3 + rng.uniform(0.45, 0.6, 2) * (WIDTH, HEIGHT)).round()
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
        shapes.append((points.ravel().tolist(), mask))
    return shapes


@pytest.mark.parametrize("written", ["all x, then all y", "runs as points"])
def test_without_a_box_most_areas_stop(tmp_path: Path, written: str) -> None:
    def change(index: int, record: Record) -> None:
        wrong_shape(record) if written[0] == "a" else record.update(segmentation=[[5, 9, 17, 9, 17, 30, 5, 30]])
        del record["bbox"]

    write(tmp_path / "in", change, shirts())
    with pytest.raises(SeamlineError, match=r"have an area under half or over twice|masks for larger photos"):
        pulled(tmp_path / "in", tmp_path / "out")
    if written[0] == "a":  # an outline of chance may have about the right area
        report, _ = pulled(tmp_path / "in", tmp_path / "left", convention="drop")
        assert report["dropped"].keys() == {AREA_OFF} and report["dropped"][AREA_OFF] > 10
    report, _ = pulled(tmp_path / "in", tmp_path / "kept", convention="pixels")
    assert report["annotations"] == 20


@pytest.mark.parametrize("area", [1, 0.3, None, 0])
def test_areas_that_are_no_masks_say_nothing(tmp_path: Path, area: float | None) -> None:
    """The same for all, a share of the photo, or none."""

    def change(index: int, record: Record) -> None:
        record["area"] = area and area * (1 + index / 100 if area < 1 else 1)
        del record["bbox"]

    write(tmp_path / "in", change, shirts())
    report, _ = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["annotations"], report["dropped"]) == (20, {})


def test_boxes_that_agree_beside_areas_that_do_not_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", lambda index, record: record.update(area=record["area"] * 4), shirts())
    report, _ = pulled(tmp_path / "in", tmp_path / "out")
    assert report["annotations"] == 20
    assert "20 of 20 areas are under half or over twice those of the masks" in capsys.readouterr().out


@pytest.mark.parametrize(("wrong", "said"), [(2, False), (3, True)])
def test_areas_of_a_part_of_a_file_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: int, said: bool
) -> None:
    """Masks and boxes of half the size agree with each other, and not with the areas, which are right elsewhere."""

    def change(index: int, record: Record) -> None:
        if index < wrong:
            record["segmentation"] = [[value / 2 for value in record["segmentation"][0]]]
            record["bbox"] = [value / 2 for value in record["bbox"]]

    write(tmp_path / "in", change, shirts())
    pulled(tmp_path / "in", tmp_path / "out")
    sentence = f"a.json: annotation 1: {wrong} of 20 areas are under half or over twice those of the masks, whose boxes"
    assert (sentence in capsys.readouterr().out) == said
    write(tmp_path / "two" / "train", shapes=shirts(40))
    write(tmp_path / "two" / "val", change, shirts(8))
    pulled(tmp_path / "two", tmp_path / "both")
    assert (f"val/a.json: annotation 1: {wrong} of 8 areas are" in capsys.readouterr().out) == said
