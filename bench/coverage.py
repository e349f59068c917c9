"""How often intervals hold and verdicts err: test sets drawn from a population whose figures are known.

Three populations: as the sample, with groups of one to four photos and classes of which some are rare; of single photos
with more and rarer classes; and of large groups with few classes. Overlap, score and class of detections vary by group.
Each test set is evaluated as the evaluate stage does it, and its interval asked whether it holds the
population's mAP50-95. Two models on the same images differ by a known amount: how often is that seen, and how often is
a difference seen where there is none?

Example: python -m bench.coverage docs/coverage.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seamline.base.files import write_json
from seamline.evaluation.average_precision import Floats, Ints, Matches
from seamline.evaluation.bootstrap import (
    draw_weights,
    groups_showing,
    interval,
    interval_of_difference,
    mean_of_classes,
    sample_precisions,
    weights_without,
)

IOUS = np.linspace(0.5, 0.95, 10)


class Population(NamedTuple):
    shares: Sequence[float]  # of the classes among instances
    photos: tuple[int, int]  # the fewest and the most of a group
    alike: float  # standard deviation of the ease of groups
    size: int  # groups that stand for all there are


AS_SAMPLE = Population((0.3, 0.22, 0.16, 0.12, 0.08, 0.06, 0.04, 0.02), (1, 4), 0.6, 4000)
SINGLE_PHOTOS = Population(
    (0.2, 0.16, 0.13, 0.11, 0.09, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.02, 0.01), (1, 1), 0.6, 8000
)
LARGE_GROUPS = Population((0.4, 0.3, 0.2, 0.1), (5, 12), 0.9, 1500)
SIZES = (15, 20, 40, 60, 100, 150)
DRAWS = 200


def drawn(
    random: np.random.Generator, of: Population, groups: int, harm: float | None = None
) -> list[tuple[Matches, Ints]]:
    """A test set's matches and its images' groups; with `harm` of two models, of which the second overlaps less."""
    photos = random.integers(of.photos[0], of.photos[1] + 1, groups)
    group = np.repeat(np.arange(groups), photos)
    classes = len(of.shares)
    kinds = random.choice(classes, groups, p=of.shares)  # most photos of a group show the same garment
    shown = [(image, kinds[number]) for image, number in enumerate(group)]
    shown += [(image, int(random.choice(classes, p=of.shares))) for image in range(len(group)) if random.random() < 0.6]
    image, kind = (np.array(column, dtype=np.int64) for column in zip(*shown, strict=True))
    ease = random.normal(0, of.alike, groups)[group[image]] - 0.08 * kind  # the same for all photos of a group
    own = random.normal(0, 0.8, len(image))
    found = []
    for model in range(1 if harm is None else 2):
        quality = 1.6 + ease + own + random.normal(0, 0.4, len(image)) - (harm or 0) * model
        overlap = 1 / (1 + np.exp(-quality))
        score = np.clip(0.2 + 0.6 * overlap + random.normal(0, 0.15, len(image)), 0, 1)
        alarms = random.integers(0, len(group), len(group))
        every_image = np.concatenate([image, alarms])
        every_kind = np.concatenate([kind, random.choice(classes, len(alarms), p=of.shares)])
        every_score = np.concatenate([score, 0.6 * random.random(len(alarms)) ** 2])
        right = np.where(overlap >= IOUS[:, None], np.arange(len(image)), -1)
        instance = np.concatenate([right, np.full((len(IOUS), len(alarms)), -1)], axis=1)
        order = np.lexsort((-every_score, every_kind))
        matches = Matches(
            names=[f"class {number}" for number in range(classes)],
            image_ids=np.arange(len(group)),
            ious=IOUS,
            image=every_image[order],
            class_index=every_kind[order],
            score=every_score[order],
            result=order,
            instance=instance[:, order],
            instance_id=np.arange(len(image)) + 1,
            instance_image=image,
            instance_class=kind,
            crowd=np.zeros(len(image), dtype=np.bool_),
        )
        found.append((matches, group))
    return found


def figures(matches: Matches) -> Floats:
    """mAP50-95 of each class."""
    found: Floats = sample_precisions(matches, np.ones((1, len(matches.image_ids)), np.int64))[0].mean(axis=-1)
    return found


def coverage(of: Population, sets: int, groups: int, seed: int) -> float:
    """Share of test sets whose interval holds the population's mean of the classes that the test set shows."""
    truth = figures(drawn(np.random.default_rng(0), of, of.size)[0][0])
    held = []
    for number in range(sets):
        matches, group = drawn(np.random.default_rng([seed, groups, number]), of, groups)[0]
        own = figures(matches)
        left_out = mean_of_classes(sample_precisions(matches, weights_without(group, number)))
        shown = ~np.isnan(own)
        low, high = interval(left_out, groups_showing(matches, group), float(own[shown].mean())) or (0, 0)
        held.append(low <= truth[shown].mean() <= high)
    return float(np.mean(held))


def verdicts(sets: int, groups: int, harm: float, seed: int) -> float:
    """Share of test sets on which the second model's difference lies beyond its paired interval."""
    seen = []
    for number in range(sets):
        first, other = drawn(np.random.default_rng([seed, groups, number]), AS_SAMPLE, groups, harm)
        weights = draw_weights(first[1], DRAWS, number)
        samples = [mean_of_classes(sample_precisions(matches, weights)) for matches, _ in (first, other)]
        value = float(np.nanmean(figures(other[0])) - np.nanmean(figures(first[0])))
        low, high = interval_of_difference(samples[1] - samples[0], groups_showing(first[0], first[1]), value) or (0, 0)
        seen.append(not low <= 0 <= high)
    return float(np.mean(seen))


def harm_of(difference: float) -> float:
    """What lowers the population's mAP50-95 by so much."""
    harms = np.linspace(0, 0.5, 11)
    lost = []
    for harm in harms:
        first, other = drawn(np.random.default_rng(0), AS_SAMPLE, AS_SAMPLE.size, float(harm))
        lost.append(figures(first[0]).mean() - figures(other[0]).mean())
    return float(np.interp(difference, lost, harms))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--sets", type=int, default=1000, help="test sets drawn for each coverage")
    parser.add_argument("--pairs", type=int, default=300, help="test sets drawn for each verdict")
    args = parser.parse_args()
    harms = {difference: harm_of(difference) for difference in (0.02, 0.05)}
    report: dict[str, Any] = {"test_sets": args.sets, "pairs": args.pairs, "draws": DRAWS, "groups": {}}
    for groups in SIZES:
        report["groups"][str(groups)] = {
            "coverage": coverage(AS_SAMPLE, args.sets, groups, 1),
            "coverage_single_photos": coverage(SINGLE_PHOTOS, args.sets, groups, 1),
            "coverage_large_groups": coverage(LARGE_GROUPS, args.sets, groups, 1),
            "false_alarms": verdicts(args.pairs, groups, 0, 2),
            **{f"power_{difference}": verdicts(args.pairs, groups, harm, 3) for difference, harm in harms.items()},
        }
        print(groups, report["groups"][str(groups)], flush=True)
    write_json(args.out, report)


if __name__ == "__main__":
    main()
