from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamline.base.coco import Coco
from seamline.base.errors import SeamlineError
from seamline.dataset.selection import (
    annotation_rows,
    choose_balanced,
    class_numbers,
    merged_category,
    source_ids_by_class,
)

IMAGES = st.lists(st.tuples(st.frozensets(st.integers(0, 3), max_size=3), st.integers(0, 15)), min_size=1, max_size=60)


def chosen_of(
    classes: Sequence[frozenset[int]],
    groups: Sequence[int] | None = None,
    wanted: int | None = None,
    background: float = 0.0,
    seed: int = 0,
    unusable: Mapping[int, bool] | None = None,
) -> list[int]:
    shows = np.array([[number in shown for number in range(4)] for shown in classes])
    left_out = np.array([bool(unusable and unusable.get(index)) for index in range(len(classes))])
    numbers = np.unique(groups, return_inverse=True)[1] if groups is not None else np.arange(len(classes))
    chosen: list[int] = choose_balanced(shows, left_out, numbers, wanted, background, seed).tolist()
    return chosen


@given(IMAGES, st.one_of(st.none(), st.integers(1, 80)), st.floats(0, 0.5), st.integers(0, 3))
def test_whole_groups_and_never_too_many(
    images: list[tuple[frozenset[int], int]], wanted: int | None, background: float, seed: int
) -> None:
    classes, groups = [shown for shown, _ in images], [group for _, group in images]
    chosen = chosen_of(classes, groups, wanted, background, seed)
    assert chosen == sorted(set(chosen))
    assert wanted is None or len(chosen) <= wanted
    taken = {groups[image] for image in chosen}
    assert set(chosen) == {image for image in range(len(classes)) if groups[image] in taken}
    assert chosen == chosen_of(classes, groups, wanted, background, seed)
    if wanted is None:
        assert set(chosen) >= {image for image in range(len(classes)) if classes[image]}


def test_a_frequent_class_does_not_crowd_out_a_rare_one() -> None:
    classes = [frozenset([0])] * 90 + [frozenset([1])] * 20
    chosen = chosen_of(classes, wanted=40)
    assert Counter(next(iter(classes[image])) for image in chosen) == {0: 20, 1: 20}


def test_classes_take_turns() -> None:
    """Whichever number is wanted, the counts of classes that have images left differ by one at most."""
    classes = [frozenset([0])] * 30 + [frozenset([1])] * 30 + [frozenset([2])] * 30 + [frozenset([3])] * 4
    for wanted in (1, 2, 3, 4, 7, 16, 17, 41, 94):
        for seed in range(3):
            counts = Counter(next(iter(classes[image])) for image in chosen_of(classes, wanted=wanted, seed=seed))
            assert sum(counts.values()) == wanted
            left = [counts[number] for number in range(4) if number < 3 or counts[3] < 4]
            assert max(left) - min(left) <= 1
            assert counts[3] <= max(left)


def test_an_image_of_two_classes_counts_for_both() -> None:
    """Twelve with classes 0 and 1, twelve with 2: of twelve images, six of each kind."""
    classes = [frozenset([0, 1])] * 12 + [frozenset([2])] * 12
    chosen = chosen_of(classes, wanted=12)
    assert sum(image < 12 for image in chosen) == 6


def test_a_group_that_would_overshoot_is_skipped_for_one_that_fits() -> None:
    """Groups of 3 and one single image: of 4 images a group and the single one, of 3 just a group or less."""
    classes = [frozenset([0])] * 9 + [frozenset([1])]
    groups = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    for seed in range(6):
        assert len(chosen_of(classes, groups, wanted=4, seed=seed)) == 4
        assert 9 in chosen_of(classes, groups, wanted=5, seed=seed)
        assert chosen_of(classes, groups, wanted=2, seed=seed) == [9]
        assert len(chosen_of(classes, groups, wanted=10, seed=seed)) == 10


def test_background_comes_in_whole_groups_that_fit() -> None:
    """A tenth of 20 images is two: a group of three background images is left out, the pair or singles are taken."""
    classes = [frozenset([0])] * 30 + [frozenset[int]()] * 5
    groups = [*range(30), 30, 30, 30, 31, 31]
    for seed in range(6):
        chosen = chosen_of(classes, groups, wanted=20, background=0.1, seed=seed)
        assert [image for image in chosen if image >= 30] == [33, 34]
        assert len(chosen) == 20


def test_background_in_a_group_that_shows_a_class_comes_along() -> None:
    classes = [frozenset([0]), frozenset[int](), frozenset[int](), frozenset([1])]
    assert chosen_of(classes, [0, 0, 1, 2], background=0.0) == [0, 1, 3]
    assert chosen_of(classes, [0, 0, 1, 2], background=0.25) == [0, 1, 2, 3]


def test_the_seed_decides_among_equals_alone() -> None:
    classes = [frozenset([0])] * 40 + [frozenset[int]()] * 40
    found = {tuple(chosen_of(classes, wanted=10, background=0.5, seed=seed)) for seed in range(8)}
    assert len(found) == 8
    assert all(sum(image >= 40 for image in chosen) == 5 for chosen in found)


def test_nothing_usable_is_nothing_chosen() -> None:
    assert chosen_of([frozenset([0])], unusable={0: True}) == []
    none = np.zeros(0, dtype=np.int64)
    assert choose_balanced(np.zeros((0, 4), dtype=bool), none.astype(bool), none, None, 0.0, 0).tolist() == []


def test_background_takes_its_share() -> None:
    classes = [frozenset([0])] * 80 + [frozenset[int]()] * 20
    chosen = chosen_of(classes, wanted=50, background=0.1)
    assert sum(image >= 80 for image in chosen) == 5
    assert len(chosen) == 50


def test_background_is_a_share_of_the_result_and_not_of_the_source() -> None:
    classes = [frozenset([0])] * 96 + [frozenset[int]()] * 9_904
    for wanted in (None, 2000):
        chosen = chosen_of(classes, wanted=wanted, background=0.04)
        assert len(chosen) == 100
        assert sum(image >= 96 for image in chosen) == 4


def test_an_image_that_may_be_neither_is_left_out_of_its_group() -> None:
    classes = [frozenset([0]), frozenset[int](), frozenset([1]), frozenset[int]()]
    assert chosen_of(classes, [0, 0, 1, 2], background=0.5, unusable={1: True, 3: True}) == [0, 2]


def test_class_names_become_source_ids() -> None:
    ids = {"pants": 31, "jeans": 25, "hat": 20, "coat": 13}
    assert source_ids_by_class({"trousers": ["pants", "jeans"], "hat": ["hat"]}, ids, {31, 20}) == {
        "trousers": [31, 25],
        "hat": [20],
    }
    with pytest.raises(SeamlineError, match="null is every category with an annotation, and the dataset has none"):
        source_ids_by_class({}, ids, set())
    with pytest.raises(SeamlineError, match="no category 'shorts'; it has coat, hat, jeans, pants"):
        source_ids_by_class({"shorts": ["shorts"]}, ids, {31})
    with pytest.raises(SeamlineError, match="no image shows 'coat'"):
        source_ids_by_class({"coat": ["coat"]}, ids, {31})


def test_a_class_keeps_what_all_its_categories_agree_on() -> None:
    pants = {"supercategory": "lower", "id": 31, "name": "pants", "level": 2}
    jeans = {"supercategory": "lower", "id": 25, "name": "jeans", "level": 3}
    assert list(merged_category([pants], 31, "pants").items()) == list(pants.items())  # in its order, to the byte
    assert merged_category([pants, jeans], 1, "trousers") == {"supercategory": "lower", "id": 1, "name": "trousers"}


def test_annotations_become_rows_in_their_order_with_the_places_of_their_images() -> None:
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 9, "height": 9} for number in (70, 3)]
    annotations = [
        {"id": 1, "image_id": 3, "category_id": 8, "area": 4.5},
        {"id": 2, "image_id": 70, "category_id": 1, "area": 5, "iscrowd": 1},
        {"id": 3, "image_id": 3, "category_id": 1, "area": 6, "landmarks": [1, 2]},
    ]
    categories = [{"id": 1, "name": "top"}, {"id": 8, "name": "trousers"}]
    text = msgspec.json.encode({"images": images, "annotations": annotations, "categories": categories})
    coco = msgspec.json.decode(text, type=Coco)

    rows = annotation_rows(coco, coco.image_refs(), min_area_px=5)

    assert rows.tolist() == [[1, 8, 0, 0], [0, 1, 1, 1], [1, 1, 0, 1]]
    assert annotation_rows(msgspec.structs.replace(coco, annotations=[]), coco.image_refs(), 0).shape == (0, 4)


def test_classes_are_numbered_by_their_source_categories() -> None:
    numbers = class_numbers(np.array([8, 1, 5, 8, 9]), {"bottom": [8, 5], "top": [9]})
    assert numbers.tolist() == [0, -1, 0, 0, 1]
    assert class_numbers(np.array([], dtype=np.int64), {"top": [9]}).tolist() == []
