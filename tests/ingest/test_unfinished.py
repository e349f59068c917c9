"""RLE that does not fill its photo: what is certainly the garment's last run, and what may be a text cut short.

The right masks are those cv2 has drawn (`tests.ingest.drawn`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pycocotools import mask as coco_mask

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from tests.ingest.drawn import HEIGHT, WIDTH, iou, pulled, runs, write

FINISHED = "annotation: its RLE lacked its last run, or had a wrong one; all that is left is background"
UNFILLED = "annotation: its RLE's runs do not fill its size"
Runs = list[int]

TAILS: dict[str, Callable[[Runs], Runs]] = {
    "no last run": lambda full: full[:-1],
    "one pixel too few": lambda full: [*full[:-1], full[-1] - 1],
    "one pixel too many": lambda full: [*full[:-1], full[-1] + 1],
}


def text_of(counts: Runs) -> str:
    """pycocotools compresses any runs, whatever the size that is said of them."""
    return str(coco_mask.frPyObjects({"size": [1, sum(counts)], "counts": counts}, 1, sum(counts))["counts"].decode())


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("witness", ["bbox", "area"])
@pytest.mark.parametrize("tail", TAILS)
def test_what_is_left_is_background_where_box_or_area_agree(
    tmp_path: Path, tail: str, witness: str, compressed: bool
) -> None:
    def change(index: int, record: Record) -> None:
        counts = TAILS[tail](runs(record["mask"].ravel(order="F")))
        record["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": text_of(counts) if compressed else counts}
        del record["area" if witness == "bbox" else "bbox"]

    masks = write(tmp_path / "in", change)
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["repaired"][FINISHED], report["dropped"], len(found)) == (20, {}, 20)
    assert [iou(found[index + 1][1], mask) for index, mask in enumerate(masks)] == [1] * 20


@pytest.mark.parametrize("written", ["whole", "without the last run", "flat"])
@pytest.mark.parametrize("kept", [("bbox", "area"), ("bbox",), ("area",), ()])
def test_runs_in_the_place_of_a_polygons_points_are_runs(tmp_path: Path, kept: tuple[str, ...], written: str) -> None:
    """Their numbers fill the photo, which coordinates do not; they once looked like masks for larger photos."""

    def change(index: int, record: Record) -> None:
        counts = runs(record["mask"].ravel(order="F"))
        counts = counts[: len(counts) // 2 * 2] if written == "without the last run" else counts
        record["segmentation"] = counts if written == "flat" else [counts]
        for field in {"bbox", "area"} - set(kept):
            del record[field]

    masks = write(tmp_path / "in", change)
    if written == "without the last run" and not kept:
        with pytest.raises(SeamlineError):  # nothing shows that they are not cut short
            pulled(tmp_path / "in", tmp_path / "out")
        return
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["dropped"], len(found)) == ({}, 20)
    assert report["repaired"]["annotation: its mask was not in COCO's form, put into it"] == 20
    assert [iou(found[index + 1][1], mask) for index, mask in enumerate(masks)] == [1] * 20


@pytest.mark.parametrize("kept", [("bbox",), ("area",), ("area", "bbox"), ()])
def test_a_text_cut_short_is_left_out(tmp_path: Path, kept: tuple[str, ...]) -> None:
    """Half of the garment is lost; without box and area nothing would show it."""

    def change(index: int, record: Record) -> None:
        counts = runs(record["mask"].ravel(order="F"))
        record["segmentation"] = {
            "size": [HEIGHT, WIDTH],
            "counts": counts[: len(counts) // 4 * 2] if not index else counts,
        }
        for field in {"bbox", "area"} - set(kept):
            del record[field]

    write(tmp_path / "in", change)
    report, found = pulled(tmp_path / "in", tmp_path / "out")
    assert (report["dropped"], len(found)) == ({UNFILLED: 1}, 19)


def test_without_a_box_the_order_of_the_runs_is_still_looked_at(tmp_path: Path) -> None:
    """Their number is the area's, whichever way they run."""

    def change(index: int, record: Record) -> None:
        record["segmentation"] = {
            "size": [HEIGHT, WIDTH],
            "counts": runs(record["mask"].ravel())[: None if index else -1],
        }
        if not index:
            del record["bbox"]
        else:
            record["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": runs(record["mask"].ravel(order="F"))}

    write(tmp_path / "in", change)
    report, _ = pulled(tmp_path / "in", tmp_path / "out")
    assert report["dropped"] == {
        "annotation: has no box, and its RLE makes a shape only if its runs go along the rows": 1
    }
