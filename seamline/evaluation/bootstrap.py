"""How far an average precision can be trusted: the same figure over test sets drawn again from this one.

Images are drawn with replacement, whole groups of them (photos of one item) together, since those are not independent
(Efron's bootstrap). Nothing is evaluated again: pycocotools' matches are weighted by how often their image was drawn.
The draws depend only on the groups and the seed. Two models measured on the same images are therefore measured on the
same draws, and their difference, draw by draw, is a paired bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from seamline.base.parallel import in_threads
from seamline.evaluation.average_precision import Bools, Floats, Ints, Matches

LEVEL = 0.95
FEWEST = 15  # groups that an interval needs
SHIFTS = 1.5  # how far an interval is moved out, in distances between the samples' mean and the figure
SHARE = (0.0, 1.0)  # what a figure can be
RECALLS = np.linspace(0, 1, 101)  # pycocotools'
AT_ONCE = 200_000  # samples times a class's predictions or instances: fastest when it fits the processor's cache


class Ranking(NamedTuple):
    """A class's predictions that count, best first, and which of them are right at each IoU threshold."""

    class_index: int
    image: Ints  # (n,): index of the image of each, up to the last right one
    hits: list[tuple[int, Ints]]  # IoU thresholds (indices), each with the positions in `image` of the right ones


def draw_weights(groups: Ints, samples: int, seed: int) -> Ints:
    """How often each image is drawn in each sample: (samples, images).

    Args:
        groups: (images,): the number of each image's group.
        samples: how many test sets are drawn, each of as many groups as there are.
        seed: of the random generator.
    """
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    random = np.random.default_rng(seed)
    drawn = [np.bincount(random.integers(0, max(count, 1), count), minlength=count) for _ in range(samples)]
    return np.array(drawn, dtype=np.int64).reshape(samples, count)[:, group]


def rankings(matches: Matches, counted: Bools | None = None) -> list[Ranking]:
    """What an average precision over the instances in `counted` (m,) needs; None: all but crowd regions.

    Images that show no counted instance are left out when `counted` is given. In the others, predictions matched to
    an instance that is not counted count neither way, as pycocotools does with crowd regions.
    """
    images = np.ones(len(matches.image_ids), dtype=np.bool_)
    if counted is None:
        counted = ~matches.crowd
    else:
        counted = counted & ~matches.crowd
        images[:] = False
        images[matches.instance_image[counted]] = True
    with_none = np.append(counted, False)  # an instance of -1
    found = []
    for class_index in range(len(matches.names)):
        of_class = np.flatnonzero((matches.class_index == class_index) & images[matches.image])
        instance = matches.instance[:, of_class]
        right = with_none[instance]
        dropped = (instance >= 0) & ~right
        # Usually the same predictions are dropped at every threshold, and are ranked once.
        alike: dict[bytes, list[int]] = {}
        for iou, pattern in enumerate(dropped):
            alike.setdefault(pattern.tobytes(), []).append(iou)
        for ious in alike.values():
            ranked = np.flatnonzero(~dropped[ious[0]])
            hits = [(iou, np.flatnonzero(right[iou, ranked])) for iou in ious]
            # What comes after the last right one cannot lower any precision that counts.
            end = max((int(at[-1]) + 1 for _, at in hits if len(at)), default=0)
            found.append(Ranking(class_index, matches.image[of_class[ranked[:end]]], hits))
    return found


def instance_counts(matches: Matches, weights: Ints, counted: Bools | None = None) -> Ints:
    """Instances of each class in each sample, (samples, classes), of weights (samples, images)."""
    chosen = ~matches.crowd if counted is None else counted & ~matches.crowd
    images, count = matches.instance_image[chosen], len(matches.names)
    of_image = np.zeros((len(matches.image_ids), count), dtype=np.int64)
    np.add.at(of_image, (images, matches.instance_class[chosen]), 1)
    found: Ints = weights @ of_image
    return found


def groups_showing(matches: Matches, groups: Ints, counted: Bools | None = None) -> int:
    """How many groups have an image that shows a counted instance (m,); None: any but a crowd region."""
    chosen = ~matches.crowd if counted is None else counted & ~matches.crowd
    return len(np.unique(groups[matches.instance_image[chosen]]))


def class_precisions(ranked: Sequence[Ranking], instances: Ints, weights: Ints, thresholds: int) -> Floats:
    """pycocotools' average precision of each class at each IoU threshold over weighted images, sample by sample.

    Args:
        ranked: of `rankings`.
        instances: (samples, classes) of `instance_counts` with the same weights.
        weights: (samples, images): how often each image counts.
        thresholds: how many IoU thresholds there are.

    Returns:
        (samples, classes, thresholds); NaN where a class has no instance.
    """
    found = np.where(instances[:, :, None] > 0, np.zeros((*instances.shape, thresholds)), np.nan)
    # Samples lie side by side in memory, so that the sums over ranks below run over all of them at once.
    by_image = np.ascontiguousarray(weights.T)
    for ranking in ranked:
        has = instances[:, ranking.class_index] > 0
        totals, which = np.unique(instances[has, ranking.class_index], return_inverse=True)
        # How many of RECALLS each number of right ones reaches, for each number of instances there is.
        most = int(totals.max(initial=0)) + 1
        reached = np.searchsorted(RECALLS, np.arange(most) / totals[:, None], side="right").ravel()
        offset = (which * most).astype(weights.dtype)
        weight = by_image[ranking.image] if has.all() else by_image[ranking.image][:, has]
        predicted = np.add.accumulate(weight, axis=0)
        for iou, hits in ranking.hits:
            if not len(hits):
                continue
            right = np.add.accumulate(weight.take(hits, axis=0), axis=0)
            envelope = right / np.maximum(predicted.take(hits, axis=0), 1)
            np.maximum.accumulate(envelope[::-1], axis=0, out=envelope[::-1])
            # Each recall takes the envelope where it is reached: what is reached, times how much the envelope falls.
            envelope[:-1] -= envelope[1:]
            right += offset
            found[has, ranking.class_index, iou] = np.einsum("ij,ij->j", envelope, reached.take(right)) / len(RECALLS)
    return found


def sample_precisions(matches: Matches, weights: Ints, counted: Bools | None = None) -> Floats:
    """Average precision in every sample: (samples, classes, thresholds); see class_precisions."""
    ranked = rankings(matches, counted)
    longest = max((*(len(ranking.image) for ranking in ranked), *np.bincount(matches.instance_class)), default=0)

    def precisions(part: Ints) -> Floats:
        return class_precisions(ranked, instance_counts(matches, part, counted), part, len(matches.ious))

    # In threads, which numpy leaves alone most of the time.
    blocks = np.array_split(weights, len(weights) * longest // AT_ONCE + 1)
    return np.concatenate(list(in_threads(precisions, blocks)))


def mean_of_classes(precisions: Floats) -> Floats:
    """Mean over the last two axes (classes, thresholds) of the classes that have instances; NaN where none has."""
    present = ~np.isnan(precisions[..., 0])
    totals = np.where(present, precisions.mean(axis=-1), 0).sum(axis=-1)
    count = present.sum(axis=-1)
    means: Floats = np.where(count > 0, totals / np.maximum(count, 1), np.nan)
    return means


def interval(
    values: Floats, groups: int, value: float | None, within: tuple[float, float] = (-1.0, 1.0)
) -> list[float] | None:
    """Where the figure of all photos there are lies, 19 times of 20, as [low, high], six digits; it holds `value`.

    A t-interval around the figure with the samples' standard deviation. Percentiles of the samples do not hold for a
    mean over rare classes: samples repeat what was found and lack what is rare, so that they lie above the figure,
    which itself lies above that of all photos. The interval therefore reaches SHIFTS times further than samples and
    figure differ, to both sides. docs/evaluation.md has the simulated coverage, which chose that number.

    None for fewer than FEWEST groups, and where every sample gives the same figure (everything was found, or nothing):
    it would look like certainty.

    Args:
        values: a figure of each sample.
        groups: how many groups have images that show what is measured.
        value: the figure itself.
        within: what the figure can be: 0 to 1, or for a difference of two -1 to 1.
    """
    known = values[~np.isnan(values)]
    if groups < FEWEST or not len(known) or value is None or known.min() == known.max():
        return None
    half = float(np.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, (1 + LEVEL) / 2) * known.std())
    half += SHIFTS * abs(float(known.mean()) - value)
    return [round(max(value - half, within[0]), 6), round(min(value + half, within[1]), 6)]
