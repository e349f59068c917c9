"""Penn-Fudan's layout, written by Pillow: palettes, numbers with gaps, and what may be wrong with masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pycocotools.coco import COCO

from seamline.base.errors import SeamlineError
from seamline.ingest.layouts.recognition import category_names, layouts_of, read_source
from tests.conftest import write_dataset
from tests.ingest.test_layouts import pulled

HEIGHT, WIDTH = 60, 40
Ids = npt.NDArray[Any]


def two_people() -> Ids:
    """One behind the other, in two parts; their numbers are 2 and 7."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[5:50, 4:14], ids[20:30, 2:30] = 2, 7
    ids[:, 38:] = 2
    return ids


def write_mask(path: Path, ids: Ids) -> None:
    """With the dataset's palette: 0 is black, 1 red, 2 green; all others here are black too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(ids, mode="P")
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    mask.save(path)


def write_penn_fudan(folder: Path, stems: tuple[str, ...] = ("FudanPed00001", "PennPed00096")) -> Path:
    """PennFudanPed/ as it is unpacked, with the description that comes with each photo."""
    place = folder / "PennFudanPed"
    for number, stem in enumerate(stems):
        write_photo(place / "PNGImages" / f"{stem}.png", number)
        write_mask(place / "PedMasks" / f"{stem}_mask.png", two_people())
        text = place / "Annotation" / f"{stem}.txt"
        text.parent.mkdir(exist_ok=True)
        text.write_text('Objects with ground truth : 2 { "PASpersonWalking" "PASpersonWalking" }\n')
    (place / "added-object-list.txt").write_text("FudanPed00001\n")
    return folder


def write_photo(path: Path, seed: int, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_every_number_of_a_mask_is_a_person_pixel_by_pixel(tmp_path: Path) -> None:
    source = write_penn_fudan(tmp_path / "in")
    assert layouts_of(source) == ["penn-fudan"]
    assert category_names(source, None, None) == ["person"]
    report, content = pulled(source, tmp_path / "out")
    assert report["layout"] == "penn-fudan"
    assert (report["images"], report["annotations"], report["files_without_record"]) == (2, 4, 0)
    assert report["dropped"] == {}
    assert content["categories"] == [{"id": 1, "name": "person"}]
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    for image_id in coco.imgs:
        masks = [coco.annToMask(record) for record in coco.imgToAnns[image_id]]
        np.testing.assert_array_equal(masks, [two_people() == 2, two_people() == 7])
        for record, mask in zip(coco.imgToAnns[image_id], masks, strict=True):
            ys, xs = np.nonzero(mask)
            assert record["area"] == len(xs)
            assert record["bbox"] == [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
    stored = (source / "PennFudanPed" / "PNGImages" / "FudanPed00001.png").read_bytes()
    assert (tmp_path / "out" / "images" / coco.imgs[1]["file_name"]).read_bytes() == stored


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (b"no picture", "image: its mask cannot be read"),
        (
            Image.new("RGB", (WIDTH, HEIGHT), (0, 0, 9)),
            "image: its mask has colours, where numbers of people are expected",
        ),
        (Image.new("P", (WIDTH, HEIGHT - 1)), "image: its mask is of another size"),
        (
            Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)),
            "image: its mask has more than 1000 people, as a picture has",
        ),
    ],
)
def test_a_mask_that_cannot_be_used_takes_its_photo_out_and_is_counted(
    mask: bytes | Image.Image, reason: str, tmp_path: Path
) -> None:
    source = write_penn_fudan(tmp_path / "in")
    path = source / "PennFudanPed" / "PedMasks" / "PennPed00096_mask.png"
    path.write_bytes(mask) if isinstance(mask, bytes) else mask.save(path)
    report, _ = pulled(source, tmp_path / "out")
    assert (report["images"], report["annotations"]) == (1, 2)
    assert report["dropped"] == {reason: 1}
    assert report["files_without_record"] == 0


def test_photos_without_masks_and_masks_without_photos_are_counted(tmp_path: Path) -> None:
    source = write_penn_fudan(tmp_path / "in", ("a", "b", "c"))
    (source / "PennFudanPed" / "PedMasks" / "b_mask.png").unlink()
    (source / "PennFudanPed" / "PNGImages" / "c.png").unlink()
    report, _ = pulled(source, tmp_path / "out")
    assert (report["images"], report["annotations"], report["files_without_record"]) == (1, 2, 1)
    assert report["dropped"] == {"annotation: its image was dropped": 2, "image: file is missing": 1}


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_numbers_may_be_grey_values_too(mode: str, tmp_path: Path) -> None:
    source = write_penn_fudan(tmp_path / "in", ("a",))
    ids = two_people()
    pixels = (
        np.repeat(ids[..., None], 3, axis=2) if mode == "RGB" else ids.astype(np.uint16 if "16" in mode else np.uint8)
    )
    Image.fromarray(pixels).save(source / "PennFudanPed" / "PedMasks" / "a_mask.png")
    report, _ = pulled(source, tmp_path / "out")
    assert (report["images"], report["annotations"], report["dropped"]) == (1, 2, {})


def test_a_photo_without_people_is_background(tmp_path: Path) -> None:
    source = write_penn_fudan(tmp_path / "in")
    path = source / "PennFudanPed" / "PedMasks" / "PennPed00096_mask.png"
    write_mask(path, np.zeros((HEIGHT, WIDTH), np.uint8))
    report, _ = pulled(source, tmp_path / "out")
    assert (report["images"], report["annotations"], report["dropped"]) == (2, 2, {})


def test_a_coco_file_beside_it_goes_first_and_other_folders_are_not_it(tmp_path: Path) -> None:
    both = write_penn_fudan(write_dataset(tmp_path / "both"))
    assert layouts_of(both) == ["coco", "penn-fudan"]
    assert pulled(both, tmp_path / "out", layout="penn-fudan")[0]["annotations"] == 4
    with pytest.raises(SeamlineError, match=r"has no folder with PNGImages/ and PedMasks/"):
        read_source(write_dataset(tmp_path / "coco"), "penn-fudan", None)
