"""Choosing a class-balanced part of a dataset, groups kept together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seamline.base.coco import Coco, ImageRef
from seamline.base.errors import SeamlineError
from seamline.dataset.groups import Groups

TAKE_CROWDS = "subset.crowd: instances takes them for instances"


def annotation_rows(coco: Coco, images: Sequence[ImageRef], min_area_px: float) -> npt.NDArray[np.int64]:
    """A row an annotation: position of its image, category, whether it is a crowd, whether it is large enough."""
    position = {image.id: index for index, image in enumerate(images)}
    # Number by number: a list of hundreds of thousands of tuples takes longer, and ten times the memory.
    numbers = (
        number
        for ref in coco.annotation_refs(position)
        for number in (position[ref.image_id], ref.category_id, ref.iscrowd != 0, ref.area >= min_area_px)
    )
    return np.fromiter(numbers, dtype=np.int64, count=4 * len(coco.annotations)).reshape(-1, 4)


def source_ids_by_class(
    sources_by_class: Mapping[str, Sequence[str]], category_ids: Mapping[str, int], used: set[int]
) -> dict[str, list[int]]:
    """The source's category ids behind each class asked for.

    Args:
        sources_by_class: class name -> the source's category names merged into it.
        category_ids: the source's category name -> its id.
        used: category ids that at least one annotation has.

    Raises:
        SeamlineError: when a name is not in the source, or no image shows any of a class's categories, or there is no
            class.
    """
    if not sources_by_class:
        raise SeamlineError("subset.classes: null is every category with an annotation, and the dataset has none.")
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


def class_numbers(categories: npt.NDArray[np.int64], sources: Mapping[str, Sequence[int]]) -> npt.NDArray[np.int64]:
    """The number of each annotation's class, from its category id, by `source_ids_by_class`; -1 for none."""
    class_of = {source: number for number, ids in enumerate(sources.values()) for source in ids}
    used, inverse = np.unique(categories, return_inverse=True)
    return np.array([class_of.get(category, -1) for category in used.tolist()], dtype=np.int64)[inverse]


def merged_category(records: Sequence[Mapping[str, Any]], number: int, name: str) -> dict[str, Any]:
    """The category record of a class: what all that are merged into it agree on stays, such as `supercategory`."""
    first, *others = records
    agreed = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    return {**agreed, "id": number, "name": name}


def neither(
    images: Sequence[ImageRef], incomplete: Sequence[int], left_out: npt.NDArray[np.int64], shows: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """(images,), those that show no class and may not be background: they do show what is not in the annotations.

    Args:
        images: of the dataset.
        incomplete: ids of those of which pull left an annotation out.
        left_out: positions of those with an instance that is not trained on.
        shows: (images, classes), whether an image shows a class.
    """
    positions = np.zeros(len(images), dtype=bool)
    positions[left_out] = True
    return (positions | np.isin([image.id for image in images], incomplete)) & ~shows.any(axis=1)


def choose_balanced(
    shows: npt.NDArray[np.bool_],
    unusable: npt.NDArray[np.bool_],
    group_of: Groups,
    wanted: int | None,
    background: float,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Positions of the images of a class-balanced subset that takes whole groups.

    Groups are taken one after another, each time one that shows the class with the fewest images so far, until
    the wanted number is reached. A last group that would overshoot is skipped for one that fits.

    Args:
        shows: (images, classes), whether an image shows a class.
        unusable: (images,), images that may be neither; they are left out of their groups.
        group_of: (images,), the number of each image's group, from 0.
        wanted: how many images; None for all that show a class.
        background: share of the result that shows none of the classes.
        seed: of the order in which equals are taken.

    Returns:
        Sorted positions, at most `wanted`; fewer when there are not enough.
    """
    usable = np.flatnonzero(~unusable)
    count = int(group_of.max(initial=-1)) + 1
    sizes = np.bincount(group_of[usable], minlength=count)
    images_of_class = np.stack(
        [np.bincount(group_of[usable], weights=column, minlength=count) for column in shows[usable].T], axis=1
    ).astype(np.int64)  # (groups, classes)
    order = np.random.default_rng(seed).permutation(count)
    order = order[sizes[order] > 0]
    # A group that shows any class counts as foreground; its own background images come along.
    foreground = np.asarray(images_of_class.any(axis=1))
    shown = int(sizes[foreground].sum())
    # Without a number wanted, and where there is too little foreground for it, the share is of what there is.
    total = min(wanted or len(usable), shown + round(shown * background / (1 - background)))
    taken = np.zeros(count, dtype=bool)
    chosen = 0
    for group in order[~foreground[order]].tolist():
        if chosen >= round(total * background):
            break
        if chosen + sizes[group] <= round(total * background):
            taken[group] = True
            chosen += int(sizes[group])
    of_class = np.zeros(shows.shape[1], dtype=np.int64)
    waiting = [iter(order[images_of_class[order, number] > 0].tolist()) for number in range(shows.shape[1])]
    open_classes = list(range(shows.shape[1]))
    while open_classes and chosen < total:
        rarest = min(open_classes, key=lambda number: (of_class[number], number))
        group = next(waiting[rarest], None)
        if group is None:
            open_classes.remove(rarest)
        elif not taken[group] and chosen + sizes[group] <= total:
            taken[group] = True
            chosen += int(sizes[group])
            of_class += images_of_class[group]
    return usable[taken[group_of[usable]]]


def check_chosen(
    shows: npt.NDArray[np.bool_], chosen: npt.NDArray[np.int64], crowd: npt.NDArray[np.bool_], wanted: int | None
) -> None:
    """Raises SeamlineError where no instance is left to train on; `crowd` is of those that are large enough."""
    if shows[chosen].any():
        return
    if shows.any():
        raise SeamlineError(f"subset.images: {wanted} is too few; the smallest group of images is larger.")
    if len(crowd) and crowd.all():
        raise SeamlineError(
            f"subset.crowd: all {len(crowd)} annotations are crowds (iscrowd 1), which are not trained on; "
            f"{TAKE_CROWDS}."
        )
    raise SeamlineError("subset: min_area_px and crowd leave no instance; their areas are in pixels.")
