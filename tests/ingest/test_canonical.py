"""Every row of the table in docs/data.md, and that nothing is lost silently whatever a file holds."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import copy, link_or_copy
from seamline.ingest.canonical.contradictions import CONVENTIONS
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.canonical.identities import record_of
from seamline.ingest.canonical.images import unique_stem
from seamline.ingest.canonical.source import Reading
from seamline.ingest.layouts.coco import read
from tests.conftest import HAS_SHARED_DATA, PROJECT, SHARED_DATA, square, write_dataset

Dataset = dict[str, Any]


def canonical(folder: Path, target: Path, reading: Reading | None = None) -> tuple[Record, Record]:
    target.mkdir()
    report = canonicalise(read(folder, None), target, copy, reading)
    return report, json.loads((target / "annotations.json").read_text())


def rows_of_the_table() -> dict[str, tuple[str, str]]:
    """What comes -> (kept, repaired, dropped, counted or error; the reason)."""
    text = (PROJECT / "docs" / "data.md").read_text()
    table = text.split("| What comes |")[1].split("\n\n")[0]
    rows = {}
    for line in table.splitlines()[2:]:
        comes, _, counted = (cell.strip() for cell in line.strip("|").split("|"))
        outcome, _, reason = counted.partition(" ")
        rows[comes] = (outcome, reason.strip("`"))
    return rows


CASES: dict[str, Callable[[Dataset, Path], object]] = {}


def case(row: str) -> Callable[[Callable[[Dataset, Path], object]], Callable[[Dataset, Path], object]]:
    """The case of one row: changes a clean dataset of six images; may return a check of the canonical result."""

    def put(change: Callable[[Dataset, Path], object]) -> Callable[[Dataset, Path], object]:
        CASES[row] = change
        return change

    return put


def picture(folder: Path, name: str) -> Image.Image:
    return Image.open(folder / "photos" / name).convert("RGB")


def exif(orientation: int) -> Image.Exif:
    table = Image.Exif()
    table[0x0112] = orientation
    return table


@case('image id as text (`"000001"`)')
def _(coco: Dataset, folder: Path) -> object:
    coco["images"][1]["id"] = "000002"

    def check(found: Record) -> None:
        assert (found["images"][1]["id"], found["images"][1]["source_id"]) == (2, "000002")
        assert len(found["annotations"]) == 12

    return check


@case('image id that is not a number (`"a-17"`)')
def _(coco: Dataset, folder: Path) -> object:
    coco["images"][1]["id"] = "a-17"
    for record in coco["annotations"][2:4]:
        record["image_id"] = "a-17"

    def check(found: Record) -> None:
        assert [image["id"] for image in found["images"]] == [1, 3, 4, 5, 6, 7]
        assert [record["image_id"] for record in found["annotations"][2:4]] == [7, 7]

    return check


@case("one image listed twice")
def _(coco: Dataset, folder: Path) -> None:
    coco["images"].append(coco["images"][0])


@case("two images with the same id")
def _(coco: Dataset, folder: Path) -> None:
    coco["images"][1]["id"] = 1


@case("image record that is not an object, is not UTF-8, or has a number out of range")
def _(coco: Dataset, folder: Path) -> None:
    coco["images"] += [17]


@case("image record without `id` or `file_name`")
def _(coco: Dataset, folder: Path) -> None:
    coco["images"] += [{"id": 77, "width": 40, "height": 60}]


@case("two image records for one file")
def _(coco: Dataset, folder: Path) -> None:
    coco["images"].append({**coco["images"][0], "id": 77})


@case("image file missing")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"] = coco["annotations"][2:]
    (folder / "photos" / "001.png").unlink()


@case("image unreadable or cut short")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"] = coco["annotations"][2:]
    path = folder / "photos" / "001.png"
    path.write_bytes(path.read_bytes()[:-200])


@case("JPEG of which a part is lost, though it has its end")
def _(coco: Dataset, folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "photos" / "001.jpg")
    data = (folder / "photos" / "001.jpg").read_bytes()
    (folder / "photos" / "001.jpg").write_bytes(data[: len(data) * 2 // 3] + b"\xff\xd9")
    (folder / "photos" / "001.png").unlink()
    coco["images"][0]["file_name"] = "001.jpg"


@case("image in another format (GIF)")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"] = coco["annotations"][2:]
    picture(folder, "001.png").save(folder / "photos" / "001.gif")
    (folder / "photos" / "001.png").unlink()
    coco["images"][0]["file_name"] = "001.gif"


@case("animation (WebP, PNG), TIFF of several pages")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"] = coco["annotations"][2:]
    first = picture(folder, "001.png")
    first.save(folder / "photos" / "001.png", save_all=True, append_images=[picture(folder, "002.png")])


@case("image with a side under 10 pixels")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"] = coco["annotations"][2:]
    picture(folder, "001.png").resize((40, 9)).save(folder / "photos" / "001.png")
    coco["images"][0]["height"] = 9


@case("image of more than 200 million pixels")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"] = coco["annotations"][2:]
    Image.new("1", (20_000, 10_001)).save(folder / "photos" / "001.png")


@case("image whose size differs from its record")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"] = coco["annotations"][2:]
    coco["images"][0]["width"] = 43


@case("image whose size differs from its record by at most two pixels a side")
def _(coco: Dataset, folder: Path) -> object:
    coco["images"][0] |= {"width": 42, "height": 59}

    def check(found: Record) -> None:
        assert (found["images"][0]["width"], found["images"][0]["height"]) == (40, 60)

    return check


@case("more than half of the images of another size than their records say, or turned by EXIF without a sign of how")
def _(coco: Dataset, folder: Path) -> None:
    for image in coco["images"][:4]:
        image["width"] += 3


@case("image record without a size, or with NaN")
def _(coco: Dataset, folder: Path) -> object:
    coco["images"][0]["width"] = float("nan")

    def check(found: Record) -> None:
        assert (found["images"][0]["width"], found["images"][0]["height"]) == (40, 60)

    return check


@case("image turned by EXIF, record has the size as shown")
def _(coco: Dataset, folder: Path) -> None:
    picture(folder, "001.png").transpose(Image.Transpose.ROTATE_90).save(folder / "photos" / "001.png", exif=exif(6))


@case("image turned by EXIF, record has the size as stored")
def _(coco: Dataset, folder: Path) -> object:
    original = picture(folder, "001.png")
    (folder / "photos" / "001.png").unlink()
    original.save(folder / "photos" / "001.jpg", exif=exif(6), quality=95)
    coco["images"][0]["file_name"] = "001.jpg"

    def check(found: Record) -> None:
        seen = cv2.imread(str(folder.parent / "out" / "images" / "001.jpg"))
        assert seen is not None
        assert seen.shape == (60, 40, 3)
        stored = cv2.imread(str(folder / "photos" / "001.jpg"), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert np.array_equal(seen, np.asarray(stored))  # not encoded again
        with Image.open(folder.parent / "out" / "images" / "001.jpg") as opened:
            assert opened.getexif().get(0x0112, 1) == 1

    return check


@case("such images, and over a tenth of their masks fit them only as shown (Label Studio)")
def _(coco: Dataset, folder: Path) -> None:
    """Stored 40 x 60 and shown 60 x 40; the size in the record is the stored one, the mask was drawn on the other."""
    picture(folder, "001.png").save(folder / "photos" / "001.png", exif=exif(6))
    added(coco, segmentation=[square(44, 10, 12)], bbox=[44, 10, 12, 12], area=144)


@case("image turned by EXIF, and the size does not show which is meant (square, 180 degrees)")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"] = coco["annotations"][2:]
    picture(folder, "001.png").save(folder / "photos" / "001.png", exif=exif(3))


@case("greyscale, CMYK, 16 bits, palette or alpha; PNG, WebP, BMP, TIFF")
def _(coco: Dataset, folder: Path) -> object:
    original = picture(folder, "001.png")
    wide = Image.fromarray(np.asarray(original.convert("L")).astype(np.uint16) * 257)
    files: dict[str, Image.Image] = {
        "grey.png": original.convert("L"), "cmyk.jpg": original.convert("CMYK"), "wide.png": wide,
        "palette.png": original.convert("P"), "alpha.png": original.convert("RGBA"), "a.webp": original,
        "a.bmp": original, "a.tif": original, "wide.tiff": wide, "bw.png": original.convert("1"),
    }  # fmt: skip
    for number, (name, image) in enumerate(files.items(), start=100):
        image.save(folder / "photos" / f"{number}{name}")
        coco["images"].append({"id": number, "file_name": f"{number}{name}", "width": 40, "height": 60})

    def check(found: Record) -> None:
        assert len(found["images"]) == 16

    return check


@case("TIFF with 32 bits a sample")
def _(coco: Dataset, folder: Path) -> None:
    wide = Image.fromarray(np.asarray(picture(folder, "001.png").convert("L")).astype(np.float32))
    wide.save(folder / "photos" / "001.tif")
    (folder / "photos" / "001.png").unlink()
    coco["images"][0]["file_name"] = "001.tif"


@case("bytes after a JPEG's end, or no end marker")
def _(coco: Dataset, folder: Path) -> object:
    picture(folder, "001.png").save(folder / "photos" / "001.jpg")
    (folder / "photos" / "001.png").unlink()
    with (folder / "photos" / "001.jpg").open("ab") as stream:
        stream.write(b"\0\0more")
    coco["images"][0]["file_name"] = "001.jpg"

    def check(found: Record) -> None:
        assert (folder.parent / "out" / "images" / "001.jpg").read_bytes().endswith(b"\xff\xd9")

    return check


@case("file name with folders, or used by another image")
def _(coco: Dataset, folder: Path) -> object:
    for image, part in zip(coco["images"], ("a", "b"), strict=False):
        (folder / "photos" / part).mkdir()
        (folder / "photos" / image["file_name"]).rename(folder / "photos" / part / "x.png")
        image["file_name"] = f"{part}/x.png" if part == "a" else f"{part}\\x.png"

    def check(found: Record) -> None:
        assert [image["file_name"] for image in found["images"]][:2] == ["x.png", "b__x.png"]
        assert [image.get("source_file_name") for image in found["images"]][:2] == ["a/x.png", "b\\x.png"]

    return check


@case("a known format with an unknown suffix")
def _(coco: Dataset, folder: Path) -> object:
    (folder / "photos" / "001.png").rename(folder / "photos" / "001.jfif")
    coco["images"][0]["file_name"] = "001.jfif"

    def check(found: Record) -> None:
        assert found["images"][0]["file_name"] == "001.png"

    return check


@case("file name of another machine or place (absolute, with a drive or `..`, an address)")
def _(coco: Dataset, folder: Path) -> object:
    names = ("/home/me/001.png", "C:\\clothes\\002.png", "../../x/003.png", "https://example.org/a/004.png?key=1")
    for image, name in zip(coco["images"], names, strict=False):
        image["file_name"] = name

    def check(found: Record) -> None:
        # The address's query is not the name of a file: its suffix is what the file's format has.
        assert [image["file_name"][:3] for image in found["images"]][:3] == ["001", "002", "003"]
        for image, number in zip(found["images"], range(1, 7), strict=True):
            given = (folder / "photos" / f"{number:03d}.png").read_bytes()
            assert (folder.parent / "out" / "images" / image["file_name"]).read_bytes() == given

    return check


@case("file name that leads out of the source")
def _(coco: Dataset, folder: Path) -> None:
    (folder / "photos" / "001.png").rename(folder.parent / "001.png")
    coco["images"][0]["file_name"] = "../001.png"


@case("addresses as file names, and no file ends like one of them")
def _(coco: Dataset, folder: Path) -> None:
    for image in coco["images"]:
        image["file_name"] = f"s3://bucket/{image['id']}.jpg"


@case("file name with folders, and only another folder has a file of its last part")
def _(coco: Dataset, folder: Path) -> None:
    (folder / "photos" / "001.png").unlink()
    coco["images"][0]["file_name"] = "new/002.png"


@case("file name that fits several files")
def _(coco: Dataset, folder: Path) -> None:
    for part in ("a", "b"):
        (folder / part).mkdir()
        (folder / part / "001.png").write_bytes((folder / "photos" / "001.png").read_bytes())


@case("file name that differs from one free file's only in its form: Unicode, upper and lower case, `%20`, a code page")
def _(coco: Dataset, folder: Path) -> None:
    forms = {
        "u\u0308 1.png": "\u00fc 1.png",
        "PHOTO.PNG": "photo.png",
        "a b.png": "a%20b.png",
        "\u201at\u201a.png": "été.png",
    }
    for image, (file, name) in zip(coco["images"], forms.items(), strict=False):
        file = file if name != "été.png" else name.encode("cp1252").decode("cp437")
        (folder / "photos" / image["file_name"]).rename(folder / "photos" / file)
        image["file_name"] = name


@case(
    "file name without a suffix or with another picture's, with a blank at an end, or with the prefix of Label "
    "Studio's uploads"
)
def _(coco: Dataset, folder: Path) -> None:
    coco["images"][0]["file_name"] = "001.jpg"
    for number in (2, 3, 4):
        (folder / "photos" / f"00{number}.png").rename(folder / "photos" / f"0a1b2c{number}d-00{number}.png")


@case("file name in the field `filename`, or only an address in `coco_url` (LVIS)")
def _(coco: Dataset, folder: Path) -> None:
    coco["images"][0]["filename"] = coco["images"][0].pop("file_name")


@case("pictures with the photos' names in hidden folders, `masks/`, `thumbnails/`")
def _(coco: Dataset, folder: Path) -> None:
    (folder / "photos" / ".thumbnails").mkdir()
    (folder / "photos" / ".thumbnails" / "001.png").write_bytes((folder / "photos" / "002.png").read_bytes())


@case("other JSON, COCO files of other tasks or in hidden folders")
def _(coco: Dataset, folder: Path) -> None:
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "instances-checkpoint.json").write_text(json.dumps(coco))
    (folder / "captions_train.json").write_text(json.dumps({**coco, "annotations": [{"id": 1, "caption": "a shirt"}]}))
    (folder / "about.json").write_text(json.dumps({"tables": {"images": [], "annotations": [], "categories": []}}))


@case(
    "JSON that is empty, cut short, compressed, a pointer of Git LFS, a web page or nearly a COCO file, beside the "
    "photos, at the top, with the name of a split or with COCO's words in it"
)
def _(coco: Dataset, folder: Path) -> None:
    (folder / "instances_train.json").write_text("")


@case("such JSON elsewhere, or with one photo's name")
def _(coco: Dataset, folder: Path) -> None:
    (folder / "tools").mkdir()
    (folder / "tools" / "package.json").write_text("{'a': 1}")
    (folder / "photos" / "001.json").write_text('{"shapes": ')


@case("no COCO file at all")
def _(coco: Dataset, folder: Path) -> None:
    coco["images"] = {"1": coco["images"][0]}


@case("`.rar`, `.7z`, `.zst` beside the data; a COCO file beside DeepFashion2's folders")
def _(coco: Dataset, folder: Path) -> None:
    (folder / "more.rar").write_bytes(b"Rar!")


@case("annotations of panoptic segmentation")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"] = [{"image_id": 1, "file_name": "001.png", "segments_info": [{"id": 5, "category_id": 1}]}]


@case("JSON in UTF-16 or UTF-32")
def _(coco: Dataset, folder: Path) -> None:
    coco["info"] = {"by": "René"}


@case("half of a character (a lone surrogate) in the JSON")
def _(coco: Dataset, folder: Path) -> object:
    coco["images"][0]["note"] = "a\ud83d"

    def check(found: Record) -> None:
        assert found["images"][0]["note"] == "a\ufffd"

    return check


@case("image files without a record")
def _(coco: Dataset, folder: Path) -> None:
    coco["images"].pop()
    coco["annotations"] = coco["annotations"][:-2]


@case("category ids from zero or with gaps")
def _(coco: Dataset, folder: Path) -> object:
    coco["categories"] = [{"id": 0, "name": "short sleeve top"}, {"id": 91, "name": "trousers"}]
    for record in coco["annotations"]:
        record["category_id"] = {1: 0, 2: 91}[record["category_id"]]

    def check(found: Record) -> None:
        assert {record["category_id"] for record in found["annotations"]} == {0, 91}

    return check


@case("category id as text")
def _(coco: Dataset, folder: Path) -> object:
    coco["categories"][1]["id"] = "2"

    def check(found: Record) -> None:
        assert [category["id"] for category in found["categories"]] == [1, 2]

    return check


@case("two categories with the same id")
def _(coco: Dataset, folder: Path) -> None:
    coco["categories"].append({"id": 2, "name": "skirt"})


@case("two categories with the same name")
def _(coco: Dataset, folder: Path) -> object:
    coco["categories"].insert(0, {"id": 0, "name": "trousers", "supercategory": "none"})

    def check(found: Record) -> None:
        assert [category["name"] for category in found["categories"]] == ["trousers", "short sleeve top"]
        assert [record["category_id"] for record in found["annotations"]] == [1, 0] * 6

    return check


@case("category whose name is a number")
def _(coco: Dataset, folder: Path) -> object:
    coco["categories"][1]["name"] = 7

    def check(found: Record) -> None:
        assert [category["name"] for category in found["categories"]] == ["short sleeve top", "7"]

    return check


@case("category that is not UTF-8")
def _(coco: Dataset, folder: Path) -> object:
    coco["categories"].append({"id": 77, "name": "jupe d'\u00e9t\u00e9"})

    def check(found: Record) -> None:
        assert found["categories"][-1]["name"] == "jupe d'\u00e9t\u00e9"

    return check


@case("category with a control character in its name")
def _(coco: Dataset, folder: Path) -> None:
    coco["categories"][1]["name"] = "trousers\x1b[2J"


@case("category without id or name")
def _(coco: Dataset, folder: Path) -> None:
    coco["categories"].append({"id": 9})


@case("annotation id missing, zero, text or used twice")
def _(coco: Dataset, folder: Path) -> object:
    coco["annotations"][4]["id"] = 1

    def check(found: Record) -> None:
        assert sorted(record["id"] for record in found["annotations"]) == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13]
        assert found["annotations"][-1]["source_id"] == 1

    return check


@case("annotation listed twice, identically")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"].append(coco["annotations"][0])


@case("annotation listed twice with another id")
def _(coco: Dataset, folder: Path) -> None:
    noise = [value + 1e-9 for value in coco["annotations"][0]["segmentation"][0]]
    coco["annotations"].append({**coco["annotations"][0], "id": 100, "segmentation": [noise]})


def added(coco: Dataset, **changes: Any) -> None:
    """One more annotation, a square unless told otherwise; a value of ... takes the key away."""
    record = {
        "id": 100, "image_id": 1, "category_id": 1, "segmentation": [square(1, 1, 5)], "bbox": [1, 1, 5, 5],
        "area": 25, "iscrowd": 0,
    }  # fmt: skip
    coco["annotations"].append({key: value for key, value in {**record, **changes}.items() if value is not ...})


@case("annotation that is not an object, is not UTF-8, or has a number out of range")
def _(coco: Dataset, folder: Path) -> None:
    coco["annotations"].append("none")


@case("annotation of an unknown image")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, image_id=77)


@case("annotation of a dropped image")
def _(coco: Dataset, folder: Path) -> None:
    coco["images"].append({"id": 77, "width": 40, "height": 60, "file_name": "nowhere.png"})
    added(coco, image_id=77)


@case("annotation of an unknown category")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, category_id=9)


@case("ids of most annotations that no category has, one off or places in the list")
def _(coco: Dataset, folder: Path) -> None:
    for record in coco["annotations"]:
        record["category_id"] -= 1


@case("category id, with `pull.category_ids`")
def _(coco: Dataset, folder: Path) -> None:
    for record in coco["annotations"]:
        record["category_id"] -= 1


@case("`category_id` that is a category's name")
def _(coco: Dataset, folder: Path) -> object:
    coco["annotations"][1]["category_id"] = "trousers"

    def check(found: Record) -> None:
        assert [record["category_id"] for record in found["annotations"]] == [1, 2] * 6

    return check


@case("`image_id` that is a file name")
def _(coco: Dataset, folder: Path) -> object:
    coco["annotations"][2]["image_id"] = "002.png"

    def check(found: Record) -> None:
        assert [record["image_id"] for record in found["annotations"][:4]] == [1, 1, 2, 2]

    return check


@case("ids as text in an annotation and as numbers in the records")
def _(coco: Dataset, folder: Path) -> object:
    added(coco, image_id="1", category_id="02")

    def check(found: Record) -> None:
        assert (found["annotations"][-1]["image_id"], found["annotations"][-1]["category_id"]) == (1, 2)

    return check


@case("annotation with a box only")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[])


@case("box with its four corners as a mask (`isbbox`)")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, isbbox=True)


@case("annotation without mask and box")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=..., bbox=...)


@case("NaN, null or text as a coordinate")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[[1, 1, 5, float("nan"), 5, 5]])


@case("polygon with an odd number of coordinates")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[[1, 1, 5, 1, 5, 5, 1]])


@case("polygons of fewer than three points only")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[[1, 1, 5, 5], []])


@case("polygon of fewer than three points beside others")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[square(1, 1, 5), [3, 3, 4, 4]])


@case("polygon not in a list of polygons")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=square(1, 1, 5))


@case("points in lists or as `{x, y}`, lists too many, numbers or JSON as text, `b'...'`, RLE in parts")
def _(coco: Dataset, folder: Path) -> object:
    corners = [(1, 1), (6, 1), (6, 6), (1, 6)]
    for category, mask in enumerate(dressed(corners), 1):
        coco["categories"] += [{"id": category, "name": f"class {category}"}] if category > 2 else []
        added(coco, id=100 + category, category_id=category, segmentation=mask)
    expected = coco_mask.decode(coco_mask.frPyObjects([np.ravel(corners).tolist()], 60, 40)[0])

    def check(found: Record) -> None:
        for record in found["annotations"][12:]:
            mask = record["segmentation"]
            rle = mask if isinstance(mask, dict) else coco_mask.merge(coco_mask.frPyObjects(mask, 60, 40))
            assert (coco_mask.decode(rle) == expected).all()
            assert record["bbox"] == [1, 1, 5, 5]

    return check


def dressed(corners: list[tuple[int, int]]) -> list[Any]:
    """One mask on 40 x 60 in all forms that tools write."""
    flat = [coordinate for corner in corners for coordinate in corner]
    rle = coco_mask.frPyObjects([flat], 60, 40)[0]
    text = rle["counts"].decode()
    points = [{"x": x, "y": y} for x, y in corners]
    halves = [
        coco_mask.frPyObjects([part], 60, 40)[0]["counts"].decode() for part in (square(1, 1, 5), square(2, 2, 3))
    ]
    return [
        corners, [corners], [[corners]], [[flat]], [[[flat]]], points, [points], [[str(value) for value in flat]],
        [{"X": x, "Y": y} for x, y in corners], json.dumps([flat]), repr([flat]), [[flat[:]], [[3, 3, 4, 3, 4, 4]]],
        {"size": [60, 40], "counts": str(rle["counts"])}, {"size": ["60", "40"], "counts": [text]},
        [{"size": [60, 40], "counts": text}], [{"size": [60, 40], "counts": half} for half in halves],
        json.dumps({"size": [60, 40], "counts": text}), repr({"size": [60, 40], "counts": rle["counts"]}),
    ]  # fmt: skip


@case("outline as GeoJSON or of VGG's annotator, without a hole")
def _(coco: Dataset, folder: Path) -> object:
    ring = [[1, 1], [6, 1], [6, 6], [1, 6], [1, 1]]
    shapes: list[Record] = [
        {"type": "Polygon", "coordinates": [ring]},
        {"type": "MultiPolygon", "coordinates": [[ring]]},
        {"name": "polygon", "all_points_x": [1, 6, 6, 1], "all_points_y": [1, 1, 6, 6]},
    ]
    for number, shape in enumerate(shapes):
        added(coco, id=100 + number, image_id=1 + number, segmentation=shape, bbox=[1, 1, 5, 5])
    expected = coco_mask.decode(coco_mask.frPyObjects([square(1, 1, 5)], 60, 40)[0])

    def check(found: Record) -> None:
        for record in found["annotations"][12:]:
            merged = coco_mask.merge(coco_mask.frPyObjects(record["segmentation"], 60, 40))
            assert (coco_mask.decode(merged) == expected).all()

    return check


@case("mask that is another object")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation={"shape": "circle", "r": 5})


@case("mask that is other text")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation="M 1 1 L 5 5 Z")


@case("points in lists too many in another way")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[[[square(1, 1, 5)], [square(2, 2, 3)]], [[square(3, 3, 3)]]])


@case("points of three numbers each")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[[[1, 1, 2], [6, 1, 2], [6, 6, 2]]])


@case("points in lists, one outline in another: GeoJSON's hole or COCO's part")
def _(coco: Dataset, folder: Path) -> None:
    rings = [[[x, y], [x + side, y], [x + side, y + side]] for x, y, side in ((1, 1, 9), (3, 2, 3))]
    added(coco, segmentation=rings)


@case("outline of hundreds of points, RLE not compressed")
def _(coco: Dataset, folder: Path) -> object:
    around = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    circle = np.stack((20 + 10 * np.cos(around), 30 + 15 * np.sin(around)), axis=1).round(2).ravel().tolist()
    box = {"bbox": [10, 15, 20, 30], "area": 471}
    added(coco, segmentation=[circle], **box)
    rle = coco_mask.decode(coco_mask.frPyObjects([circle], 60, 40)[0])
    runs = np.diff(np.flatnonzero(np.diff(rle.ravel(order="F"), prepend=0, append=1)), prepend=0).tolist()
    added(coco, id=101, segmentation={"size": [60, 40], "counts": runs}, category_id=2, **box)

    def check(found: Record) -> None:
        for record in found["annotations"][-2:]:
            assert isinstance(record["segmentation"]["counts"], str)
            assert (coco_mask.decode(record["segmentation"]) == rle).all()
        assert isinstance(found["annotations"][0]["segmentation"], list)

    return check


@case("polygon partly outside the image")
def _(coco: Dataset, folder: Path) -> object:
    added(coco, segmentation=[square(25, 45, 20)], bbox=[25, 45, 15, 15], area=225)

    def check(found: Record) -> None:
        assert found["annotations"][-1]["segmentation"] == [square(25, 45, 20)]

    return check


@case("polygons that lie more than half outside the image")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[square(30, 50, 20)], bbox=[30, 50, 20, 20])


@case("such a polygon whose box ends at the border, or any with `pull.convention: pixels`")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[square(30, 50, 20)], bbox=[30, 50, 10, 10], area=100)


@case("polygon wholly outside the image")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[square(100, 100, 20)])


@case("coordinate more than ten image sides away")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[[1, 1, 1e9, 1, 5, 5]])


@case("polygon whose outline is over a thousand times as long as the sides of the image")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[[-300, 1, 390, 5] * 200])


@case("RLE of another size than its image")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation={"size": [40, 60], "counts": [0, 2400]})


@case("RLE whose runs, or whose size, are floats without a fraction (`5.0`)")
def _(coco: Dataset, folder: Path) -> object:
    added(coco, segmentation={"size": [60.0, 40.0], "counts": [620.0, 5.0, 55.0, 5.0, 1715.0]}, bbox=[10, 20, 2, 5])
    coco["annotations"][-1]["area"] = 10

    def check(found: Record) -> None:
        rows, columns = np.nonzero(coco_mask.decode(found["annotations"][-1]["segmentation"]))
        assert [(columns.min(), rows.min()), (columns.max(), rows.max())] == [(10, 20), (11, 24)]

    return check


@case("run lengths in the place of a polygon's points, which fill the image, or have the box's edges or the area")
def _(coco: Dataset, folder: Path) -> object:
    added(coco, segmentation=[[620, 5, 55, 5, 1715]], bbox=[10, 20, 2, 5], area=10)

    def check(found: Record) -> None:
        rows, columns = np.nonzero(coco_mask.decode(found["annotations"][-1]["segmentation"]))
        assert [(columns.min(), rows.min()), (columns.max(), rows.max())] == [(10, 20), (11, 24)]

    return check


@case("RLE whose runs are not whole numbers (`5.5`)")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation={"size": [60, 40], "counts": [620, 5.5, 54.5, 5, 1715]}, bbox=[10, 20, 2, 5])


@case("RLE without its last run, or with a wrong one, that has its box's edges, or without a box its area")
def _(coco: Dataset, folder: Path) -> object:
    added(coco, segmentation={"size": [60, 40], "counts": [620, 5, 55, 5]}, bbox=[10, 20, 2, 5], area=10)

    def check(found: Record) -> None:
        rows, columns = np.nonzero(coco_mask.decode(found["annotations"][-1]["segmentation"]))
        assert [(columns.min(), rows.min()), (columns.max(), rows.max())] == [(10, 20), (11, 24)]

    return check


@case("RLE whose runs do not fill its size otherwise: it may be cut short")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation={"size": [60, 40], "counts": [10, 2000]})


@case("`iscrowd` missing, `is_crowd`, in a list, true or false")
def _(coco: Dataset, folder: Path) -> object:
    added(coco, iscrowd=..., is_crowd=[1])

    def check(found: Record) -> None:
        assert found["annotations"][-1]["iscrowd"] == 1
        assert "is_crowd" not in found["annotations"][-1]

    return check


@case("`ignore` that is 1 or true (MMDetection, converters of VOC's `difficult`)")
def _(coco: Dataset, folder: Path) -> object:
    added(coco, ignore=True)

    def check(found: Record) -> None:
        assert found["annotations"][-1]["iscrowd"] == 1

    return check


@case("`iscrowd` of another value")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, iscrowd="maybe")


@case("RLE without a box whose runs make a shape only along the rows")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=without_box(15, 35, along_rows=True))
    del coco["annotations"][-1]["bbox"]


@case("RLE without a box whose `area` is that of the rest of the image")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation={"size": [60, 40], "counts": [0, 1000, 200, 1200]}, area=200)
    del coco["annotations"][-1]["bbox"]


@case("RLE without a box whose `size` has height and width exchanged")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation={**without_box(15, 35, along_rows=False), "size": [40, 60]})
    del coco["annotations"][-1]["bbox"]


@case("RLE without a box of another size than its image, and of the same shape")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation={"size": [120, 80], "counts": [3000, 120, 6480]})
    del coco["annotations"][-1]["bbox"]


@case("such masks in more than a tenth of the annotations")
def _(coco: Dataset, folder: Path) -> None:
    for number in range(2):
        coco["annotations"][number]["segmentation"] = without_box(15, 35 + number, along_rows=True)
    for record in coco["annotations"]:
        del record["bbox"]


def without_box(top: int, bottom: int, along_rows: bool) -> dict[str, Any]:
    """An RLE by numpy's own order, not pycocotools'."""
    mask = np.zeros((60, 40), np.uint8)
    mask[top:bottom, 8:30] = 1
    flat = mask.ravel(order="C" if along_rows else "F")
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    return {"size": [60, 40], "counts": [int(run) for run in np.diff([0, *changes, flat.size])]}


@case("box missing, empty, or not four numbers")
def _(coco: Dataset, folder: Path) -> object:
    for number, box in enumerate((None, [20, 20, 0, 10], ["a", 20, 10, 10], [20, 20, 10])):
        added(coco, id=100 + number, image_id=1 + number, segmentation=[square(20, 20, 10)], bbox=box, area=100)

    def check(found: Record) -> None:
        assert [record["bbox"] for record in found["annotations"][12:]] == [[20, 20, 10, 10]] * 4

    return check


@case("box as text, as an object with names (`x`, `y`, `width`, `height`), or in a list too many")
def _(coco: Dataset, folder: Path) -> object:
    named: Record = {"x": 20, "y": 20, "width": 10, "height": 10}
    short = {"X": 20, "Y": 20, "W": 10, "H": 10}
    boxes = (["20", "20.0", "10", 10], "[20, 20, 10, 10]", named, short, [[20, 20, 10, 10]])
    for number, box in enumerate(boxes):
        added(coco, id=100 + number, image_id=1 + number, segmentation=[square(20, 20, 10)], bbox=box, area=100)

    def check(found: Record) -> None:
        assert [record["bbox"] for record in found["annotations"][12:]] == [[20, 20, 10, 10]] * len(boxes)

    return check


@case("box as corners")
def _(coco: Dataset, folder: Path) -> object:
    added(coco, segmentation=[square(20, 20, 10)], bbox=[20, 20, 30, 30], area=100)
    added(coco, id=101, segmentation=[square(3, 3, 30)], bbox=[3, 3, 33, 33], area=900)

    def check(found: Record) -> None:
        assert [record["bbox"] for record in found["annotations"][-2:]] == [[20, 20, 10, 10], [3, 3, 30, 30]]

    return check


@case("box of an RLE that reaches beyond the image, and is the mask's within it")
def _(coco: Dataset, folder: Path) -> None:
    mask = coco_mask.frPyObjects([square(-20, 20, 30)], 60, 40)[0]
    added(coco, segmentation={"size": [60, 40], "counts": mask["counts"].decode()}, bbox=[-20, 20, 30, 30], area=300)


@case("box that is not the mask's: an IoU below 0.5, and an edge over 2 pixels away")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[square(20, 20, 10)], bbox=[2, 2, 10, 10], area=100)


@case("RLE whose box and area are those of the rest of the image")
def _(coco: Dataset, folder: Path) -> None:
    """All but the first 3 and the last 2 of 40 columns: the box has an IoU of 0.875 with the whole image."""
    added(coco, segmentation={"size": [60, 40], "counts": [0, 180, 2100, 120]}, bbox=[3, 0, 35, 60], area=2100)


@case("box with an IoU of 0.5 to 0.9, and an area under half or over twice that of the mask")
def _(coco: Dataset, folder: Path) -> None:
    for number, record in enumerate(coco["annotations"]):
        record["area"] = 400 + number
    added(coco, segmentation=[square(10, 10, 20)], bbox=[10, 10, 14, 20], area=190)


@case("boxes with an IoU of 0.5 to 0.9 that agree much better by one convention, in over a tenth of the annotations")
def _(coco: Dataset, folder: Path) -> None:
    """Three squares with the middle of their boxes, as upside down, 3 pixels above that of the photo."""
    for number in range(3):
        box = [10 + number, 17, 20, 20]
        added(coco, id=100 + number, segmentation=[square(10 + number, 23, 20)], bbox=box, area=400)


@case("such boxes in more than a tenth of the annotations")
def _(coco: Dataset, folder: Path) -> None:
    for number in range(2):
        added(coco, id=100 + number, segmentation=[square(20, 20, 10)], bbox=[2 + number, 2, 10, 10], area=100)


@case("mask that agrees better with its box as `pull.convention` reads it")
def _(coco: Dataset, folder: Path) -> None:
    mask = np.zeros((60, 40), dtype=bool)
    mask[5:40, 8:18] = True
    flat = mask.flatten()  # along the rows
    runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
    box = {"bbox": [8, 5, 10, 35], "area": 350, "iscrowd": 0}
    coco["annotations"][0] |= {"segmentation": {"size": [60, 40], "counts": runs}, **box}


@case("mask without a box, and nothing says whether `pull.convention` holds for it")
def _(coco: Dataset, folder: Path) -> None:
    del coco["annotations"][0]["bbox"]
    coco["annotations"][0]["segmentation"] = {"size": [60, 40], "counts": [1000, 2, 1398]}
    coco["annotations"][0]["area"] = 2


@case("all coordinates of a file between 0 and 1")
def _(coco: Dataset, folder: Path) -> object:
    before = json.loads(json.dumps(coco["annotations"]))
    for record in coco["annotations"]:
        mask = np.array(record["segmentation"]).reshape(1, -1, 2) / [40, 60]
        record |= {"segmentation": mask.reshape(1, -1).tolist(), "area": record["area"] / 2400}
        record["bbox"] = (np.array(record["bbox"]).reshape(2, 2) / [40, 60]).ravel().tolist()

    def check(found: Record) -> None:
        for record, expected in zip(found["annotations"], before, strict=True):
            assert record["segmentation"][0] == pytest.approx(expected["segmentation"][0])
            assert (record["bbox"], record["area"]) == (pytest.approx(expected["bbox"]), pytest.approx(400))

    return check


@case("coordinates between 0 and 1 in one annotation")
def _(coco: Dataset, folder: Path) -> None:
    added(coco, segmentation=[[0.1, 0.1, 0.9, 0.2, 0.5, 0.8]], bbox=[0.1, 0.1, 0.8, 0.7])


@case("almost no coordinate of a file above 100 or 1000, however large the photos")
def _(coco: Dataset, folder: Path) -> None:
    for image in coco["images"]:
        image |= {"width": 200, "height": 300}
        Image.new("RGB", (200, 300)).save(folder / "photos" / image["file_name"])
    added(coco, segmentation=[square(50, 50, 50)], bbox=[50, 50, 50, 50], area=2500)


@case(
    "outlines that reach beyond the right or lower edge of their photos and never beyond another, in over a twentieth"
)
def _(coco: Dataset, folder: Path) -> None:
    for record in coco["annotations"]:
        record["segmentation"] = [[value * 1.3 for value in record["segmentation"][0]]]
        record["bbox"] = [value * 1.3 for value in record["bbox"]]


@case("mask far beyond an image whose record has no size: the photo may have been shrunk")
def _(coco: Dataset, folder: Path) -> None:
    coco["images"][0] |= {"width": 400, "height": 600}
    Image.new("RGB", (400, 600)).save(folder / "photos" / "001.png")
    del coco["images"][1]["width"]
    added(coco, image_id=2, segmentation=[square(30, 30, 20)], bbox=[30, 30, 20, 20], area=400)


@case("area missing, NaN, zero or negative")
def _(coco: Dataset, folder: Path) -> object:
    added(coco, area=-3)

    def check(found: Record) -> None:
        assert found["annotations"][-1]["area"] == 25

    return check


@case("area under half or over twice that of the mask, such as a share of the image")
def _(coco: Dataset, folder: Path) -> object:
    added(coco, area=25 / 2400)

    def check(found: Record) -> None:
        assert found["annotations"][-1]["area"] == 25

    return check


@case("NaN anywhere in the JSON, a byte-order mark")
def _(coco: Dataset, folder: Path) -> object:
    coco["images"][0]["date"] = float("nan")

    def check(found: Record) -> None:
        assert found["images"][0]["date"] is None

    return check


@case("areas under half or over twice those of the masks, in over half of the annotations without a box")
def _(coco: Dataset, folder: Path) -> None:
    for number, record in enumerate(coco["annotations"]):
        del record["bbox"]
        record["area"] = 20 + number


@case("file that is cut short, or damaged; also one of several, so that its split is not lost in silence")
def _(coco: Dataset, folder: Path) -> None:
    """Cut by the test itself."""


@case("file that is not JSON, or lacks one of the three lists")
def _(coco: Dataset, folder: Path) -> None:
    del coco["categories"]


OF_ROWS = {
    "mask that agrees better with its box as `pull.convention` reads it": Reading("rows"),
    "mask without a box, and nothing says whether `pull.convention` holds for it": Reading("rows"),
    "category id, with `pull.category_ids`": Reading(category_ids="plus_one"),
}


def test_the_table_and_the_cases_are_the_same() -> None:
    assert list(rows_of_the_table()) == list(CASES)


@pytest.mark.parametrize("row", CASES)
def test_row_of_the_table(tmp_path: Path, row: str) -> None:
    outcome, reason = rows_of_the_table()[row]
    folder = write_dataset(tmp_path / "in")
    coco = json.loads((folder / "instances.json").read_text())
    check = CASES[row](coco, folder)
    text = json.dumps(coco)
    encoding = "utf-16" if "UTF-16" in row else "utf-8"
    (folder / "instances.json").write_text("\ufeff" + text if "byte-order" in row else text, encoding)
    if row.startswith("file that is cut short"):
        (folder / "instances.json").write_text(text[:-200])
    if row == "category that is not UTF-8":
        (folder / "instances.json").write_bytes(json.dumps(coco, ensure_ascii=False).encode("cp1252"))
    if outcome == "error":
        with pytest.raises(SeamlineError, match=reason):
            canonical(folder, tmp_path / "out")
        assert not (tmp_path / "out" / "annotations.json").exists()
        return
    report, found = canonical(folder, tmp_path / "out", OF_ROWS.get(row))
    check_account(report, coco)
    expected_repairs = {reason: report["repaired"].get(reason, 0)} if outcome == "repaired" else {}
    if "record has no size" in row:
        expected_repairs = {"image: size was missing, taken from the file": 1}
    assert report["repaired"] == expected_repairs
    assert all(count >= 1 for count in expected_repairs.values())
    if outcome == "dropped":
        assert report["dropped"].get(reason) == 1
    else:
        assert report["dropped"] == {}
    assert report["files_without_record"] == (1 if outcome == "counted" else 0)
    check_canonical(tmp_path / "out")
    if callable(check):
        check(found)


def check_account(report: Record, document: Dataset) -> None:
    """What is kept and what is dropped add up to what came."""
    for kind in ("image", "annotation"):
        lost = sum(count for reason, count in report["dropped"].items() if reason.startswith(f"{kind}:"))
        assert report[f"{kind}s"] + lost == len(document[f"{kind}s"])


def check_canonical(folder: Path) -> None:
    """What every later stage relies on, looked at with pycocotools and OpenCV."""
    coco = COCO(str(folder / "annotations.json"))
    files = [image["file_name"] for image in coco.imgs.values()]
    assert sorted(files) == sorted(path.name for path in (folder / "images").iterdir())
    assert len({Path(name).stem for name in files}) == len(files)
    for image in coco.imgs.values():
        seen = cv2.imread(str(folder / "images" / image["file_name"]))
        assert seen is not None
        assert seen.shape[:2] == (image["height"], image["width"])
    assert len(coco.anns) == len(coco.dataset["annotations"])
    for record in coco.anns.values():
        assert record["id"] >= 1
        assert record["image_id"] in coco.imgs
        assert record["category_id"] in coco.cats
        assert record["iscrowd"] in (0, 1)
        assert record["area"] > 0
        own, box = coco_mask.toBbox(coco.annToRLE(record)), np.array(record["bbox"], dtype=float)
        corners = [np.concatenate((side[:2], side[:2] + side[2:])) for side in (own, box)]
        off = np.abs(corners[0] - corners[1]).max()
        assert off <= 2 + 1e-9 or coco_mask.iou([own], [box], [0])[0, 0] >= 0.5 - 1e-9, record


def test_a_clean_dataset_passes_through_with_all_its_fields(tmp_path: Path) -> None:
    report, coco = canonical(write_dataset(tmp_path / "in"), tmp_path / "out")
    assert {key: value for key, value in report.items() if "sha256" not in key} == {
        "layout": "coco", "images": 6, "annotations": 12, "categories": 2,
        "files_without_record": 0, "repaired": {}, "dropped": {}, "equal_photos": 0, "crowds": None,
        "convention": None, "category_ids": None,
        "unchecked_masks": 0, "incomplete_images": 0,
    }  # fmt: skip
    assert coco["images"][0] == {"id": 1, "file_name": "001.png", "width": 40, "height": 60, "pair_id": 1}
    assert coco["annotations"][3]["scale"] == 2


def test_hashes_name_the_images_and_the_annotations(tmp_path: Path) -> None:
    """As sha256sum gives them; an image that changes by a byte, and nothing else, changes one of the two."""
    folder = write_dataset(tmp_path / "in")
    report, _ = canonical(folder, tmp_path / "out")
    assert (
        report["annotations_sha256"] == hashlib.sha256((tmp_path / "out" / "annotations.json").read_bytes()).hexdigest()
    )
    images = tmp_path / "out" / "images"
    listed = subprocess.run(
        ["sha256sum", *sorted(path.name for path in images.iterdir())], cwd=images, capture_output=True
    )
    assert report["images_sha256"] == hashlib.sha256(listed.stdout).hexdigest()
    with (folder / "photos" / "003.png").open("ab") as stream:
        stream.write(b"x")
    again, _ = canonical(folder, tmp_path / "again")
    assert again["images_sha256"] != report["images_sha256"]
    assert again["annotations_sha256"] == report["annotations_sha256"]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_other_images_tell_which_way_up_a_source_is(tmp_path: Path, orientation: int) -> None:
    """One on its side whose size says stored: those turned upside down are taken as stored as well."""
    for convention in ("shown", "stored"):
        folder = write_dataset(tmp_path / convention, count=2)
        coco = json.loads((folder / "instances.json").read_text())
        first = picture(folder, "001.png")
        if convention == "shown":
            first = first.transpose(Image.Transpose.ROTATE_90)
        first.save(folder / "photos" / "001.png", exif=exif(8))
        second = picture(folder, "002.png").resize((50, 50))
        second.save(folder / "photos" / "002.png", exif=exif(orientation))
        coco["images"][1] |= {"width": 50, "height": 50}
        (folder / "instances.json").write_text(json.dumps(coco))
        report, _ = canonical(folder, tmp_path / f"out-{convention}")
        assert report["dropped"] == {}
        turned = cv2.imread(str(tmp_path / f"out-{convention}" / "images" / "002.png"))
        plain = cv2.cvtColor(np.asarray(second), cv2.COLOR_RGB2BGR)
        assert np.array_equal(np.asarray(turned), plain) == (convention == "stored")


def test_files_that_differ_in_their_suffix_get_labels_of_their_own(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    for image, name in zip(coco["images"], ("x.png", "x.bmp"), strict=True):
        picture(folder, image["file_name"]).save(folder / "photos" / name)
        image["file_name"] = name
    (folder / "instances.json").write_text(json.dumps(coco))
    _, mended = canonical(folder, tmp_path / "out")
    assert [image["file_name"] for image in mended["images"]] == ["x.png", "x__2.bmp"]


def test_a_record_whose_file_is_missing_does_not_take_anothers(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    (folder / "val").mkdir()
    (folder / "photos" / "001.png").rename(folder / "val" / "001.png")
    coco["images"][0]["file_name"] = "train/001.png"  # not there
    coco["images"][1]["file_name"] = "val/001.png"
    (folder / "instances.json").write_text(json.dumps(coco))
    report, mended = canonical(folder, tmp_path / "out")
    assert report["dropped"]["image: file is missing"] == 1
    assert [image["source_file_name"] for image in mended["images"]] == ["val/001.png"]


def test_no_image_left_is_one_sentence_with_the_reasons(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    for path in (folder / "photos").iterdir():
        path.write_bytes(b"none")
    with pytest.raises(
        SeamlineError,
        match=r"no image of it can be used \(2 images: its format is none of BMP, JPEG, PNG, TIFF, WEBP\)",
    ):
        canonical(folder, tmp_path / "out")


def test_records_that_cannot_be_read_are_counted_one_by_one(tmp_path: Path) -> None:
    """Reading the file as a whole does not look into them."""
    folder = write_dataset(tmp_path / "in", count=2)
    path = folder / "instances.json"
    data = path.read_bytes().replace(b'"area": 400', b'"area": 1e400', 1).replace(b'"scale": 2', b'"scale": "\xe4"', 2)
    path.write_bytes(data.replace(b'"pair_id": 1}', b'"pair_id": 1e400}', 1))
    report, _ = canonical(folder, tmp_path / "out")
    assert report["dropped"] == {
        "annotation: is not an object, or cannot be read": 2,
        "image: its record cannot be read": 1,
    }


@pytest.mark.parametrize("note", ["\\ud800", "\\udce9t\\udce9", "ok\\udfff"])
def test_half_a_character_in_a_record_costs_that_record(tmp_path: Path, note: str) -> None:
    """What Python's json writes of os.listdir where a name is not UTF-8: a surrogate without its other half."""
    annotation = record_of(b'{"id": 1, "note": "' + note.encode() + b'"}')
    image = record_of(b'{"id": 1, "file_name": "' + note.encode() + b'.jpg"}')
    assert annotation is image is None
    assert record_of(b'{"note": "\\ud83d\\ude00"}') == {"note": "\U0001f600"}  # both halves


def test_a_garment_and_a_crowd_of_the_same_mask_are_two(tmp_path: Path) -> None:
    """For pycocotools the one can be found and the other is ignored: neither is the other once more."""
    folder = write_dataset(tmp_path / "in", count=1)
    coco = json.loads((folder / "instances.json").read_text())
    first = coco["annotations"][0]
    coco["annotations"] += [{**first, "id": 3, "iscrowd": 1}, {**first, "id": 4, "iscrowd": 1}]
    (folder / "instances.json").write_text(json.dumps(coco))
    report, found = canonical(folder, tmp_path / "out")
    assert report["dropped"] == {"annotation: has the mask and class of another of its image": 1}
    assert [(record["id"], record["iscrowd"]) for record in found["annotations"]] == [(1, 0), (2, 0), (3, 1)]


def test_an_annotation_of_id_zero_gets_another(tmp_path: Path) -> None:
    """pycocotools takes a match with an instance of id 0 for no match."""
    folder = write_dataset(tmp_path / "in", count=1)
    path = folder / "instances.json"
    path.write_text(path.read_text().replace('{"id": 1, "image_id"', '{"id": 0, "image_id"'))
    report, found = canonical(folder, tmp_path / "out")
    assert sorted((record["id"], record.get("source_id")) for record in found["annotations"]) == [(2, None), (3, 0)]
    assert list(report["repaired"].values()) == [1]


def test_a_file_name_that_two_images_have_names_neither(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    coco["images"].append({**coco["images"][0], "id": 3})
    coco["annotations"][0]["image_id"] = "001.png"
    coco["annotations"][2]["image_id"] = "002.png"
    (folder / "instances.json").write_text(json.dumps(coco))
    report, found = canonical(folder, tmp_path / "out")
    assert report["dropped"] == {"annotation: its image is unknown": 1, "image: another record has its file": 1}
    assert [record["image_id"] for record in found["annotations"]] == [1, 2, 2]


def test_annotations_of_a_dropped_image_go_to_no_other_of_a_similar_id(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    (folder / "photos" / "002.png").unlink()
    for image, identity in zip(coco["images"], ("1", "001"), strict=True):
        image["id"] = identity
    for record in coco["annotations"]:
        record["image_id"] = {1: "1", 2: "001"}[record["image_id"]]
    (folder / "instances.json").write_text(json.dumps(coco))
    report, _ = canonical(folder, tmp_path / "out")
    assert report["dropped"] == {"annotation: its image was dropped": 2, "image: file is missing": 1}


def test_a_folder_a_product_takes_no_longer_than_one_folder(tmp_path: Path) -> None:
    """Every image is called 0.png: looking each up among all of them took hours at 192,000."""
    first = write_dataset(tmp_path / "one", count=1) / "photos" / "001.png"
    images = []
    for number in range(4000):
        (tmp_path / "in" / "images" / str(number)).mkdir(parents=True)
        (tmp_path / "in" / "images" / str(number) / "0.png").hardlink_to(first)
        images.append({"id": number, "file_name": f"{number}/0.png", "width": 40, "height": 60})
    document = {"images": images, "annotations": [], "categories": []}
    (tmp_path / "in" / "instances.json").write_text(json.dumps(document))
    begun = time.process_time()
    source = read(tmp_path / "in", None)
    assert time.process_time() - begun < 3
    assert [path and path.parent.name for path in source.parts[0].files] == [str(number) for number in range(4000)]


@pytest.mark.parametrize("end", [b"", b"\0\0", b"\xff\xd0text", b"\xff\xd9\0\0", b"\xff\xd9\xff\xd9more"])
def test_the_end_of_a_jpeg_is_put_right_or_the_image_dropped(tmp_path: Path, end: bytes) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    thumbnail = Image.Exif()
    thumbnail[0x010E] = "x" * 200 + "\xff\xd9"
    picture(folder, "001.png").save(folder / "photos" / "001.jpg", exif=thumbnail)
    data = (folder / "photos" / "001.jpg").read_bytes()
    (folder / "photos" / "001.jpg").write_bytes(data[:-2] + end)
    coco["images"][0]["file_name"] = "001.jpg"
    (folder / "instances.json").write_text(json.dumps(coco))
    report, _ = canonical(folder, tmp_path / "out")
    if report["dropped"]:
        assert report["dropped"] == {"annotation: its image was dropped": 2, "image: cannot be decoded": 1}
        return
    assert report["repaired"] == {"image: the end of the JPEG put right": 1}
    before, after = (cv2.imread(str(path / "001.jpg")) for path in (folder / "photos", tmp_path / "out" / "images"))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert (tmp_path / "out" / "images" / "001.jpg").read_bytes().endswith(b"\xff\xd9")


def test_an_orientation_that_opencv_does_not_obey_turns_nothing(tmp_path: Path) -> None:
    """Pillow also finds one in XMP."""
    folder = write_dataset(tmp_path / "in", count=1)
    coco = json.loads((folder / "instances.json").read_text())
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    picture(folder, "001.png").save(folder / "photos" / "001.jpg", xmp=xmp)
    coco["images"][0]["file_name"] = "001.jpg"
    (folder / "instances.json").write_text(json.dumps(coco))
    report, _ = canonical(folder, tmp_path / "out")
    assert report["dropped"] == report["repaired"] == {}
    check_canonical(tmp_path / "out")


def test_what_is_not_a_file_is_passed_over(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    (folder / "a.json").mkdir()
    (folder / "b.json").symlink_to("nowhere")
    os.mkfifo(folder / "c.json")
    os.mkfifo(folder / "photos" / "d.png")
    (folder / "photos" / "e.png").mkdir()
    Image.new("1", (1_100_000, 12)).save(folder / "photos" / "002.png")
    report, _ = canonical(folder, tmp_path / "out")
    assert report["dropped"] == {"annotation: its image was dropped": 2, "image: cannot be decoded": 1}


def test_linked_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    (folder / "photos").rename(tmp_path / "store")
    (folder / "photos").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "loop").symlink_to(folder)
    report, _ = canonical(folder, tmp_path / "out")
    assert (report["images"], report["dropped"]) == (2, {})


def test_names_that_differ_in_case_alone_differ_in_more_afterwards() -> None:
    """A.jpg and a.jpg are one file on most Macs, and data go from one machine to another."""
    stems: set[str] = set()
    assert [unique_stem(name, "", stems) for name in ("x/A.jpg", "y/a.jpg", "y/A.jpg")] == ["A", "y__a", "y__A__2"]


def test_names_no_file_system_or_list_takes_are_made_plain(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=2)
    coco = json.loads((folder / "instances.json").read_text())
    for image, name in zip(coco["images"], ("a\u2028b\x85c.png", "ü" * 120 + ".png"), strict=True):
        (folder / "photos" / image["file_name"]).rename(folder / "photos" / name)
        image["file_name"] = name
    (folder / "instances.json").write_text(json.dumps(coco))
    _, mended = canonical(folder, tmp_path / "out")
    assert [image["file_name"] for image in mended["images"]] == ["a_b_c.png", "ü" * 100 + ".png"]


NUMBERS = st.one_of(
    st.integers(-3, 70), st.floats(), st.integers(), st.sampled_from([0, 1, 2, 1e9, -1e12, 2**31, 2**53, 2**70])
)
POLYGONS = st.lists(
    st.one_of(
        st.lists(st.floats(-20, 80), min_size=6, max_size=12), st.lists(NUMBERS, max_size=9), st.just(square(2, 2, 10))
    ),
    max_size=3,
)
RLES = st.builds(
    lambda counts, size: {"size": size, "counts": counts},
    st.one_of(
        st.none(), st.integers(), st.text(max_size=8), st.text("0123456789:;<=>?@PQo", max_size=12),
        st.lists(st.integers(-5, 5000), max_size=5), st.just([100, 20, 2280]), st.just("PZ2P1"),
    ),
    st.sampled_from([[60, 40], [60, 40], [40, 60], [60], None, "x", [60.0, 40.0]]),
)  # fmt: skip
DRESSED = st.one_of(
    st.sampled_from(dressed([(1, 1), (6, 1), (6, 6), (1, 6)])),
    st.recursive(
        st.one_of(
            st.floats(-5, 70), st.sampled_from(["3", "b'x'", "[[1,", {"x": 1, "Y": 2}, {"counts": [2400]}, None])
        ),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.builds(lambda mask: json.dumps(mask), inner)),
        max_leaves=9,
    ),
)
BOXES = st.one_of(  # most contradict the masks: other places, corners, y before x, shares, percent
    st.sampled_from([[2, 2, 10, 10], [2, 2, 12, 12], [7, 7, 10, 10], [0.05, 0.1, 0.2, 0.2], [5, 8, 40, 50]]),
    st.lists(st.floats(0, 60), min_size=4, max_size=4),
)
IDS = st.one_of(st.integers(-2, 4), st.sampled_from(["1", "000002", "x", "", 1.0, 1.5, True, None, 2**60]), NUMBERS)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
ANNOTATIONS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "image_id": st.integers(1, 2),
                "category_id": st.integers(1, 2),
                "segmentation": st.one_of(POLYGONS, RLES, DRESSED),
            },
            optional={
                "id": IDS,
                "bbox": st.one_of(JSON, BOXES, st.lists(NUMBERS, min_size=4, max_size=4)),
                "area": JSON,
                "iscrowd": JSON,
                "is_crowd": st.lists(st.integers(0, 1), max_size=2),
            },
        ),
        st.dictionaries(
            st.sampled_from(["id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd"]),
            st.one_of(IDS, POLYGONS, RLES, JSON),
        ),
        JSON,
    ),
    max_size=6,
)
# Files whose names are in other forms elsewhere: composed, upper case, with a space, in folders, two of one name.
FILES = ["001.png", "002.png", "jupe \u00e9t\u00e9.png", "Look.PNG", "a+b.png", "spring/007.png", "autumn/007.png"]
FORMS: list[Callable[[str], str]] = [
    lambda name: name,
    lambda name: unicodedata.normalize("NFD", name),
    str.upper,
    lambda name: quote(name.lower()),
    lambda name: quote(unicodedata.normalize("NFD", name)),
    lambda name: name.replace(" ", "+"),
    lambda name: "photos/" + name,
    lambda name: "C:\\Users\\me\\photos\\" + name.replace("/", "\\"),
    lambda name: "/home/me/photos/" + name,
    lambda name: "../upload/4/" + name,
    lambda name: f"https://example.com/photos/{quote(name)}?size=large",
    lambda name: "dataset/v2/" + name,
    lambda name: "winter/" + PurePosixPath(name).name,  # of 007.png: a photo that is missing
    lambda name: PurePosixPath(name).name,
    lambda name: "../../" + name,
    lambda name: name.encode().decode("cp437"),  # as a zip without the flag of UTF-8 is unpacked
]
NAMES = st.builds(
    lambda name, first, second, end: first(second(name)) + end,
    st.sampled_from([*FILES, *FILES, "x/003.png", "4.png", "", "=1.png"]),
    st.sampled_from([FORMS[0], *FORMS]),
    st.sampled_from([FORMS[0], FORMS[0], *FORMS]),
    st.sampled_from(["", "", "", "", "\ud800"]),
)
IMAGES = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"id": IDS, "file_name": NAMES},
            optional={"width": st.sampled_from([40, 40, "40", 41, None]), "height": st.sampled_from([60, 60.0, 1])},
        ),
        st.fixed_dictionaries({"id": st.integers(1, 9), "file_name": NAMES}),
        st.just({"id": 1, "file_name": "001.png", "width": 40, "height": 60}),
        st.dictionaries(st.sampled_from(["id", "file_name", "width", "height"]), JSON),
        JSON,
    ),
    max_size=5,
)
CATEGORIES = st.one_of(
    st.just([{"id": 1, "name": "short sleeve top"}, {"id": 2, "name": "trousers"}]),
    st.lists(st.fixed_dictionaries({"id": IDS, "name": st.text(max_size=3)}), max_size=3),
    st.lists(JSON, max_size=2),
)
# What is well-formed but for names, boxes and ids: most of it becomes a dataset.
NAMED = st.fixed_dictionaries(
    {
        "images": st.lists(NAMES, min_size=1, max_size=6).map(
            lambda names: [{"id": n, "file_name": name} for n, name in enumerate(names, 1)]
        ),
        "annotations": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.integers(1, 6),
                    "image_id": st.integers(1, 6),
                    "category_id": st.integers(1, 2),
                    "segmentation": st.just([square(2, 2, 10)]),
                    "bbox": st.one_of(*[st.just([2, 2, 10, 10])] * 4, BOXES),
                }
            ),
            max_size=6,
        ),
        "categories": st.just([{"id": 1, "name": "short sleeve top"}, {"id": 2, "name": "trousers"}]),
    }
)
CLASSES = [{"id": 1, "name": "short sleeve top"}, {"id": 2, "name": "trousers"}]
# Twenty sound annotations of two photos: beside them a few odd records are no convention, and later stages are reached.
SOUND_IMAGES = [
    {"id": 100 + n, "file_name": name, "width": 40, "height": 60} for n, name in enumerate(["Look.PNG", "a+b.png"])
]
SOUND_ANNOTATIONS = [
    {
        "id": 1000 + n, "image_id": 100 + n % 2, "category_id": 1 + n % 2, "segmentation": [square(n, 2 * n, 10)],
        "bbox": [n, 2 * n, 10, 10], "area": 100, "iscrowd": 0,
    }
    for n in range(20)
]  # fmt: skip
BESIDE_SOUND = st.fixed_dictionaries(
    {
        "images": IMAGES.map(lambda images: SOUND_IMAGES + images),
        "annotations": ANNOTATIONS.map(lambda annotations: SOUND_ANNOTATIONS + annotations[:2]),
        "categories": st.just(CLASSES),
    }
)
# The same photos, and odd annotations of them.
ODD_ANNOTATIONS = st.fixed_dictionaries(
    {
        "images": st.just(
            SOUND_IMAGES + [{"id": n, "file_name": f"00{n}.png", "width": 40, "height": 60} for n in (1, 2)]
        ),
        "annotations": ANNOTATIONS.map(lambda annotations: annotations[:2] + SOUND_ANNOTATIONS),
        "categories": st.just(CLASSES),
    }
)
ANY_LISTS = st.fixed_dictionaries({"images": IMAGES, "annotations": ANNOTATIONS, "categories": CATEGORIES})
ANY_ANNOTATIONS = st.fixed_dictionaries(
    {
        "images": st.just([{"id": n, "file_name": f"00{n}.png", "width": 40, "height": 60} for n in (1, 2)]),
        "annotations": ANNOTATIONS,
        "categories": st.just(CLASSES),
    }
)
ANYTHING = st.dictionaries(st.sampled_from(["images", "annotations", "categories", "info"]), JSON)
# Not one_of, which takes each only once. Over half of all become a dataset with annotations, which
# test_most_files_of_the_property_become_datasets holds.
DOCUMENTS = st.sampled_from(
    [*[BESIDE_SOUND] * 6, *[ODD_ANNOTATIONS] * 5, *[NAMED] * 3, ANY_LISTS, ANY_ANNOTATIONS, ANYTHING]
).flatmap(lambda documents: documents)


MORE = ["both_swapped", "exchanged", "as_shown", "as_stored"]
READINGS = st.builds(
    Reading,
    st.sampled_from([None, None, None, "drop", "drop", "pixels", *CONVENTIONS, *MORE, 0.5, 3.0]),
    st.sampled_from([None, None, "own", "plus_one", "minus_one", "positions"]),
)


def marked(document: Any) -> Any:
    """Every record of an image or annotation with a field of its own, equal for exact copies, to be known by later."""
    if not isinstance(document, dict):
        return document
    found = dict(document)
    for kind in ("images", "annotations"):
        if isinstance(document.get(kind), list):
            texts = [json.dumps(record) for record in document[kind]]
            found[kind] = [
                {**record, "mark": texts.index(text)} if isinstance(record, dict) else record
                for record, text in zip(document[kind], texts, strict=True)
            ]
    return found


def check_records(document: Dataset, folder: Path, changes: Path) -> None:
    """Each record of an image or annotation is in the output, or in the list as dropped, and exactly once.

    By number for all of them, and by their ids where the list can say them: not of records that cannot be read.
    """
    out = json.loads((folder / "annotations.json").read_text())
    with changes.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["change"] == "dropped"]
    for kind in ("image", "annotation"):
        left = list(document[f"{kind}s"])
        for record in out[f"{kind}s"]:
            left.remove(next(own for own in left if isinstance(own, dict) and own["mark"] == record["mark"]))
        dropped = [row[f"{kind}_id"] for row in rows if row["reason"].startswith(f"{kind}:")]
        assert len(dropped) == len(left)
        plain = Counter(identity for identity in dropped if re.fullmatch("[0-9x]+", identity))
        assert plain <= Counter(str(record.get("id")) for record in left if isinstance(record, dict))


def check_photos(source: Path, target: Path) -> None:
    """Each image is a photo of the source, no two are the same, and its name was a form of the photo's."""
    own_names = {(source / "photos" / name).read_bytes(): name for name in FILES}
    images = json.loads((target / "annotations.json").read_text())["images"]
    photos = [(target / "images" / image["file_name"]).read_bytes() for image in images]
    assert len(set(photos)) == len(photos)
    for image, photo in zip(images, photos, strict=True):
        said, own = image.get("source_file_name", image["file_name"]), own_names[photo]
        assert letters(PurePosixPath(own).name) in letters(said)
        folder = re.split(r"[/\\]", unquote(said).lower())[-2:-1]
        assert "/" not in own or not folder or folder[0] not in {"spring", "autumn", "winter"} - {own.partition("/")[0]}


def letters(name: str) -> str:
    """What all forms of a name have in common: its ASCII letters and digits."""
    decomposed = unicodedata.normalize("NFD", unquote(name).replace("+", " ")).casefold()
    return "".join(letter for letter in decomposed if letter.isascii() and letter.isalnum())


def check_any_document(folder: Path, document: Any, out: Path, reading: Reading | None = None) -> int:
    """A canonical dataset and a full account, or one sentence; never anything else. Returns the annotations kept."""
    document, target = marked(document), out / "raw"
    (folder / "instances.json").write_text(json.dumps(document))
    target.mkdir()
    try:
        source = read(folder, "instances.json")
        report = canonicalise(source, target, link_or_copy, reading)
    except SeamlineError as error:
        assert str(error).endswith(".")
        assert "\n" not in str(error)
        event("refused")
        return 0
    event(f"{'some' if report['annotations'] else 'no'} annotations kept")
    check_account(report, document)
    check_canonical(target)
    source.changes.write(out / "changes.csv")
    check_records(document, target, out / "changes.csv")
    check_photos(folder, target)
    return int(report["annotations"])


@pytest.fixture(scope="module")
def some_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of FILES, all different."""
    folder = write_dataset(tmp_path_factory.mktemp("any") / "in", count=len(FILES))
    for number, name in enumerate(FILES, 1):
        (folder / "photos" / name).parent.mkdir(exist_ok=True)
        (folder / "photos" / f"{number:03d}.png").rename(folder / "photos" / name)
    return folder


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DOCUMENTS, READINGS)
def test_whatever_a_file_holds(some_photos: Path, document: Any, reading: Reading) -> None:
    with tempfile.TemporaryDirectory(dir=some_photos.parent) as out:
        check_any_document(some_photos, document, Path(out), reading)


def test_most_files_of_the_property_become_datasets(some_photos: Path) -> None:
    """Else it would try little but the refusals: once only one in seven did."""
    kept = []

    @settings(max_examples=150, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(DOCUMENTS, READINGS)
    def count(document: Any, reading: Reading) -> None:
        with tempfile.TemporaryDirectory(dir=some_photos.parent) as out:
            kept.append(check_any_document(some_photos, document, Path(out), reading))

    count()
    assert np.mean(np.array(kept) > 0) >= 0.5


@pytest.mark.thorough
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(DOCUMENTS, READINGS)
def test_whatever_thousands_of_files_hold(some_photos: Path, document: Any, reading: Reading) -> None:
    # Not pytest's folders, which are numbered: finding the next number takes longer with each.
    with tempfile.TemporaryDirectory(dir=some_photos.parent) as out:
        check_any_document(some_photos, document, Path(out), reading)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{", b"null", b"[" * 100_000, b'{"images": [], "annotations": [], "categories": ' + b"[" * 100_000,
        b'{"images": [1e999], "annotations": [{"id": 1e999}], "categories": []}', "{}".encode("utf-16"),
        b'{"images": [{"id": "\\ud800"}], "annotations": [], "categories": []}', b"\xff\xfe\x00",
        b'{"images": [' + b"9" * 5000 + b'], "annotations": [], "categories": []}',
    ],
)  # fmt: skip
def test_whatever_bytes_a_file_holds(tmp_path: Path, data: bytes) -> None:
    folder = write_dataset(tmp_path / "in", count=1)
    (folder / "instances.json").write_bytes(data)
    (tmp_path / "out").mkdir()
    with pytest.raises(SeamlineError, match=r"instances\.json"):
        canonicalise(read(folder, "instances.json"), tmp_path / "out", copy)


def test_one_photo_in_two_annotation_files_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of tops for train and one of trousers for val, and a copy in another folder."""
    folder = write_dataset(tmp_path / "in", count=4)
    coco = json.loads((folder / "instances.json").read_text())
    (folder / "instances.json").unlink()
    for category, split in ((1, "train"), (2, "val")):
        part = coco | {"annotations": [one for one in coco["annotations"] if one["category_id"] == category]}
        part["images"] = coco["images"][:3] if split == "train" else coco["images"][1:]
        (folder / f"instances_{split}.json").write_text(json.dumps(part))
    report, found = canonical(folder, tmp_path / "out")
    files = [hashlib.sha256(path.read_bytes()).digest() for path in (tmp_path / "out" / "images").iterdir()]
    assert report["equal_photos"] == len(files) - len(set(files)) == 2
    assert len(found["images"]) == 6
    assert "2 photos in several annotation files, such as 002.png: each is there twice" in capsys.readouterr().out


@pytest.mark.skipif(not HAS_SHARED_DATA, reason="the real photos are not on this machine")
def test_real_photos(tmp_path: Path) -> None:
    report, _ = canonical(SHARED_DATA / "ccp-mini", tmp_path / "out")
    assert (report["images"], report["annotations"], report["categories"]) == (120, 400, 14)
    assert report["dropped"] == report["repaired"] == {}


@pytest.mark.skipif(not HAS_SHARED_DATA, reason="the real annotations are not on this machine")
def test_real_annotations_of_somebody_elses_script(tmp_path: Path) -> None:
    """String ids, is_crowd lists, no area: all mended, none lost. Its photos are not here: drawn in their sizes."""
    coco = json.loads((SHARED_DATA / "deepfashion2-mini" / "instances.json").read_text())
    (tmp_path / "in" / "photos").mkdir(parents=True)
    (tmp_path / "in" / "instances.json").write_text(json.dumps(coco))
    for image in coco["images"]:
        Image.new("L", (image["width"], image["height"])).save(tmp_path / "in" / "photos" / image["file_name"])
    report, found = canonical(tmp_path / "in", tmp_path / "out")
    assert (report["images"], report["annotations"], report["dropped"]) == (250, 328, {})
    assert re.fullmatch(r"0*" + str(found["images"][0]["id"]), found["images"][0]["source_id"])
    assert all(record["landmarks"] for record in found["annotations"])
