from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamline.base.errors import SeamlineError
from seamline.dataset.selection import choose_balanced, merged_category, source_ids_by_class

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
