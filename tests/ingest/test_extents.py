"""What the coordinates of a whole file say, whose masks and boxes agree; the right ones are those numpy has placed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import copy
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.canonical.extents import Extent
from seamline.ingest.canonical.source import Reading
from seamline.ingest.layouts.coco import read

PORTRAITS_AND_LANDSCAPES = [(180, 240), (240, 180)]
Boxes = list[list[float]]


def write(
    folder: Path,
    sizes: list[tuple[int, int]],
    factors: float | list[float] = 1.0,
    shares: float | None = None,
    has_box: bool = True,
    spread: tuple[float, float] = (0.02, 0.98),
) -> Boxes:
    """A garment a photo, a hexagon anywhere in it; as written, multiplied by factors, or in shares of the photo."""
    (folder / "photos").mkdir(parents=True)
    coco: Record = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "shirt"}]}
    rng = np.random.default_rng(3)
    boxes = []
    for index in range(24):
        width, height = sizes[index % len(sizes)]
        sides = rng.uniform(0.3, 0.7, 2)
        start = spread[0] + rng.uniform(0, 1, 2) * (spread[1] - spread[0] - sides)
        corners = np.array([(0.2, 0), (0.8, 0), (1, 0.5), (0.8, 1), (0.2, 1), (0, 0.5)])
        points = ((start + corners * sides) * (width, height)).round(1)
        boxes.append([*points.min(axis=0), *np.ptp(points, axis=0)])
        factor = factors[index % len(factors)] if isinstance(factors, list) else factors
        points = points * (np.array((shares / width, shares / height)) if shares else factor)
        name = f"{index}.png"
        Image.new("L", (width, height), index).save(folder / "photos" / name)
        coco["images"].append({"id": index, "file_name": name, "width": width, "height": height})
        record = {
            "id": index + 1, "image_id": index, "category_id": 1, "iscrowd": 0,
            "segmentation": [points.ravel().tolist()],
        }  # fmt: skip
        if has_box:
            record["bbox"] = [*points.min(axis=0), *np.ptp(points, axis=0)]
        coco["annotations"].append(record)
    (folder / "a.json").write_text(json.dumps(coco))
    return boxes


def change(folder: Path, number: int, factor: float) -> None:
    coco = json.loads((folder / "a.json").read_text())
    record = coco["annotations"][number]
    record["segmentation"] = [[value * factor for value in record["segmentation"][0]]]
    record["bbox"] = [value * factor for value in record["bbox"]]
    (folder / "a.json").write_text(json.dumps(coco))


def pulled(folder: Path, target: Path, convention: str | float | None = None) -> Boxes:
    target.mkdir()
    canonicalise(read(folder, None), target, copy, Reading(convention))
    return [record["bbox"] for record in json.loads((target / "annotations.json").read_text())["annotations"]]


FRAMES = {
    "percent of small photos": ("percent", 100, [(180, 240), (240, 180), (240, 240)]),
    "percent of photos of all sizes": ("percent", 100, [(640, 480), (150, 120), (480, 640), (640, 480)]),
    "percent of large photos": ("percent", 100, [(640, 480), (480, 640)]),
    "thousandths of somewhat larger photos": ("thousandths", 1000, [(1300, 1700), (1700, 1300)]),
    "thousandths of smaller photos": ("thousandths", 1000, [(640, 400), (400, 640)]),
}


@pytest.mark.parametrize("has_box", [True, False])
@pytest.mark.parametrize("case", FRAMES)
def test_shares_of_photos_of_any_size_are_named_and_read(tmp_path: Path, case: str, has_box: bool) -> None:
    convention, side, sizes = FRAMES[case]
    boxes = write(tmp_path / "in", sizes, shares=side, has_box=has_box)
    with pytest.raises(
        SeamlineError, match=rf"as far as {side} along both sides.* pull\.convention: {convention} reads"
    ):
        pulled(tmp_path / "in", tmp_path / "out")
    found = pulled(tmp_path / "in", tmp_path / "mended", convention)
    assert len(found) == 24
    assert np.abs(np.subtract(found, boxes)).max() <= 2


def test_one_number_does_not_hide_percent(tmp_path: Path) -> None:
    boxes = write(tmp_path / "in", [(640, 480), (480, 640)], shares=100)
    change(tmp_path / "in", 5, 2.5)
    with pytest.raises(SeamlineError, match=r"pull\.convention: percent reads"):
        pulled(tmp_path / "in", tmp_path / "out")
    found = pulled(tmp_path / "in", tmp_path / "mended", "percent")
    assert np.abs(np.subtract(found[:5] + found[-10:], boxes[:5] + boxes[-10:])).max() <= 2


@pytest.mark.parametrize("has_box", [True, False])
@pytest.mark.parametrize("factor", [0.5, 0.75, 0.85])
def test_photos_shrunk_a_little(tmp_path: Path, factor: float, has_box: bool) -> None:
    """At 0.85 every mask overlaps its place by half and more, and hardly any leaves its photo by much."""
    boxes = write(tmp_path / "in", PORTRAITS_AND_LANDSCAPES, 1 / factor, has_box=has_box)
    with pytest.raises(SeamlineError, match=r"larger photos, which pull\.convention: NUMBER scales") as error:
        pulled(tmp_path / "in", tmp_path / "out")
    assert factor <= float(str(error.value).split("here ")[1].split()[0]) <= factor + 0.1
    found = pulled(tmp_path / "in", tmp_path / "mended", factor)
    assert np.abs(np.subtract(found, boxes)).max() <= 2


def test_garments_that_leave_their_photos_on_all_sides_are_kept(tmp_path: Path) -> None:
    boxes = write(tmp_path / "in", PORTRAITS_AND_LANDSCAPES, spread=(-0.15, 1.15))
    assert len(pulled(tmp_path / "in", tmp_path / "out")) == len(boxes)


@pytest.mark.parametrize("convention", [0.5, 2.0, "percent", "thousandths"])
@pytest.mark.parametrize("sizes", [PORTRAITS_AND_LANDSCAPES, [(640, 400), (400, 640)], [(1100, 1300)]])
@pytest.mark.parametrize("has_box", [True, False])
def test_what_is_right_stays_under_a_convention_of_before(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    convention: str | float,
    sizes: list[tuple[int, int]],
    has_box: bool,
) -> None:
    boxes = write(tmp_path / "in", sizes, has_box=has_box)
    found = pulled(tmp_path / "in", tmp_path / "out", convention)
    assert np.abs(np.subtract(found, boxes)).max() <= 2
    assert (
        f"pull.convention: {convention if isinstance(convention, str) else format(convention, 'g')} is not applied"
        in (capsys.readouterr().out)
    )


def test_a_number_is_said_where_it_scales_masks_that_may_be_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in", PORTRAITS_AND_LANDSCAPES, [2.0, 1.0, 1.0])
    pulled(tmp_path / "in", tmp_path / "out", 0.5)
    assert "pull.convention: 0.5 scales all masks, of which only " in capsys.readouterr().out


@pytest.mark.parametrize(("factor", "said"), [(0.5, True), (0.7, True), (1.0, False)])
def test_photos_enlarged_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: float, said: bool
) -> None:
    write(tmp_path / "in", [(300, 400), (400, 300)], factor)
    pulled(tmp_path / "in", tmp_path / "out")
    assert ("if the photos were enlarged after annotation" in capsys.readouterr().out) is said


def test_garments_in_the_middle_of_photos_are_not_in_their_corner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in", [(1300, 1300)], spread=(0.15, 0.85))  # and end before 1,100
    assert len(pulled(tmp_path / "in", tmp_path / "out")) == 24
    assert "enlarged" not in capsys.readouterr().out


def extent_of(reach: float, box_end: float = 0.0, count: int = 3) -> Extent:
    extent = Extent(mask=reach, box=box_end, box_end=box_end)
    extent.reaches.extend([reach] * count)
    return extent


def test_shares_may_lie_a_little_beyond_the_image() -> None:
    assert Extent(mask=1.1, box=1.11).lie_in(1) == (True, False)
    assert Extent(mask=1.11, box=1.1).lie_in(1) == (False, True)
    assert Extent().lie_in(1) == (False, False)
    # In percent masks and boxes have to reach equally far, since pixels lie below 100 too.
    assert extent_of(100, 80).lie_in(100) == (True, True)
    assert extent_of(100, 79).lie_in(100) == (False, False)
    assert extent_of(100, 126).lie_in(100) == (False, False)
    assert extent_of(110).lie_in(100) == (True, True)
    assert extent_of(111).lie_in(100) == (False, False)
    assert extent_of(49).lie_in(100) == (False, False)  # few garments lie in one corner of a photo all


@pytest.mark.parametrize(
    ("areas", "tell"), [([100] * 6, False), ([100] * 3 + [1, 2, 3], True), ([100] * 5, True), ([], True)]
)
def test_one_area_for_most_says_nothing(areas: list[float], tell: bool) -> None:
    extent = Extent()
    extent.areas.extend(areas)
    assert extent.areas_tell() is tell
