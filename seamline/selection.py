"""Choosing a class-balanced part of a dataset, groups kept together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from seamline.errors import SeamlineError


def source_ids_by_class(
    sources_by_class: Mapping[str, Sequence[str]], category_ids: Mapping[str, int], used: set[int]
) -> dict[str, list[int]]:
    """The source's category ids behind each class asked for.

    Args:
        sources_by_class: class name -> the source's category names merged into it.
        category_ids: the source's category name -> its id.
        used: category ids that at least one annotation has.

    Raises:
        SeamlineError: when a name is not in the source, or no image shows any of a class's categories.
    """
    result = {}
    for name, sources in sources_by_class.items():
        for source in sources:
            if source not in category_ids:
                raise SeamlineError(
                    f"subset.classes: the dataset has no category {source!r}; it has {', '.join(sorted(category_ids))}."
                )
        result[name] = [category_ids[source] for source in sources]
        if used.isdisjoint(result[name]):
            raise SeamlineError(f"subset.classes: no image shows {name!r}; leave it out or choose another.")
    return result


def choose_balanced(
    classes_by_image: Mapping[int, frozenset[int]],
    group_by_image: Mapping[int, Hashable],
    wanted: int | None,
    background: float,
    seed: int,
) -> list[int]:
    """Image ids of a class-balanced subset that takes whole groups.

    Groups are taken one after another, each time one that shows the class with the fewest images so far, until
    the wanted number is reached. A last group that would overshoot is skipped for one that fits.

    Args:
        classes_by_image: image id -> the chosen classes it shows; empty for an image that shows none.
        group_by_image: image id -> its group.
        wanted: how many images; None for all that show a class.
        background: share of the result that shows none of the classes.
        seed: of the order in which equals are taken.

    Returns:
        Sorted ids, at most `wanted`; fewer when there are not enough.
    """
    rng = np.random.default_rng(seed)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for image in sorted(classes_by_image):
        groups[group_by_image[image]].append(image)
    order = list(groups)
    order = [order[index] for index in rng.permutation(len(order))]
    # A group that shows any class counts as foreground; its own background images come along.
    foreground = [group for group in order if any(classes_by_image[image] for image in groups[group])]
    empty = [group for group in order if not any(classes_by_image[image] for image in groups[group])]
    shown = sum(len(groups[group]) for group in foreground)
    # Without a number wanted, and where there is too little foreground for it, the share is of what there is.
    total = min(wanted or len(classes_by_image), shown + round(shown * background / (1 - background)))
    chosen: list[int] = []
    for group in empty:
        if len(chosen) + len(groups[group]) <= round(total * background):
            chosen += groups[group]
    images_of: dict[int, int] = {number: 0 for classes in classes_by_image.values() for number in classes}
    waiting: dict[int, list[Hashable]] = {number: [] for number in images_of}
    for group in reversed(foreground):  # reversed, as they are popped from the end
        for number in sorted({number for image in groups[group] for number in classes_by_image[image]}):
            waiting[number].append(group)
    taken: set[Hashable] = set()
    while any(waiting.values()):
        rarest = min((number for number in waiting if waiting[number]), key=lambda number: (images_of[number], number))
        group = waiting[rarest].pop()
        if group in taken or len(chosen) + len(groups[group]) > total:
            continue
        taken.add(group)
        chosen += groups[group]
        for image in groups[group]:
            for number in classes_by_image[image]:
                images_of[number] += 1
    return sorted(chosen)
