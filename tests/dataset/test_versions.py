from __future__ import annotations

from typing import Any

import msgspec
import pytest

from seamline.base.coco import Coco
from seamline.dataset.versions import version_pairs


def coco_of(images: list[dict[str, Any]]) -> Coco:
    return Coco(
        [msgspec.Raw(msgspec.json.encode({"id": index, **image})) for index, image in enumerate(images)], [], []
    )


def version(photo: str, number: int) -> str:
    return f"{photo}.rf.{number:032x}.jpg"


def test_roboflows_versions_of_a_photo_are_tied() -> None:
    """Pull put the split before some names, and kept what the file was called."""
    names = [version("look00_jpg", 1), version("look01_png", 2), version("look00_jpg", 3), version("look01_jpg", 4)]
    records = [{"file_name": name} for name in names]
    records.append({"file_name": f"train__{version('look00_jpg', 5)}", "source_file_name": version("look00_jpg", 5)})
    records.append({"file_name": "6.jpg", "source_file_name": f"valid/{version('look01_png', 6)}"})
    records.append({"file_name": "7.jpg", "source_file_name": f"test\\{version('look01_png', 7)}"})
    assert version_pairs(coco_of(records)).tolist() == [[0, 2], [0, 4], [1, 5], [1, 6]]


def test_the_photo_itself_is_tied_to_its_versions() -> None:
    names = ["look00.jpg", version("look00_jpg", 1), "look01.jpg", "other/look01.jpg", "look00_jpg.rf.jpg"]
    assert version_pairs(coco_of([{"file_name": name} for name in names])).tolist() == [[0, 1]]


def test_equal_names_of_the_uploaded_file_tie() -> None:
    extras: list[Any] = [
        {"name": "a"},
        {"name": "b"},
        {"name": "a"},
        {"name": ""},
        {"name": " "},
        {},
        None,
        "a",
        {"name": ""},
    ]
    records = [{"file_name": f"{index}.jpg", "extra": extra} for index, extra in enumerate(extras)]
    assert version_pairs(coco_of(records)).tolist() == [[0, 2]]


def test_plain_names_tie_nothing() -> None:
    names = [
        "0001.jpg",
        "0002.jpg",
        "a.b.jpg",
        "a_b.jpg",
        "x.rf.1.jpg",
        "x.rf.2.jpg",
        "performance.rf.jpg",
        "IMG_0001.jpg",
        "IMG_0001.png",
    ]
    assert version_pairs(coco_of([{"file_name": name} for name in names])).tolist() == []
    assert version_pairs(coco_of([])).tolist() == []


def test_a_name_of_more_images_than_a_photo_has_versions_ties_none_and_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Phones call every photo image.jpg; what its other name says still holds."""
    records: list[dict[str, Any]] = [
        {"file_name": version(f"look{number // 3}_jpg", number), "extra": {"name": "image.jpg"}} for number in range(51)
    ]
    expected = [[first, other] for first in range(0, 51, 3) for other in (first + 1, first + 2)]
    assert version_pairs(coco_of(records)).tolist() == expected
    assert "51 images have 'image.jpg'" in capsys.readouterr().out
    assert len(version_pairs(coco_of(records[:50]))) > len(expected)
    front = [{"file_name": version("front_jpg", number)} for number in range(51)]
    assert version_pairs(coco_of(front)).tolist() == []
    assert version_pairs(coco_of(front[:50])).tolist() == [[0, other] for other in range(1, 50)]
