"""Masks that no box is given with, and outlines beside the photo: what is seen of them, and what is only said.

The right masks are those cv2 has drawn (`tests.ingest.drawn`); the wrong ones are written by numpy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import copy
from seamline.ingest.canonical import boxless
from seamline.ingest.canonical.boxless import applies, changes_at, is_covered, look_at
from seamline.ingest.canonical.contradictions import share_inside
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.canonical.source import Reading
from seamline.ingest.layouts.coco import read
from tests.conftest import square
from tests.ingest.drawn import (
    HEIGHT,
    WIDTH,
    Change,
    Drawn,
    drawn,
    iou,
    pulled,
    rle,
    runs,
    scale_mask,
    swap,
    write,
)


def doubled(record: Record) -> Drawn:
    return np.asarray(np.repeat(np.repeat(record["mask"], 2, 0), 2, 1))


def without(change: Change, *fields: str) -> Any:
    def applied(index: int, record: Record) -> None:
        change(record)
        for field in fields:
            del record[field]

    return applied


WRITTEN: dict[str, tuple[str, Change]] = {
    "RLE in row order": ("rows", lambda r: rle(r, r["mask"].ravel())),
    "RLE in row order, size as width, height": ("rows", lambda r: rle(r, r["mask"].ravel(), (WIDTH, HEIGHT))),
    "RLE, only the size swapped": ("swapped", lambda r: rle(r, r["mask"].ravel(order="F"), (WIDTH, HEIGHT))),
    "RLE for twice the size": ("scaled", lambda r: rle(r, doubled(r).ravel(order="F"), (2 * HEIGHT, 2 * WIDTH))),
}
INVERTED: Change = lambda r: rle(r, 1 - r["mask"].ravel(order="F"))  # noqa: E731
SEEN = [(case, fields) for case in WRITTEN for fields in (("bbox",), ("bbox", "area"))]


@pytest.mark.parametrize(("case", "fields"), SEEN)
def test_the_shape_of_a_mask_names_how_it_was_written(tmp_path: Path, case: str, fields: tuple[str, ...]) -> None:
    convention, change = WRITTEN[case]
    masks = write(tmp_path / "in", without(change, *fields))
    message = rf"20 of 20 annotations have no box, and a mask that cannot .* which pull\.convention: {convention} reads"
    with pytest.raises(SeamlineError, match=message):
        pulled(tmp_path / "in", tmp_path / "out")
    report, found = pulled(tmp_path / "in", tmp_path / "mended", convention=convention)
    assert (report["dropped"], len(found), report["unchecked_masks"]) == ({}, 20, 0)
    assert all(iou(mask, masks[number - 1]) == 1 for number, (_, mask) in found.items())


@pytest.mark.parametrize("case", [*WRITTEN, "RLE of the background"])
def test_one_among_right_ones_is_left_out(tmp_path: Path, case: str) -> None:
    change = WRITTEN[case][1] if case in WRITTEN else INVERTED

    def changed(index: int, record: Record) -> None:
        rle(record, record["mask"].ravel(order="F"))
        without(change if index == 7 else lambda r: None, "bbox")(index, record)

    masks = write(tmp_path / "in", changed)
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    [(reason, count)] = report["dropped"].items()
    assert (reason.startswith("annotation: has no box, and its "), count, 8 in found) == (True, 1, False)
    assert all(iou(mask, masks[number - 1]) == 1 for number, (_, mask) in found.items())
    assert report["unchecked_masks"] == 0


def test_an_area_names_a_background(tmp_path: Path) -> None:
    masks = write(tmp_path / "in", without(INVERTED, "bbox"))
    with pytest.raises(SeamlineError, match=r"20 of 20 annotations have no box.* pull\.convention: inverted reads"):
        pulled(tmp_path / "in", tmp_path / "out")
    _, found = pulled(tmp_path / "in", tmp_path / "mended", convention="inverted")
    assert [iou(found[index + 1][1], mask) for index, mask in enumerate(masks)] == [1] * 20


def test_without_an_area_four_corners_do(tmp_path: Path) -> None:
    """A garment seldom covers all corners of a photo; over half of ten or more say that it is the background."""
    masks = write(tmp_path / "in", without(INVERTED, "bbox", "area"))
    with pytest.raises(SeamlineError, match=r"20 of 20 masks without box and area cover all four corners"):
        pulled(tmp_path / "in", tmp_path / "out")
    _, found = pulled(tmp_path / "in", tmp_path / "mended", convention="inverted")
    assert [iou(found[index + 1][1], mask) for index, mask in enumerate(masks)] == [1] * 20
    _, found = pulled(tmp_path / "in", tmp_path / "kept", convention="pixels")
    assert [iou(found[index + 1][1], 1 - mask) for index, mask in enumerate(masks)] == [1] * 20


def test_four_corners_in_one_of_several_files(tmp_path: Path) -> None:
    write(tmp_path / "in" / "train")
    write(tmp_path / "in" / "val", without(INVERTED, "bbox", "area"), drawn(23)[20:])
    with pytest.raises(SeamlineError, match=r"val/a\.json: annotation 1: 3 of 3 masks without box and area cover all"):
        pulled(tmp_path / "in", tmp_path / "out")


def square_photos(folder: Path, row_order: bool, area: bool, count: int = 12) -> list[Drawn]:
    """Photos as high as wide, on which rows and columns make equally good shapes."""
    (folder / "photos").mkdir(parents=True)
    coco: Record = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "shirt"}]}
    masks = [mask[:WIDTH, :WIDTH] for _, mask in drawn(60) if mask[:WIDTH, :WIDTH].sum() > 100][:count]
    for index, mask in enumerate(masks):
        Image.fromarray(mask * 200).save(folder / "photos" / f"{index}.png")
        coco["images"].append({"id": index, "file_name": f"{index}.png", "width": WIDTH, "height": WIDTH})
        record: Record = {"id": index + 1, "image_id": index, "category_id": 1, "iscrowd": 0}
        rle(record, mask.ravel(order="C" if row_order else "F"), (WIDTH, WIDTH))
        coco["annotations"].append(record | ({"area": int(mask.sum())} if area else {}))
    (folder / "a.json").write_text(json.dumps(coco))
    return masks


@pytest.mark.parametrize("area", [True, False])
def test_what_nothing_can_be_held_to_is_counted(tmp_path: Path, area: bool) -> None:
    """On a square photo an area is the same whichever way the runs go."""
    square_photos(tmp_path / "in", row_order=True, area=area)
    report, _ = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["annotations"], report["unchecked_masks"]) == (12, 12)


@pytest.mark.parametrize(("area", "unchecked"), [(True, 0), (False, 12)])
def test_other_photos_tell_which_way_the_runs_go(tmp_path: Path, area: bool, unchecked: int) -> None:
    square_photos(tmp_path / "in" / "train", row_order=False, area=area)
    write(tmp_path / "in" / "val", without(lambda r: rle(r, r["mask"].ravel(order="F")), "bbox"), drawn(2))
    report, _ = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["annotations"], report["unchecked_masks"]) == (14, unchecked)


def test_the_users_word_holds_where_no_annotation_has_a_box(tmp_path: Path) -> None:
    masks = square_photos(tmp_path / "in", row_order=True, area=False)
    folder = tmp_path / "out"
    pulled_masks = pulled_square(tmp_path / "in", folder, convention="rows")
    assert [iou(pulled_masks[index + 1], mask) for index, mask in enumerate(masks)] == [1] * 12
    path = tmp_path / "in" / "a.json"
    coco = json.loads(path.read_text())
    left, top, width, height = cv2.boundingRect(masks[0])
    coco["annotations"][0]["bbox"] = [left, top, width, height]
    path.write_text(json.dumps(coco))
    assert set(pulled_square(tmp_path / "in", tmp_path / "one", convention="rows")) == {1}  # now others need one too


def pulled_square(source: Path, target: Path, **reading: Any) -> dict[int, Drawn]:
    pulled(source, target, **reading)
    found = json.loads((target / "annotations.json").read_text())["annotations"]
    return {
        one["id"]: coco_mask.decode(coco_mask.frPyObjects(one["segmentation"], WIDTH, WIDTH))
        if isinstance(one["segmentation"], list)
        else coco_mask.decode(one["segmentation"])
        for one in found
    }


@pytest.mark.parametrize("fields", [("bbox",), ("bbox", "area")])
def test_outlines_without_a_box_are_counted(tmp_path: Path, fields: tuple[str, ...]) -> None:
    """Upside down they have the same area."""
    write(tmp_path / "in", lambda index, record: [record.pop(key) for key in fields if index % 2 == 0])
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["unchecked_masks"], len(found)) == (10, 20)


def test_outlines_in_percent_without_boxes(tmp_path: Path) -> None:
    def change(index: int, record: Record) -> None:
        points = np.reshape(record["segmentation"][0], (-1, 2)) * 100 / (WIDTH, HEIGHT)
        record["segmentation"] = [points.ravel().tolist()]
        del record["bbox"], record["area"]

    masks = write(tmp_path / "in", change)
    _, found = pulled(tmp_path / "in", tmp_path / "out", convention="percent")
    assert min(iou(found[index + 1][1], mask) for index, mask in enumerate(masks)) > 0.8


@pytest.mark.parametrize("lag", [1, 7, 40, 60, 2399])
def test_changes_from_line_to_line_are_those_of_the_pixels(lag: int) -> None:
    rng = np.random.default_rng(lag)
    for density in (0.02, 0.5, 0.98):
        flat = (rng.random(2400) < density).astype(np.uint8)
        counts = np.array(runs(flat))
        assert changes_at(counts, lag) == int((flat[lag:] != flat[:-lag]).sum())
        assert [is_covered(counts, at) for at in range(2400)] == (flat == 1).tolist()


def test_the_area_of_a_box_does_not_make_a_background() -> None:
    """Some tools write the box's area: here it is by chance that of all but the mask, which covers no corner."""
    mask = np.zeros((100, 60), np.uint8)
    cv2.fillPoly(mask, [np.array([[30, 5], [55, 50], [30, 95], [5, 50]])], 1)
    area = mask.size - int(mask.sum())
    look = look_at({"size": [100, 60], "counts": runs(mask.ravel(order="F"))}, area, 100, 60)
    assert (look.order, look.side) == ("columns", None)


@pytest.mark.parametrize(
    ("down", "along", "order"),
    [(15, 10, None), (16, 10, "rows"), (10, 15, None), (10, 16, "columns"), (10, 10, None), (0, 0, None)],
)
def test_an_order_is_clear_from_half_as_many_changes_more_on(
    monkeypatch: pytest.MonkeyPatch, down: int, along: int, order: str | None
) -> None:
    monkeypatch.setattr(boxless, "changes_at", lambda runs, lag: {20: down, 10: along}[lag])
    assert boxless.order_of(np.array([0, 200]), 20, 10) == order


@pytest.mark.parametrize(
    ("pixels", "area", "side"),
    [
        (1000, 1020, "right"), (1000, 981, "right"), (1000, 1025, None), (1000, 975, None),
        (5, 6, "right"), (5, 4, "right"), (5, 7, None), (1, 0, None), (1, -1, None), (1000, None, None),
        (1000, 5000, "inverted"), (1000, 4910, "inverted"), (1000, 5110, None), (1000, 4800, None),
    ],
)  # fmt: skip
def test_an_area_is_the_masks_or_the_rests_within_two_in_a_hundred_or_a_pixel(
    pixels: int, area: float | None, side: str | None
) -> None:
    """A mask from the first pixel on, of an image of 6,000."""
    assert look_at({"size": [100, 60], "counts": [0, pixels, 6000 - pixels]}, area, 100, 60).side == side


def test_a_background_covers_all_four_corners() -> None:
    mask = np.zeros((20, 10), np.uint8)
    for row, column in ((0, 0), (0, 9), (19, 0), (19, 9)):
        for covered in (0, 1):
            mask[[0, 0, 19, 19], [0, 9, 0, 9]] = 1
            mask[row, column] = covered
            look = look_at({"size": [20, 10], "counts": runs(mask.ravel(order="F"))}, None, 20, 10)
            assert look.covers_corners is bool(covered)


def test_conventions_of_boxes_and_outlines_leave_other_masks_alone() -> None:
    mask: Record = {"size": [20, 10], "counts": [0, 200]}
    look = look_at(mask, None, 20, 10)
    assert (look.order, look.side, look.covers_corners) == (None, None, True)
    assert applies("box_centers", mask, look, 20, 10, at_word=False, follows=False) is False
    assert applies("percent", mask, look, 20, 10, at_word=False, follows=False) is False
    assert applies("rows", [square(1, 1, 5)], look, 20, 10, at_word=False, follows=False) is False
    assert applies("swapped", [square(1, 1, 5)], look, 20, 10, at_word=False, follows=False) is None


def enlarged(folder: Path, factor: float, has_size: bool, has_box: bool, as_rle: bool) -> list[Drawn]:
    """The photos, and the right masks, are larger than when they were annotated."""

    def change(index: int, record: Record) -> None:
        if as_rle:
            rle(record, record["mask"].ravel(order="F"))
        if not has_box:
            del record["bbox"]

    masks = write(folder, change)
    size = (round(WIDTH * factor), round(HEIGHT * factor))
    for path in (folder / "photos").iterdir():
        Image.open(path).resize(size).save(path)
    path = folder / "a.json"
    coco = json.loads(path.read_text())
    for image in [] if has_size else coco["images"]:
        del image["width"], image["height"]
    path.write_text(json.dumps(coco))
    return [np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)) for mask in masks]


@pytest.mark.parametrize("as_rle", [False, True])
@pytest.mark.parametrize("has_box", [False, True])
@pytest.mark.parametrize("factor", [2, 1.5])
def test_photos_enlarged_after_annotation(tmp_path: Path, factor: float, has_box: bool, as_rle: bool) -> None:
    masks = enlarged(tmp_path / "in", factor, True, has_box, as_rle)
    with pytest.raises(SeamlineError, match=r"pull\.convention: scaled reads masks for photos of another size"):
        pulled(tmp_path / "in", tmp_path / "out")
    check_enlarged(tmp_path, masks, factor, convention="scaled")


def check_enlarged(folder: Path, masks: list[Drawn], factor: float, **reading: Any) -> None:
    (folder / "mended").mkdir()
    report = canonicalise(read(folder / "in", None), folder / "mended", copy, Reading(**reading))
    assert (report["annotations"], report["dropped"]) == (20, {})
    for record in json.loads((folder / "mended" / "annotations.json").read_text())["annotations"]:
        expected, mask = masks[record["id"] - 1], record["segmentation"]
        if isinstance(mask, list):
            mask = coco_mask.merge(coco_mask.frPyObjects(mask, *expected.shape))
        assert iou(coco_mask.decode(mask), expected) > 0.8
        assert record["bbox"] == pytest.approx(list(cv2.boundingRect(expected)), abs=2 * factor)
        assert record["area"] == pytest.approx(expected.sum(), rel=0.1)


def test_photos_enlarged_whose_records_have_no_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = enlarged(tmp_path / "in", 2, False, True, False)
    pulled(tmp_path / "in", tmp_path / "out")
    said = capsys.readouterr().out
    assert "none of 20 masks, on photos whose records have no size, reaches beyond 4" in said
    assert "pull.convention: NUMBER scales the masks, 2 to twice the size" in said
    check_enlarged(tmp_path, masks, 2, convention=2.0)
    assert "reaches beyond" not in capsys.readouterr().out


def test_some_photos_of_another_size_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in")
    Image.new("L", (2 * WIDTH, 2 * HEIGHT)).save(tmp_path / "in" / "photos" / "3.png")
    report, _ = pulled(tmp_path / "in", tmp_path / "out")
    assert report["dropped"]["image: has another size than its record says"] == 1
    assert "a.json: 1 photo of another size than the record says; pull.convention: scaled" in capsys.readouterr().out


def test_width_and_height_exchanged_in_the_records(tmp_path: Path) -> None:
    masks = write(tmp_path / "in")
    path = tmp_path / "in" / "a.json"
    coco = json.loads(path.read_text())
    for image in coco["images"]:
        image.update(width=HEIGHT, height=WIDTH)
    path.write_text(json.dumps(coco))
    with pytest.raises(SeamlineError, match=r"says\); pull\.convention: exchanged takes width and height for"):
        pulled(tmp_path / "in", tmp_path / "out")
    report, found = pulled(tmp_path / "in", tmp_path / "mended", convention="exchanged")
    assert (report["annotations"], report["dropped"]) == (20, {})
    assert min(iou(found[index + 1][1], mask) for index, mask in enumerate(masks)) > 0.8


def test_photos_of_another_shape_are_said_to_be_that(tmp_path: Path) -> None:
    write(tmp_path / "in")
    for path in (tmp_path / "in" / "photos").iterdir():
        Image.open(path).crop((0, 0, WIDTH, HEIGHT // 2)).save(path)
    with pytest.raises(SeamlineError, match=r"record says\); most have another shape, too, so that they were cut, "):
        pulled(tmp_path / "in", tmp_path / "out")


def both_swapped(record: Record) -> None:
    swap(record)
    left, top, width, height = record["bbox"]
    record["bbox"] = [top, left, height, width]


@pytest.mark.parametrize("has_box", [True, False])
@pytest.mark.parametrize("has_size", [True, False])
def test_masks_and_boxes_with_y_before_x(tmp_path: Path, has_size: bool, has_box: bool) -> None:
    """They agree with each other; but many leave a photo that is higher than wide, and none does when exchanged."""
    masks = write(tmp_path / "in", without(both_swapped, *([] if has_box else ["bbox"])))
    path = tmp_path / "in" / "a.json"
    coco = json.loads(path.read_text())
    for image in [] if has_size else coco["images"]:
        del image["width"]
    path.write_text(json.dumps(coco))
    with pytest.raises(SeamlineError, match=r"y before x, which pull\.convention: both_swapped reads"):
        pulled(tmp_path / "in", tmp_path / "out")
    report, found = pulled(tmp_path / "in", tmp_path / "mended", convention="both_swapped")
    assert (report["annotations"], report["dropped"]) == (20, {})
    assert report["repaired"]["annotation: read by the convention that pull.convention names"] == 20
    for number, (record, mask) in found.items():
        assert iou(mask, masks[number - 1]) > 0.8
        assert record["bbox"] == pytest.approx(list(cv2.boundingRect(masks[number - 1])), abs=2)


def shift_right(record: Record, share: float) -> None:
    """So that this share of its width lies to the right of the photo."""
    points = np.reshape(record["segmentation"][0], (-1, 2))
    points[:, 0] += WIDTH - points[:, 0].min() - (1 - share) * np.ptp(points[:, 0])
    low, high = points.min(axis=0), points.max(axis=0)
    record |= {"segmentation": [points.ravel().tolist()], "bbox": [*low, *(high - low)]}
    del record["area"]


OUTSIDE = "annotation: more than half of its outline lies outside the image"
CUT = "annotation: more than half of its outline lay outside the image, cut at the border"


@pytest.mark.parametrize(("share", "kept"), [(0.3, True), (0.7, False)])
@pytest.mark.parametrize("has_box", [True, False])
def test_an_outline_more_than_half_outside(tmp_path: Path, has_box: bool, share: float, kept: bool) -> None:
    def change(index: int, record: Record) -> None:
        if index == 4:
            shift_right(record, share)
        if not has_box:
            del record["bbox"]

    write(tmp_path / "in", change)
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert (5 in found, report["dropped"]) == ((True, {}) if kept else (False, {OUTSIDE: 1}))
    report, found = pulled(tmp_path / "in", tmp_path / "pixels", convention="pixels")
    assert (5 in found, report["repaired"].get(CUT)) == (True, None if kept else 1)


def test_a_box_that_ends_at_the_border_says_that_the_rest_is_right(tmp_path: Path) -> None:
    def change(index: int, record: Record) -> None:
        if index == 4:
            shift_right(record, 0.7)
            left, top, _, height = record["bbox"]
            record["bbox"] = [left, top, WIDTH - left, height]

    write(tmp_path / "in", change)
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert (5 in found, report["dropped"], report["repaired"][CUT]) == (True, {}, 1)


def test_many_outside_are_a_convention(tmp_path: Path) -> None:
    def change(index: int, record: Record) -> None:
        if index % 4 == 0:
            shift_right(record, 0.7)

    write(tmp_path / "in", change)
    with pytest.raises(SeamlineError, match=r"5 of 20 outlines .* larger photos, .* pull\.convention: pixels keeps"):
        pulled(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("seed", range(6))
def test_the_share_inside_is_that_of_the_pixels(seed: int) -> None:
    """Beside what cv2 fills on a canvas that holds all of it."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((400, 400), np.uint8)
    polygons = []
    for _ in range(2):
        points = rng.integers(0, 400, 2) + rng.integers(-60, 60, (5, 2))
        points = points.clip(0, 399)[cv2.convexHull(points.clip(0, 399).astype(np.int32), returnPoints=False).ravel()]
        cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
        polygons.append((points - (150, 120)).ravel().astype(float).tolist())
    expected = canvas[120 : 120 + HEIGHT, 150 : 150 + WIDTH].sum() / canvas.sum()
    assert share_inside(polygons, HEIGHT, WIDTH) == pytest.approx(expected, abs=0.03)


def test_outlines_far_outside_are_measured_on_a_smaller_canvas() -> None:
    """100,000 pixels a side would be more than pycocotools can count."""
    assert share_inside([square(0, 0, 100_000)], 50_000, 50_000) == pytest.approx(0.25, abs=0.001)
    assert share_inside([square(-50, -50, 100)], 100, 100) == pytest.approx(0.25, abs=0.02)
    assert share_inside([[1, 1, 2, 2, 3, 3]], 10, 10) == 0


def test_outlines_of_larger_photos_are_no_swap(tmp_path: Path) -> None:
    def change(index: int, record: Record) -> None:
        scale_mask(record, 3)
        record["bbox"] = [3 * side for side in record["bbox"]]

    write(tmp_path / "in", change)
    with pytest.raises(SeamlineError, match="larger photos"):
        pulled(tmp_path / "in", tmp_path / "out")
