from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamline.errors import SeamlineError
from seamline.selection import choose_balanced, source_ids_by_class

IMAGES = st.dictionaries(
    st.integers(1, 60), st.tuples(st.frozensets(st.integers(1, 4), max_size=3), st.integers(0, 15)), min_size=1
)


@given(IMAGES, st.one_of(st.none(), st.integers(1, 80)), st.floats(0, 0.5), st.integers(0, 3))
def test_whole_groups_and_never_too_many(
    images: dict[int, tuple[frozenset[int], int]], wanted: int | None, background: float, seed: int
) -> None:
    classes = {image: shown for image, (shown, _) in images.items()}
    groups = {image: group for image, (_, group) in images.items()}
    chosen = choose_balanced(classes, groups, wanted, background, seed)
    assert chosen == sorted(set(chosen))
    assert wanted is None or len(chosen) <= wanted
    taken = {groups[image] for image in chosen}
    assert set(chosen) == {image for image in classes if groups[image] in taken}
    assert chosen == choose_balanced(dict(reversed(classes.items())), groups, wanted, background, seed)
    if wanted is None:
        assert set(chosen) >= {image for image in classes if classes[image]}


def test_a_frequent_class_does_not_crowd_out_a_rare_one() -> None:
    classes = {image: frozenset([1]) for image in range(1, 91)} | {image: frozenset([2]) for image in range(91, 111)}
    chosen = choose_balanced(classes, {image: image for image in classes}, 40, 0.0, seed=0)
    assert Counter(next(iter(classes[image])) for image in chosen) == {1: 20, 2: 20}


def test_background_takes_its_share() -> None:
    classes = {image: frozenset([1]) if image <= 80 else frozenset() for image in range(1, 101)}
    chosen = choose_balanced(classes, {image: image for image in classes}, 50, 0.1, seed=0)
    assert sum(image > 80 for image in chosen) == 5
    assert len(chosen) == 50


def test_background_is_a_share_of_the_result_and_not_of_the_source() -> None:
    classes = {image: frozenset([1]) if image <= 96 else frozenset() for image in range(1, 10_001)}
    groups = {image: image for image in classes}
    for wanted in (None, 2000):
        chosen = choose_balanced(classes, groups, wanted, 0.04, seed=0)
        assert len(chosen) == 100
        assert sum(image > 96 for image in chosen) == 4


def test_class_names_become_source_ids() -> None:
    ids = {"pants": 31, "jeans": 25, "hat": 20, "coat": 13}
    assert source_ids_by_class({"trousers": ["pants", "jeans"], "hat": ["hat"]}, ids, {31, 20}) == {
        "trousers": [31, 25],
        "hat": [20],
    }
    with pytest.raises(SeamlineError, match="no category 'shorts'; it has coat, hat, jeans, pants"):
        source_ids_by_class({"shorts": ["shorts"]}, ids, {31})
    with pytest.raises(SeamlineError, match="no image shows 'coat'"):
        source_ids_by_class({"coat": ["coat"]}, ids, {31})
