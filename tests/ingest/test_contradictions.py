"""Records whose box and mask contradict each other, as tools write them; the right masks are those cv2 has drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import copy
from seamline.ingest.canonical.contradictions import box_iou
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.layouts.coco import read
from tests.ingest.drawn import DROPPED, HEIGHT, WIDTH, Change, Drawn, drawn, iou, pulled, rle, scale_mask, swap, write


def as_shares(record: Record, side: float, mask: bool, box: bool) -> None:
    if mask:
        points = np.reshape(record["segmentation"][0], (-1, 2)) * side / (WIDTH, HEIGHT)
        record["segmentation"] = [points.ravel().tolist()]
    if box:
        record["bbox"] = (np.reshape(record["bbox"], (2, 2)) * side / (WIDTH, HEIGHT)).ravel().tolist()


def box(record: Record, change: Callable[[float, float, float, float], tuple[float, ...]]) -> None:
    record["bbox"] = list(change(*record["bbox"]))


def yolo(record: Record) -> None:
    box(record, lambda x, y, w, h: ((x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT))


WRITTEN: dict[str, tuple[str, Change]] = {
    "RLE in row order": ("rows", lambda r: rle(r, r["mask"].ravel())),
    "RLE in row order, size as width, height": ("rows", lambda r: rle(r, r["mask"].ravel(), (WIDTH, HEIGHT))),
    "RLE of the background": ("inverted", lambda r: rle(r, 1 - r["mask"].ravel(order="F"))),
    "RLE, only the size swapped": ("swapped", lambda r: rle(r, r["mask"].ravel(order="F"), (WIDTH, HEIGHT))),
    "y before x": ("swapped", swap),
    "polygons upside down": (
        "flipped",
        lambda r: r.update(segmentation=[[HEIGHT - v if i % 2 else v for i, v in enumerate(r["segmentation"][0])]]),
    ),
    "RLE upside down": ("flipped", lambda r: rle(r, r["mask"][::-1].ravel(order="F"))),
    "masks in percent": ("percent", lambda r: as_shares(r, 100, mask=True, box=False)),
    "boxes in percent": ("percent", lambda r: as_shares(r, 100, mask=False, box=True)),
    "masks from 0 to 1000": ("thousandths", lambda r: as_shares(r, 1000, mask=True, box=False)),
    "masks for 640 pixels": ("scaled", lambda r: scale_mask(r, 640 / WIDTH)),
    "RLE for twice the size": (
        "scaled",
        lambda r: rle(r, np.repeat(np.repeat(r["mask"], 2, 0), 2, 1).ravel(order="F"), (2 * HEIGHT, 2 * WIDTH)),
    ),
    "boxes from their centre": ("box_centers", lambda r: box(r, lambda x, y, w, h: (x + w / 2, y + h / 2, w, h))),
    "YOLO's boxes": ("box_centers", yolo),
    "boxes y, x, h, w": ("box_swapped", lambda r: box(r, lambda x, y, w, h: (y, x, h, w))),
    "boxes top, left, bottom, right": (
        "box_corners_swapped",
        lambda r: box(r, lambda x, y, w, h: (y, x, y + h, x + w)),
    ),
}


@pytest.mark.parametrize("share", [1, 2])
@pytest.mark.parametrize("case", WRITTEN)
def test_a_convention_is_named_and_its_parameter_reads_it(tmp_path: Path, case: str, share: int) -> None:
    """Of all records, or of every second one: those that are right stay as they are."""
    convention, change = WRITTEN[case]
    masks = write(tmp_path / "in", lambda index, record: index % share or change(record))
    with pytest.raises(SeamlineError, match=rf"of 20 annotations .* which pull\.convention: {convention} reads; "):
        pulled(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out" / "annotations.json").exists()
    report, found = pulled(tmp_path / "in", tmp_path / "mended", convention=convention)
    assert (report["dropped"], len(found)) == ({}, 20)
    for number, (record, mask) in found.items():
        expected = masks[number - 1]
        assert iou(mask, expected) > 0.8  # polygons of pycocotools lack half a pixel of what cv2 fills
        assert box_iou(record["bbox"], list(cv2.boundingRect(expected))) > 0.8
        assert 0.5 <= record["area"] / expected.sum() <= 2


@pytest.mark.parametrize("case", WRITTEN)
def test_a_single_record_is_left_out_and_listed(tmp_path: Path, case: str) -> None:
    """Nineteen good ones tell that it is no convention; its mask is never believed."""
    masks = write(tmp_path / "in", lambda index, record: index == 7 and WRITTEN[case][1](record))
    source = read(tmp_path / "in", None)
    (tmp_path / "out").mkdir()
    report = canonicalise(source, tmp_path / "out", copy)
    assert sum(report["dropped"].values()) == 1
    assert [change.place.annotation_id for change in source.changes.rows if change.verb == "dropped"] == [8]
    _, found = pulled(tmp_path / "in", tmp_path / "again")
    assert all(iou(mask, masks[number - 1]) > 0.8 for number, (_, mask) in found.items())


@pytest.mark.parametrize(("mask", "box_too"), [(True, True), (True, False), (False, True)])
def test_shares_of_the_image_in_a_whole_file_are_pixels(tmp_path: Path, mask: bool, box_too: bool) -> None:
    masks = write(tmp_path / "in", lambda _, record: as_shares(record, 1, mask, box_too))
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert report["repaired"] == {"annotation: its coordinates were shares of the image, turned into pixels": 20}
    for number, (record, seen) in found.items():
        assert iou(seen, masks[number - 1]) > 0.8
        assert record["bbox"] == pytest.approx(list(cv2.boundingRect(masks[number - 1])))


@pytest.mark.parametrize(("convention", "side"), [("percent", 100), ("thousandths", 1000)])
def test_masks_and_boxes_in_other_units_alike(tmp_path: Path, convention: str, side: int) -> None:
    """Label Studio's percent; the thousandths of models that speak. They agree with each other, so the user says it."""
    masks = write(tmp_path / "in", lambda _, record: as_shares(record, side, mask=True, box=True))
    report, found = pulled(tmp_path / "in", tmp_path / "out", convention=convention)
    assert (report["annotations"], report["dropped"]) == (20, {})
    for number, (record, seen) in found.items():
        assert iou(seen, masks[number - 1]) > 0.8
        assert record["bbox"] == pytest.approx(list(cv2.boundingRect(masks[number - 1])))


@pytest.mark.parametrize("has_size", [True, False])
def test_photos_shrunk_after_annotation(tmp_path: Path, has_size: bool) -> None:
    """With the size of before in the records the factor is known; without, the user has to say it."""
    masks = write(tmp_path / "in")
    path = tmp_path / "in" / "a.json"
    coco = json.loads(path.read_text())
    for image in coco["images"]:
        image.update(width=3 * WIDTH, height=3 * HEIGHT)
        if not has_size:
            del image["width"]
    for record in coco["annotations"]:
        scale_mask(record, 3)
        record |= {"bbox": [3 * side for side in record["bbox"]], "area": 9 * record["area"]}
    path.write_text(json.dumps(coco))
    message = r"pull\.convention: scaled reads masks" if has_size else r"larger photos, which pull\.convention: NUMBER"
    with pytest.raises(SeamlineError, match=message):
        pulled(tmp_path / "in", tmp_path / "out")
    report, found = pulled(tmp_path / "in", tmp_path / "mended", convention="scaled" if has_size else 1 / 3)
    assert (report["annotations"], report["dropped"]) == (20, {})
    for number, (record, seen) in found.items():
        assert iou(seen, masks[number - 1]) > 0.8
        assert record["bbox"] == pytest.approx(list(cv2.boundingRect(masks[number - 1])))
        assert record["area"] == pytest.approx(masks[number - 1].sum())


def test_a_photo_of_another_shape_was_not_scaled(tmp_path: Path) -> None:
    """20 photos were shrunk to a third, and one of them was cut besides: nothing says where its mask lies."""
    write(tmp_path / "in")
    path = tmp_path / "in" / "a.json"
    coco = json.loads(path.read_text())
    for image, record in zip(coco["images"], coco["annotations"], strict=True):
        image.update(width=3 * WIDTH, height=3 * HEIGHT)
        scale_mask(record, 3)
        record |= {"bbox": [3 * side for side in record["bbox"]], "area": 9 * record["area"]}
    coco["images"][4]["height"] += HEIGHT
    path.write_text(json.dumps(coco))
    report, found = pulled(tmp_path / "in", tmp_path / "out", convention="scaled")
    assert report["dropped"] == {
        "annotation: its image was dropped": 1,
        "image: has another size than its record says": 1,
    }
    assert found.keys() == set(range(1, 21)) - {5}


def test_what_fits_no_convention_stops_and_can_be_left_out(tmp_path: Path) -> None:
    masks = write(tmp_path / "in", lambda index, record: index % 4 or record.update(bbox=[1, 1, 4, 4]))
    with pytest.raises(SeamlineError, match=r"5 of 20 annotations .* no convention that pull\.convention knows"):
        pulled(tmp_path / "in", tmp_path / "out")
    report, found = pulled(tmp_path / "in", tmp_path / "mended", convention="drop")
    assert (report["annotations"], report["dropped"]) == (15, {DROPPED: 5})
    assert all(iou(mask, masks[number - 1]) > 0.8 for number, (_, mask) in found.items())


@pytest.mark.parametrize("case", ["y before x", "RLE in row order", "RLE of the background", "boxes y, x, h, w"])
def test_a_small_file_in_another_convention_stops_beside_a_large_one(tmp_path: Path, case: str) -> None:
    """Four of 44 annotations are under a tenth of the source, and all that val has."""
    convention, change = WRITTEN[case]
    masks = write(tmp_path / "in" / "train", shapes=drawn(40))
    masks += write(tmp_path / "in" / "val", lambda _, record: change(record), drawn(44)[40:])
    with pytest.raises(SeamlineError, match=rf"val/a\.json: .* 4 of 4 annotations .* pull\.convention: {convention} "):
        pulled(tmp_path / "in", tmp_path / "out")
    report, found = pulled(tmp_path / "in", tmp_path / "mended", convention=convention)
    assert (report["dropped"], len(found)) == ({}, 44)
    assert all(iou(mask, masks[number - 1]) > 0.8 for number, (_, mask) in found.items())


def test_two_mistakes_in_a_small_file_stop_nothing(tmp_path: Path) -> None:
    write(tmp_path / "in" / "train", shapes=drawn(40))
    write(tmp_path / "in" / "val", lambda index, record: swap(record) if index < 2 else None, drawn(44)[40:])
    report, _ = pulled(tmp_path / "in", tmp_path / "out")
    assert report["dropped"] == {DROPPED: 2}


def test_a_box_that_other_tools_round_or_count_otherwise_does_not_contradict(tmp_path: Path) -> None:
    """Supervisely: the last pixel minus the first, 1 x 1 for a mask of 2 x 2; detectron2 rounds."""
    small = np.zeros((HEIGHT, WIDTH), np.uint8)
    small[10:12, 20:22] = 1

    def change(index: int, record: Record) -> None:
        rle(record, small.ravel(order="F"))
        record |= {"area": 4, "bbox": [20, 10, 1, 1]}

    write(tmp_path / "in", change)
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["dropped"], report["repaired"]) == ({}, {})
    assert found[1][0]["bbox"] == [20, 10, 1, 1]


def test_all_boxes_as_corners_are_read_so_also_where_they_overlap_by_chance(tmp_path: Path) -> None:
    masks = write(tmp_path / "in", lambda _, record: box(record, lambda x, y, w, h: (x, y, x + w, y + h)))
    _, found = pulled(tmp_path / "in", tmp_path / "out")
    for number, (record, _) in found.items():
        assert np.abs(np.subtract(record["bbox"], cv2.boundingRect(masks[number - 1]))).max() <= 2


@pytest.mark.parametrize("polygon", [[1e6, 1, 2, 3], [5, 5], [1e6, 1, 5, 5, 9, 9]])
def test_an_outline_that_is_none_is_left_out_under_any_convention(tmp_path: Path, polygon: list[float]) -> None:
    write(tmp_path / "in", lambda index, record: index or record.update(segmentation=[polygon]))
    for number, convention in enumerate((None, "flipped", "swapped", "scaled", "box_centers")):
        report, _ = pulled(tmp_path / "in", tmp_path / str(number), convention=convention)
        assert sum(report["dropped"].values()) == 1


def test_without_a_box_its_shape_tells_whether_a_convention_holds_or_nothing_does(tmp_path: Path) -> None:
    """A disc in the middle of the photo tells rows from columns; outlines may be y before x or not."""

    def change(index: int, record: Record) -> None:
        rle(record, record["mask"].ravel())
        if index == 3:
            del record["bbox"]

    masks = write(tmp_path / "in", change)
    report, found = pulled(tmp_path / "in", tmp_path / "out", convention="rows")
    assert (report["dropped"], iou(found[4][1], masks[3])) == ({}, 1)

    def change_outline(index: int, record: Record) -> None:
        swap(record)
        if index in (3, 6):
            del record["bbox"]

    write(tmp_path / "polygons", change_outline)
    report, found = pulled(tmp_path / "polygons", tmp_path / "again", convention="swapped")
    assert iou(found[4][1], masks[3]) > 0.8  # which leaves the photo as it is, and not when swapped
    assert (report["dropped"], iou(found[7][1], masks[6]) > 0.8) == ({}, True)  # as all boxes of the file bear it out

    def change_half(index: int, record: Record) -> None:
        if index % 2:
            change_outline(6, record) if index == 9 else swap(record)

    write(tmp_path / "half", change_half)
    report, _ = pulled(tmp_path / "half", tmp_path / "third", convention="swapped")
    assert report["dropped"] == {"annotation: has no box that tells whether pull.convention holds for it": 1}


def test_boxes_in_other_dress_are_held_to_their_masks_too(tmp_path: Path) -> None:
    """Text was once taken for no box at all: RLE in row order went through."""

    def change(index: int, record: Record) -> None:
        rle(record, record["mask"].ravel())
        names = ("x", "y", "width", "height")
        named = dict(zip(names, record["bbox"], strict=True))
        record["bbox"] = [str(side) for side in record["bbox"]] if index % 2 else named

    masks = write(tmp_path / "in", change)
    with pytest.raises(SeamlineError, match=r"pull\.convention: rows reads"):
        pulled(tmp_path / "in", tmp_path / "stopped")
    _, found = pulled(tmp_path / "in", tmp_path / "out", convention="rows")
    assert min(iou(found[index + 1][1], mask) for index, mask in enumerate(masks)) == 1


@pytest.mark.parametrize("as_rle", [True, False])
def test_boxes_that_reach_beyond_the_photo(tmp_path: Path, as_rle: bool) -> None:
    """RLE ends at the border; outlines that do not may be those of a larger photo, until somebody says otherwise."""
    cut: list[Drawn] = []

    def change(index: int, record: Record) -> None:
        polygon = np.reshape(record["segmentation"][0], (-1, 2))
        polygon[:, 0] += WIDTH + 6 - polygon[:, 0].mean()
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.fillPoly(mask, [polygon.astype(np.int32)], 1)
        cut.append(mask)
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        record |= {"segmentation": [polygon.ravel().tolist()], "bbox": [*low, *(high - low)], "area": int(mask.sum())}
        if as_rle:
            rle(record, mask.ravel(order="F"))

    write(tmp_path / "in", change)
    if not as_rle:
        with pytest.raises(SeamlineError, match=r"larger photos.*pull\.convention: pixels keeps them"):
            pulled(tmp_path / "in", tmp_path / "stopped")
    _, found = pulled(tmp_path / "in", tmp_path / "out", convention=None if as_rle else "pixels")
    kept = [iou(found[index + 1][1], mask) for index, mask in enumerate(cut) if index + 1 in found]
    assert len(kept) >= 15 and min(kept) > (0.99 if as_rle else 0.8)


def test_crowds_follow_the_same_rule(tmp_path: Path) -> None:
    def change(index: int, record: Record) -> None:
        rle(record, record["mask"].ravel(order="F") if index else 1 - record["mask"].ravel(order="F"))
        record["iscrowd"] = 1

    write(tmp_path / "in", change)
    report, _ = pulled(tmp_path / "in", tmp_path / "out")
    assert report["dropped"] == {DROPPED: 1}


@pytest.mark.parametrize(
    ("ids", "used", "option", "unknown"),
    [
        ([1, 2, 3], [0, 1, 2], "plus_one", 7),  # of annotations 0 to 19 every third, from the first
        ([0, 1, 2], [1, 2, 3], "minus_one", 6),
        ([3, 1, 9], [0, 1, 2], "positions", 13),
    ],
)
def test_category_ids_that_count_from_elsewhere(
    tmp_path: Path, ids: list[int], used: list[int], option: str, unknown: int
) -> None:
    write(tmp_path / "in", lambda index, record: record.update(category_id=used[index % 3]))
    path = tmp_path / "in" / "a.json"
    coco = json.loads(path.read_text())
    coco["categories"] = [{"id": identity, "name": name} for identity, name in zip(ids, "abc", strict=True)]
    path.write_text(json.dumps(coco))
    with pytest.raises(SeamlineError, match=rf"\b{unknown} of 20 annotations have .* pull\.category_ids: {option} "):
        pulled(tmp_path / "in", tmp_path / "out")
    _, found = pulled(tmp_path / "in", tmp_path / "mended", category_ids=option)
    names = dict(zip(ids, "abc", strict=True))
    assert [names[found[number][0]["category_id"]] for number in (1, 2, 3)] == ["a", "b", "c"]
    report, _ = pulled(tmp_path / "in", tmp_path / "own", category_ids="own")
    assert set(report["dropped"]) == {"annotation: its category is unknown"}
