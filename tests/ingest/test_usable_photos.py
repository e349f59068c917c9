"""What a usable photo is, pull and prediction judge alike: what is kept is never refused after the training."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

from seamline.base.files import copy
from seamline.images.reading import ImageError, read_image
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.canonical.photo_files import DAMAGED_DATA, read_pictures
from seamline.ingest.layouts.coco import read
from tests.conftest import square

FRAMES = [
    PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 255, (60, 40, 3), dtype=np.uint8)) for seed in range(3)
]
SEVERAL = "image: has several pictures (an animation, or pages)"
BROKEN = "image: cannot be decoded"
FORMAT = "image: its format is none of BMP, JPEG, PNG, TIFF, WEBP"


def saved(image_format: str, image: PIL.Image.Image = FRAMES[0], **options: Any) -> bytes:
    data = io.BytesIO()
    image.copy().save(data, image_format, **options)
    return data.getvalue()


def several(image_format: str, count: int = 3, **options: Any) -> bytes:
    """A file of so many pictures."""
    pages = [frame.copy() for frame in FRAMES[1:count]]  # Pillow keeps on them how the last format was written
    return saved(image_format, save_all=True, append_images=pages, **options)


def turned_exif() -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return exif


ODD: dict[str, tuple[bytes, str | None]] = {  # name -> bytes, why not
    "plain.jpg": (saved("JPEG"), None),
    "cmyk.jpg": (saved("JPEG", FRAMES[0].convert("CMYK")), None),
    "turned.jpg": (saved("JPEG", FRAMES[0].transpose(PIL.Image.Transpose.ROTATE_90), exif=turned_exif()), None),
    "phone.jpg": (several("MPO"), None),  # as phones keep depth or a gain map behind the photo
    "grey16.png": (saved("PNG", PIL.Image.fromarray(np.full((60, 40), 40_000, np.uint16))), None),
    "palette.png": (saved("PNG", FRAMES[0].convert("P")), None),
    "one_frame.png": (saved("PNG", save_all=True), None),
    "still.webp": (saved("WEBP"), None),
    "scan.tif": (saved("TIFF"), None),
    "scan_in_jpeg.tif": (saved("TIFF", compression="jpeg"), None),
    "old.bmp": (saved("BMP"), None),
    "anim.webp": (several("WEBP"), SEVERAL),
    "anim.png": (several("PNG"), SEVERAL),
    "two.webp": (several("WEBP", 2), SEVERAL),
    "two_pages.tif": (several("TIFF", 2), SEVERAL),
    "anim_as.jpg": (several("PNG"), SEVERAL),
    "pages.tif": (several("TIFF"), SEVERAL),
    "pages_in_deflate.tiff": (several("TIFF", compression="tiff_deflate"), SEVERAL),
    "empty.jpg": (b"", BROKEN),
    "text.jpg": (b"<html>404</html>", FORMAT),
    "short.jpg": (saved("JPEG")[:-400], BROKEN),
    "short.png": (saved("PNG")[:-400], BROKEN),
    "short.webp": (saved("WEBP")[:-400], BROKEN),
    "float.tif": (saved("TIFF", PIL.Image.fromarray(np.full((60, 40), 0.5, np.float32))), BROKEN),
    "low.png": (saved("PNG", FRAMES[0].resize((40, 9))), "image: a side has fewer than 10 pixels"),
    "vast.png": (saved("PNG", PIL.Image.new("1", (20_000, 10_001))), "image: has more than 200 million pixels"),
}


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], set[str]]:
    """The folder of all files, what pull dropped with its reason, and what it kept."""
    folder, target = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    images, annotations = [], []
    for number, (name, (data, _)) in enumerate(ODD.items(), start=1):
        (folder / name).write_bytes(data)
        images.append({"id": number, "file_name": name})
        annotations.append({"image_id": number, "category_id": 1, "segmentation": [square(5, 5, 20)]})
    # Two photos with their size, which say which way the one that EXIF turns has its masks.
    images[2] |= {"width": 40, "height": 60}
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "shirt"}]}
    (folder / "annotations.json").write_text(json.dumps(coco))
    source = read(folder, None)
    canonicalise(source, target, copy)
    dropped = {
        change.place.image: change.reason
        for change in source.changes.rows
        if change.verb == "dropped" and change.reason.startswith("image:")
    }
    kept = {record["file_name"] for record in json.loads((target / "annotations.json").read_text())["images"]}
    shutil.rmtree(target)
    return folder, dropped, kept


@pytest.mark.parametrize("name", ODD)
def test_pull_and_prediction_judge_a_file_alike(name: str, pulled: tuple[Path, dict[str, str], set[str]]) -> None:
    folder, dropped, kept = pulled
    assert dropped.get(name) == ODD[name][1]
    assert (Path(name).stem in {Path(file).stem for file in kept}) == (name not in dropped)
    try:
        read_image(folder / name)
    except ImageError as error:
        assert name in dropped, error
    else:
        assert name not in dropped


def test_jpegs_of_which_a_part_is_lost_differ_from_whole_ones(tmp_path: Path) -> None:
    """Baseline and progressive, cut in the middle or overwritten there, and given their end marker."""
    rng = np.random.default_rng(3)
    paths, lost = [], []
    for number in range(300):  # more than one block
        pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.jpg"
        PIL.Image.fromarray(pixels).save(path, progressive=number % 2 == 0, quality=90)
        paths.append(path)
        data = path.read_bytes()
        if number in (7, 8, 270):
            path.write_bytes(data[: len(data) * 2 // 3] + b"\xff\xd9")
            lost.append(path)
        elif number == 9:
            path.write_bytes(data[:-2] + bytes(40) + b"\xff\xd9")  # bytes too many: the picture is whole
    read = dict(zip(paths, read_pictures(paths), strict=True))
    assert [path for path, (picture, _) in read.items() if picture == DAMAGED_DATA] == lost
    said = {path: said for path, (_, said) in read.items() if said}
    assert list(said) == [paths[9]]
    assert "extraneous bytes" in said[paths[9]]


def test_what_others_print_while_photos_are_read_is_not_lost_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(read_pictures([])) == []
    os.write(2, b"after")
    assert capfd.readouterr().err.endswith("after")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("bits", "channels", "said"), [(12, 1, 12), (12, 3, 12), (14, 1, 14), (15, 1, None), (16, 3, None), (8, 1, None)]
)
def test_a_photo_of_16_bits_that_is_nearly_black_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, bits: int, channels: int, said: int | None
) -> None:
    """Noise of so many bits, with one white pixel, as OpenCV writes it; of 8 bits nothing is lost."""
    noise = np.random.default_rng(1).integers(0, 2**bits, (60, 40, channels), dtype=np.uint16)
    noise[0, 0] = 65_535
    (tmp_path / "in" / "images").mkdir(parents=True)
    picture = noise.astype(np.uint8) if bits == 8 else noise
    cv2.imwrite(str(tmp_path / "in" / "images" / f"1.{suffix}"), picture)
    record = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [square(5, 5, 20)], "iscrowd": 0}
    coco = {
        "images": [{"id": 1, "file_name": f"1.{suffix}", "width": 40, "height": 60}],
        "annotations": [record],
        "categories": [{"id": 1, "name": "shirt"}],
    }
    (tmp_path / "in" / "a.json").write_text(json.dumps(coco))
    (tmp_path / "out").mkdir()
    assert canonicalise(read(tmp_path / "in", None), tmp_path / "out", copy)["images"] == 1
    printed = capsys.readouterr().out
    assert ("read as nearly black" in printed) == (said is not None)
    assert (
        said is None
        or f"1 photo of 16 bits a channel, such as 1.{suffix}, with values in the lower {said} bits" in printed
    )
