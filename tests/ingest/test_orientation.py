"""Which way up an image is where EXIF turns it: what its record says, and else what the others show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from seamline.base.errors import SeamlineError
from seamline.base.files import copy
from seamline.images.files import Picture
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.canonical.images import (
    EXIF_AMBIGUOUS,
    Entry,
    ImageHead,
    canonical_size,
    entry_problem,
    other_size_hint,
    other_size_of,
)
from seamline.ingest.canonical.source import Reading
from seamline.ingest.layouts.coco import read
from tests.conftest import square

OTHER_SIZE = "image: has another size than its record says"


def entry_of(height: int | None, width: int | None, orientation: int, shown: tuple[int, int]) -> Entry:
    head = ImageHead(id=1, file_name="a.jpg", height=height, width=width)
    picture = Picture(height=shown[0], width=shown[1], format="JPEG", orientation=orientation)
    return Entry(part=0, raw=b"{}", head=head, path=Path("a.jpg"), picture=picture)


@pytest.mark.parametrize(
    ("shown", "stored", "problem", "upright"),
    [
        (0, 0, EXIF_AMBIGUOUS, False),
        (3, 2, EXIF_AMBIGUOUS, False),  # the others contradict each other, however many there are of each
        (1, 1, EXIF_AMBIGUOUS, False),
        (1, 0, None, False),
        (0, 1, None, True),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(50, 50), (None, None), (None, 50)])
def test_a_square_or_an_image_without_a_size_is_as_the_others_are(
    height: int | None, width: int | None, shown: int, stored: int, problem: str | None, upright: bool
) -> None:
    entry = entry_of(height, width, 3, (50, 50))
    assert entry_problem(entry, shown, stored) == problem
    assert entry.upright == upright


@pytest.mark.parametrize(("shown", "stored"), [(0, 0), (1, 1), (5, 0), (0, 5)])
def test_an_image_on_its_side_is_what_its_own_record_says(shown: int, stored: int) -> None:
    """6 turns by 90 degrees: shown 60 x 40, stored 40 x 60."""
    as_shown, as_stored, other = (entry_of(*size, 6, (60, 40)) for size in ((60, 40), (40, 60), (60, 60)))
    assert entry_problem(as_shown, shown, stored) is None
    assert (as_shown.upright, canonical_size(as_shown)) == (False, (60, 40))
    assert entry_problem(as_stored, shown, stored) is None
    assert (as_stored.upright, canonical_size(as_stored)) == (True, (40, 60))
    assert entry_problem(other, shown, stored) == OTHER_SIZE


@pytest.mark.parametrize(
    ("size", "orientation", "shown", "wanted"),
    [
        ((60, 40), 1, (62, 38), (62, 38)),
        ((60, 40), 1, (63, 40), None),
        ((60, 40), 6, (61, 40), (61, 40)),
        ((60, 40), 6, (40, 62), (62, 40)),  # as it is stored
        ((50, 50), 6, (51, 49), None),  # either way
    ],
)
def test_a_record_may_be_off_by_two_pixels(
    size: tuple[int, int], orientation: int, shown: tuple[int, int], wanted: tuple[int, int] | None
) -> None:
    entry = entry_of(*size, orientation, shown)
    assert entry_problem(entry, 0, 0) == (None if wanted else OTHER_SIZE)
    assert wanted is None or canonical_size(entry) == wanted


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("convention", ["as_shown", "as_stored"])
def test_the_user_says_how_masks_lie(tmp_path: Path, orientation: int, convention: str) -> None:
    """A square photo, white on the left as it is stored, and a mask on its white half as it is shown or stored."""
    stored = np.zeros((60, 60), np.uint8)
    stored[:, :30] = 255
    shown = np.rot90(stored, {3: 2, 6: -1}[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "in").mkdir()
    Image.fromarray(stored).save(tmp_path / "in" / "a.png", exif=exif)
    rows, columns = np.nonzero(shown if convention == "as_shown" else stored)
    left, top, right, bottom = (int(side) for side in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    record = {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [left, top, right - left, bottom - top],
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]], "area": 1800, "iscrowd": 0,
    }  # fmt: skip
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 60}],
        "annotations": [record],
        "categories": [{"id": 1, "name": "shirt"}],
    }
    (tmp_path / "in" / "a.json").write_text(json.dumps(coco))
    (tmp_path / "none").mkdir()
    with pytest.raises(SeamlineError, match=r"pull\.convention: as_shown or as_stored says"):
        canonicalise(read(tmp_path / "in", None), tmp_path / "none", copy)
    (tmp_path / "out").mkdir()
    canonicalise(read(tmp_path / "in", None), tmp_path / "out", copy, Reading(convention))
    picture = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "out" / "images" / "a.png")))
    [found] = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    assert found["bbox"] == record["bbox"]
    inside = picture[top:bottom, left:right]
    assert inside.min() == 255 and picture.sum() == inside.sum()


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_tiff_is_turned_back_too(tmp_path: Path, orientation: int, depth: type[Any]) -> None:
    """OpenCV turns every TIFF as its orientation says, also when it is asked not to; the pixels are numpy's."""
    stored = np.random.default_rng(1).integers(0, np.iinfo(depth).max, (60, 40), dtype=depth, endpoint=True)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112] = orientation
    (tmp_path / "in").mkdir()
    Image.fromarray(stored).save(tmp_path / "in" / "a.tif", tiffinfo=tags)
    record = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [square(5, 35, 20)], "iscrowd": 0}
    coco = {
        "images": [{"id": 1, "file_name": "a.tif", "width": 40, "height": 60}],
        "annotations": [record],
        "categories": [{"id": 1, "name": "shirt"}],
    }
    (tmp_path / "in" / "a.json").write_text(json.dumps(coco))
    (tmp_path / "out").mkdir()
    canonicalise(read(tmp_path / "in", None), tmp_path / "out", copy, Reading("as_stored"))
    picture = np.asarray(Image.open(tmp_path / "out" / "images" / "a.png"))[:, :, 0]
    assert np.array_equal(picture, stored if depth == np.uint8 else stored >> 8)


def test_an_image_that_exif_does_not_turn_has_its_size_or_none() -> None:
    assert entry_problem(entry_of(60, 40, 1, (60, 40)), 0, 0) is None
    assert entry_problem(entry_of(None, None, 1, (60, 40)), 0, 0) is None
    assert entry_problem(entry_of(40, 60, 1, (60, 40)), 0, 0) == OTHER_SIZE


@pytest.mark.parametrize(
    ("record", "file", "kind"),
    [
        ((100, 200), (200, 100), "exchanged"),
        ((100, 200), (50, 100), "scaled"),
        ((100, 201), (50, 100), "scaled"),  # to whole pixels: 100.5 were wanted
        ((100, 200), (50, 105), None),
        ((100, 200), (50, 50), None),
        ((None, 200), (50, 100), None),
    ],
)
def test_another_size_is_one_of_the_same_shape_or_has_its_sides_exchanged(
    record: tuple[int | None, int], file: tuple[int, int], kind: str | None
) -> None:
    assert other_size_of(entry_of(*record, 1, file)) == kind


def test_the_hint_is_what_most_photos_of_another_size_are() -> None:
    scaled, exchanged = entry_of(100, 200, 1, (50, 100)), entry_of(100, 200, 1, (200, 100))
    assert "pull.convention: scaled" in other_size_hint([exchanged, scaled, scaled])
    assert "pull.convention: exchanged" in other_size_hint([scaled, exchanged, exchanged])
    assert other_size_hint([scaled, entry_of(100, 200, 1, (50, 50)), entry_of(300, 200, 1, (50, 50))]).startswith(
        "most have another shape, too"
    )
