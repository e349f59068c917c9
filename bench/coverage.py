"""How often intervals hold and verdicts err: test sets drawn from a population whose figures are known.

As the sample: groups of one to four photos, classes of which some are rare, detections whose overlap, score and class
vary by group. Each test set is evaluated as the evaluate stage does it, and its interval asked whether it holds the
population's mAP50-95. Two models on the same images differ by a known amount: how often is that seen, and how often is
a difference seen where there is none?

Example: python -m bench.coverage docs/coverage.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from seamline.base.files import write_json
from seamline.evaluation.average_precision import Floats, Ints, Matches
from seamline.evaluation.bootstrap import (
    SHARE,
    draw_weights,
    groups_showing,
    interval,
    mean_of_classes,
    sample_precisions,
)

SHARES = np.array([0.3, 0.22, 0.16, 0.12, 0.08, 0.06, 0.04, 0.02])  # of the classes among instances
IOUS = np.linspace(0.5, 0.95, 10)
POPULATION = 4000  # groups that stand for all there are
SIZES = (15, 20, 40, 60, 100, 150)
DRAWS = 200


def drawn(random: np.random.Generator, groups: int, harm: float | None = None) -> list[tuple[Matches, Ints]]:
    """A test set's matches and its images' groups; with `harm` of two models, of which the second overlaps less."""
    photos = random.integers(1, 5, groups)
    group = np.repeat(np.arange(groups), photos)
    kinds = random.choice(len(SHARES), groups, p=SHARES)  # most photos of a group show the same garment
    shown = [(image, kinds[number]) for image, number in enumerate(group)]
    shown += [
        (image, int(random.choice(len(SHARES), p=SHARES))) for image in range(len(group)) if random.random() < 0.6
    ]
    image, kind = (np.array(column, dtype=np.int64) for column in zip(*shown, strict=True))
    ease = random.normal(0, 0.6, groups)[group[image]] - 0.08 * kind  # the same for all photos of a group
    own = random.normal(0, 0.8, len(image))
    found = []
    for model in range(1 if harm is None else 2):
        quality = 1.6 + ease + own + random.normal(0, 0.4, len(image)) - (harm or 0) * model
        overlap = 1 / (1 + np.exp(-quality))
        score = np.clip(0.2 + 0.6 * overlap + random.normal(0, 0.15, len(image)), 0, 1)
        alarms = random.integers(0, len(group), len(group))
        every_image = np.concatenate([image, alarms])
        every_kind = np.concatenate([kind, random.choice(len(SHARES), len(alarms), p=SHARES)])
        every_score = np.concatenate([score, 0.6 * random.random(len(alarms)) ** 2])
        right = np.where(overlap >= IOUS[:, None], np.arange(len(image)), -1)
        instance = np.concatenate([right, np.full((len(IOUS), len(alarms)), -1)], axis=1)
        order = np.lexsort((-every_score, every_kind))
        matches = Matches(
            names=[f"class {number}" for number in range(len(SHARES))],
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


def coverage(sets: int, groups: int, seed: int) -> float:
    """Share of test sets whose interval holds the population's mean of the classes that the test set shows."""
    truth = figures(drawn(np.random.default_rng(0), POPULATION)[0][0])
    held = []
    for number in range(sets):
        matches, group = drawn(np.random.default_rng([seed, groups, number]), groups)[0]
        own = figures(matches)
        samples = mean_of_classes(sample_precisions(matches, draw_weights(group, DRAWS, number)))
        shown = ~np.isnan(own)
        low, high = interval(samples, groups_showing(matches, group), float(own[shown].mean()), SHARE) or (0, 0)
        held.append(low <= truth[shown].mean() <= high)
    return float(np.mean(held))


def verdicts(sets: int, groups: int, harm: float, seed: int) -> float:
    """Share of test sets on which the second model's difference lies beyond its paired interval."""
    seen = []
    for number in range(sets):
        first, other = drawn(np.random.default_rng([seed, groups, number]), groups, harm)
        weights = draw_weights(first[1], DRAWS, number)
        samples = [mean_of_classes(sample_precisions(matches, weights)) for matches, _ in (first, other)]
        value = float(np.nanmean(figures(other[0])) - np.nanmean(figures(first[0])))
        low, high = interval(samples[1] - samples[0], groups_showing(first[0], first[1]), value) or (0, 0)
        seen.append(not low <= 0 <= high)
    return float(np.mean(seen))


def harm_of(difference: float) -> float:
    """What lowers the population's mAP50-95 by so much."""
    harms = np.linspace(0, 0.5, 11)
    lost = []
    for harm in harms:
        first, other = drawn(np.random.default_rng(0), POPULATION, float(harm))
        lost.append(figures(first[0]).mean() - figures(other[0]).mean())
    return float(np.interp(difference, lost, harms))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--sets", type=int, default=400, help="test sets drawn for each figure")
    args = parser.parse_args()
    harms = {difference: harm_of(difference) for difference in (0.02, 0.05)}
    report: dict[str, Any] = {"test_sets": args.sets, "draws": DRAWS, "groups": {}}
    for groups in SIZES:
        report["groups"][str(groups)] = {
            "coverage": coverage(args.sets, groups, 1),
            "false_alarms": verdicts(args.sets, groups, 0, 2),
            **{f"power_{difference}": verdicts(args.sets, groups, harm, 3) for difference, harm in harms.items()},
        }
        print(groups, report["groups"][str(groups)], flush=True)
    write_json(args.out, report)


if __name__ == "__main__":
    main()
