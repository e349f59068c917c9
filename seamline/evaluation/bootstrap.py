"""How far an average precision can be trusted, from the same figure over other test sets made of this one.

Whole groups of images (photos of one item) are left out or drawn together, since those are not independent. Nothing is
evaluated again: pycocotools' matches are weighted by how often their image counts.

The interval of a figure comes from test sets that each lack a part (the jackknife of Quenouille and Tukey). Two models
that were measured on the same images are compared on test sets drawn with replacement (Efron's bootstrap). The draws
depend only on the groups and the seed, so that both get the same, and their difference, draw by draw, is a paired one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from seamline.base.parallel import in_threads
from seamline.evaluation.average_precision import Bools, Floats, Ints, Matches

LEVEL = 0.95
FEWEST = 15  # groups that an interval needs
PARTS = 60  # at most, that are left out in turn
BIASES = 0.75  # how far a figure's interval is moved out, in biases
SHIFTS = 1.5  # how far a difference's is, in distances between the samples' mean and the difference
RECALLS = np.linspace(0, 1, 101)  # pycocotools'
Rows = npt.NDArray[np.int32]
AT_ONCE = 3_000_000  # samples times a class's predictions or instances
SMALL = 250_000  # bytes that fit the processor's cache, where numpy takes as long


class Runs(NamedTuple):
    """Right predictions that stand together in a ranking, at one IoU threshold: precision is highest at their ends."""

    iou: int  # index of the threshold
    edges: Ints  # (2 * runs,): how many predictions stand before each run, and up to its end, in turns
    dropped: Ints  # (d,): positions of the predictions that count neither way
    dropped_before: Ints  # (2 * runs,): how many of those are among the ones that `edges` counts


class Ranking(NamedTuple):
    """A class's predictions, best first, and which of them are right at each IoU threshold."""

    class_index: int
    image: Ints  # (n,): index of the image of each, up to the last right one
    runs: list[Runs]  # of the IoU thresholds at which one is right


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


def weights_without(groups: Ints, seed: int) -> Ints:
    """Test sets that lack each part in turn, 1 where an image counts and else 0: (parts, images).

    A part is a group, or where there are more than PARTS groups about as many of them in each, by the seed.
    """
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    parts = min(count, PARTS)
    part = np.random.default_rng(seed).permutation(count) % max(parts, 1)
    found: Ints = (part[group] != np.arange(parts)[:, None]).astype(np.int64)
    return found


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
    bounds = np.searchsorted(matches.class_index, np.arange(len(matches.names) + 1)).tolist()
    shown = images[matches.image]
    found = []
    for class_index, (first, last) in enumerate(itertools.pairwise(bounds)):
        of_class = first + np.flatnonzero(shown[first:last])
        instance = matches.instance[:, first:last][:, shown[first:last]]
        right = with_none[instance]
        dropped = (instance >= 0) & ~right
        runs = [runs_of(iou, right[iou], dropped[iou]) for iou in np.flatnonzero(right.any(axis=1)).tolist()]
        # What comes after the last right one cannot lower any precision that counts.
        end = max((int(one.edges[-1]) for one in runs), default=0)
        found.append(Ranking(class_index, matches.image[of_class[:end]], runs))
    return found


def runs_of(iou: int, right: Bools, dropped: Bools) -> Runs:
    """Of a ranking's predictions (n,) at one threshold, of which at least one is right."""
    counting = np.flatnonzero(~dropped)
    among_counting = np.flatnonzero(np.diff(right[counting], prepend=False, append=False))
    edges = np.empty_like(among_counting)
    edges[::2] = counting[among_counting[::2]]
    edges[1::2] = counting[among_counting[1::2] - 1] + 1
    dropped_before = edges - among_counting
    return Runs(iou, edges, np.flatnonzero(dropped)[: dropped_before[-1]], dropped_before)


def instance_counts(matches: Matches, weights: Ints, counted: Bools | None = None) -> Ints:
    """Instances of each class in each sample, (samples, classes), of weights (samples, images)."""
    chosen = ~matches.crowd if counted is None else counted & ~matches.crowd
    images, count = matches.instance_image[chosen], len(matches.names)
    of_image = np.zeros((len(matches.image_ids), count))
    np.add.at(of_image, (images, matches.instance_class[chosen]), 1)
    found: Ints = (weights @ of_image).astype(np.int64)  # floats are multiplied much faster, and exact to 2^53
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
    by_image = np.ascontiguousarray(weights.T, dtype=np.int32)
    for ranking in ranked:
        has = instances[:, ranking.class_index] > 0
        if not ranking.runs or not has.any():
            continue
        totals, which = np.unique(instances[has, ranking.class_index], return_inverse=True)
        reached = recalls_reached(totals)
        offset = (which * reached.shape[1]).astype(np.int32)
        weight = by_image if has.all() else by_image[:, has]
        predicted = sums_before(weight, ranking.image)
        for runs in ranking.runs:
            edges = predicted.take(runs.edges, axis=0)
            if len(runs.dropped):
                edges -= sums_before(weight, ranking.image[runs.dropped]).take(runs.dropped_before, axis=0)
            right = edges[1::2] - edges[::2]
            accumulate(np.add, right)
            envelope = right / np.maximum(edges[1::2], 1)
            accumulate(np.maximum, envelope[::-1])
            # Each recall takes the envelope where it is reached: what is reached, times how much the envelope falls.
            envelope[:-1] -= envelope[1:]
            right += offset
            counts = reached.take(right)
            found[has, ranking.class_index, runs.iou] = np.einsum("ij,ij->j", envelope, counts) / len(RECALLS)
    return found


def recalls_reached(totals: Ints) -> npt.NDArray[np.uint8]:
    """How many of RECALLS each number of right ones reaches, (totals, 0 to the largest), for numbers of instances."""
    needed = -(-np.arange(len(RECALLS)) * totals[:, None] // 100)  # the smallest number that reaches each recall
    # RECALLS are multiples of 0.01 as computers have them: where a recall should equal one, they decide.
    needed += needed / totals[:, None] < RECALLS
    found = np.zeros((len(totals), int(totals.max()) + 1), np.uint8)
    within = needed < found.shape[1]
    np.add.at(found, (np.nonzero(within)[0], needed[within]), 1)
    return np.add.accumulate(found, axis=1, out=found)


def sums_before(weight: Rows, rows: Ints) -> Rows:
    """(n + 1, samples): the sums of none, one, two ... of the n rows of weight (images, samples)."""
    found = np.zeros((len(rows) + 1, weight.shape[1]), weight.dtype)
    weight.take(rows, axis=0, out=found[1:], mode="clip")  # else numpy keeps a copy in case an index is wrong
    accumulate(np.add, found)
    return found


def accumulate(function: np.ufunc, rows: npt.NDArray[Any]) -> None:
    """function.accumulate(rows, axis=0, out=rows) of numpy, which goes down column by column, several times as fast."""
    if rows.nbytes <= SMALL:
        function.accumulate(rows, axis=0, out=rows)
        return
    length = math.isqrt(len(rows))
    blocks = len(rows) // max(length, 1)
    whole = rows[: blocks * length].reshape(blocks, length, rows.shape[1])  # a view
    for row in range(1, length):
        function(whole[:, row], whole[:, row - 1], out=whole[:, row])
    for block in range(1, blocks):
        function(whole[block], whole[block - 1, -1], out=whole[block])
    for row in range(blocks * length, len(rows)):
        function(rows[row], rows[row - 1], out=rows[row])


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


def interval(left_out: Floats, groups: int, value: float | None) -> list[float] | None:
    """Where the figure of all photos there are lies, 19 times of 20, as [low, high], six digits; it holds `value`.

    A t-interval around the figure with the jackknife's standard deviation, which is rather too large than too small
    (Efron and Stein 1981): that of a bootstrap is too small for means over rare classes, by a seventh at 40 groups,
    because draws lack whole classes. Such a mean is also biased. The interval reaches BIASES times the jackknife's
    estimate of that further, to both sides. docs/evaluation.md has the simulated coverage, which chose that number.

    None for fewer than FEWEST groups, and where every part gives the same figure (everything was found, or nothing):
    it would look like certainty.

    Args:
        left_out: the figure of each test set of weights_without.
        groups: how many groups have images that show what is measured.
        value: the figure itself, from 0 to 1.
    """
    known = left_out[~np.isnan(left_out)]
    if groups < FEWEST or len(known) < 2 or value is None or known.min() == known.max():
        return None
    count, mean = len(known), float(known.mean())
    deviation = math.sqrt((count - 1) / count * float(np.sum((known - mean) ** 2)))
    bias = (count - 1) * (mean - value)
    half = float(stdtrit(min(groups, count) - 1, (1 + LEVEL) / 2)) * deviation + BIASES * abs(bias)
    return [round(max(value - half, 0.0), 6), round(min(value + half, 1.0), 6)]


def interval_of_difference(draws: Floats, groups: int, value: float | None) -> list[float] | None:
    """Where the difference of two models on all photos lies, 19 times of 20, as [low, high], six digits.

    A t-interval around the difference with the draws' standard deviation, which reaches SHIFTS times further than draws
    and difference differ, to both sides: draws repeat what was found and lack what is rare.

    None as of `interval`.

    Args:
        draws: the difference in each sample.
        groups: how many groups have images that show what is measured.
        value: the difference itself, from -1 to 1.
    """
    known = draws[~np.isnan(draws)]
    if groups < FEWEST or not len(known) or value is None or known.min() == known.max():
        return None
    half = float(np.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, (1 + LEVEL) / 2) * known.std())
    half += SHIFTS * abs(float(known.mean()) - value)
    return [round(max(value - half, -1.0), 6), round(min(value + half, 1.0), 6)]
