from __future__ import annotations

from typing import Any

import msgspec
import pytest

from seamline.base.coco import Coco
from seamline.base.errors import SeamlineError
from seamline.dataset.groups import field_groups


def coco_of(images: list[dict[str, Any]]) -> Coco:
    return Coco([msgspec.Raw(msgspec.json.encode(image)) for image in images], [], [])


def test_a_field_that_only_the_annotations_have_is_theirs() -> None:
    """As some converters write DeepFashion2's pair_id: ignored, it would leak."""
    coco = coco_of([{"id": 1}, {"id": 2}, {"id": 3}])
    records = [{"image_id": 1, "pair_id": 7}, {"image_id": 3, "pair_id": 7}, {"image_id": 3}]
    coco.annotations = [msgspec.Raw(msgspec.json.encode(record)) for record in records]
    assert field_groups(coco, "pair_id").tolist() == [0, 1, 0]
    coco.annotations.append(msgspec.Raw(b'{"image_id": 3, "pair_id": 8}'))
    with pytest.raises(SeamlineError, match=r"annotations of image 3 differ in 'pair_id' \(7, 8\)"):
        field_groups(coco, "pair_id")


def test_groups_by_field(capsys: pytest.CaptureFixture[str]) -> None:
    coco = coco_of(
        [
            {"id": 1, "pair_id": 7},
            {"id": 2, "pair_id": "7"},
            {"id": 3},
            {"id": 4, "pair_id": None},
            {"id": 5, "pair_id": 1},
        ]
    )
    assert field_groups(coco, "pair_id").tolist() == [0, 0, 1, 2, 3]
    assert field_groups(coco, None).tolist() == [0, 1, 2, 3, 4]
    assert capsys.readouterr().out == ""
    assert field_groups(coco, "nothing").tolist() == [0, 1, 2, 3, 4]
    assert "each image is a group of its own" in capsys.readouterr().out  # never silently
    with pytest.raises(SeamlineError, match="no image has the field 'pairid'; did you mean 'pair_id'"):
        field_groups(coco, "pairid")


def test_images_with_an_empty_value_are_each_a_group_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    values: list[Any] = ["", " ", None, [], {}, " ", 0, "0", False, "a", "a", ""]
    coco = coco_of([{"id": index, "product_id": value} for index, value in enumerate(values)])
    assert field_groups(coco, "product_id").tolist() == [0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 8, 9]
    empty = coco_of([{"id": index, "product_id": ""} for index in range(3)])
    assert field_groups(empty, "product_id").tolist() == [0, 1, 2]
    assert capsys.readouterr().out == (
        "no image has a value in the field 'product_id': each image is a group of its own\n"
    )


def test_a_dot_leads_into_an_object() -> None:
    extras: list[Any] = [{"name": "a"}, {"name": "b"}, {"name": "a"}, {"name": ""}, None, "a", {"name": {"de": 1}}, {}]
    coco = coco_of([{"id": index, "extra": extra} for index, extra in enumerate(extras)])
    assert field_groups(coco, "extra.name").tolist() == [0, 1, 0, 2, 3, 4, 5, 6]
    assert field_groups(coco, "extra.name.de").tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(SeamlineError, match=r"no image has the field 'extra.nam'; did you mean 'extra.name'"):
        field_groups(coco, "extra.nam")
    own = coco_of([{"id": 1, "extra.name": 7, "extra": {"name": 1}}, {"id": 2, "extra.name": 7, "extra": {"name": 2}}])
    assert field_groups(own, "extra.name").tolist() == [0, 0]  # called so itself


def test_a_dot_leads_into_an_object_of_annotations() -> None:
    coco = coco_of([{"id": 1}, {"id": 2}, {"id": 3}])
    records = [
        {"image_id": 1, "extra": {"sku": 7}},
        {"image_id": 2, "extra": {"sku": ""}},
        {"image_id": 3, "extra": {"sku": 7}},
    ]
    coco.annotations = [msgspec.Raw(msgspec.json.encode(record)) for record in records]
    assert field_groups(coco, "extra.sku").tolist() == [0, 1, 0]
