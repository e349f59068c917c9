"""How often the INT8 gate and the verdicts on speed are wrong, on simulated models and machines; prints Markdown.

A population of 40,000 photos is drawn with the matches of two models, so that the true drop is known. Splits of few
photos are drawn from it, and the gate decides with a max_drop just below the true drop: whatever it accepts is wrong.

Example: python -m bench.gates --splits 400
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from seamline.benchmark.figures import interval_of_another_run, median_interval
from seamline.evaluation.average_precision import Floats, Ints, Matches
from seamline.export.drops import FEWEST, drop_interval, drops_of

PHOTOS = 40_000
IOUS = np.linspace(0.5, 0.95, 10)
SHARES = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05])  # of the classes
BEYOND = 1.0001  # how many times max_drop the true drop is
ROUNDS = 16


class Harm(NamedTuple):
    """What quantising does to a model."""

    noise: float = 0.0  # of every outline and score
    shift: float = 0.0  # of outlines, more on some photos than on others
    lost: float = 0.0  # share of the instances that are no longer found


HARMS = {
    "noise on everything": Harm(noise=0.13, shift=0.02),
    "worse on some photos": Harm(shift=0.034),
    "a few instances lost": Harm(lost=0.0135),
}


class Population(NamedTuple):
    image: Ints  # (m,) of each instance
    class_index: Ints
    iou: Floats  # (models, m) of the prediction on it
    score: Floats  # (models, m); -inf where it is lost
    alarm_image: Ints  # (k,) of predictions on nothing
    alarm_class: Ints
    alarm_score: Floats  # (models, k)


def draw_population(random: np.random.Generator, harm: Harm, photos: int = PHOTOS) -> Population:
    image = np.repeat(np.arange(photos), random.integers(1, 5, photos))
    count = len(image)
    share = SHARES / SHARES.sum()
    ease = random.normal(0, 0.5, photos)[image] + random.normal(0, 0.8, count)
    quality = 1.9 + 0.7 * ease + random.normal(0, 0.4, count)
    worse = quality - harm.shift * random.exponential(1, photos)[image] + random.normal(0, harm.noise, count)
    score = 1.5 + 0.8 * ease + random.normal(0, 0.7, count)
    other = np.where(random.random(count) < harm.lost, -np.inf, score + random.normal(0, 2 * harm.noise, count))
    alarm_image = np.repeat(np.arange(photos), random.poisson(1.5, photos))
    alarm = random.normal(-1.2, 1.0, len(alarm_image))
    return Population(
        image,
        random.choice(len(SHARES), count, p=share),
        1 / (1 + np.exp(-np.array([quality, worse]))),
        np.array([score, other]),
        alarm_image,
        random.choice(len(SHARES), len(alarm_image), p=share),
        np.array([alarm, alarm + random.normal(0, 2 * harm.noise, len(alarm))]),
    )


def matches_of(population: Population, model: int, photos: Ints) -> Matches:
    """What pycocotools would match on these photos, all of them different."""
    place = np.full(int(max(population.image.max(), photos.max(), population.alarm_image.max(initial=0))) + 1, -1)
    place[photos] = np.arange(len(photos))
    shown, alarms = place[population.image] >= 0, place[population.alarm_image] >= 0
    image, class_index = place[population.image[shown]], population.class_index[shown]
    score, iou = population.score[model, shown], population.iou[model, shown]
    found = np.flatnonzero(np.isfinite(score))
    instance = np.full((len(IOUS), len(found) + int(alarms.sum())), -1)
    instance[:, : len(found)] = np.where(iou[found] >= IOUS[:, None], found, -1)
    scores = np.concatenate([score[found], population.alarm_score[model, alarms]])
    classes = np.concatenate([class_index[found], population.alarm_class[alarms]])
    order = np.lexsort((-scores, classes))
    return Matches(
        [str(number) for number in range(len(SHARES))],
        np.arange(len(photos)),
        IOUS,
        np.concatenate([image[found], place[population.alarm_image[alarms]]])[order],
        classes[order],
        scores[order],
        order,
        instance[:, order],
        np.arange(len(image)),
        image,
        class_index,
        np.zeros(len(image), dtype=np.bool_),
    )


def true_drop(population: Population) -> float:
    every = np.arange(PHOTOS)
    first, other = (matches_of(population, model, every) for model in (0, 1))
    return float(drops_of(first, other, np.ones((1, PHOTOS), dtype=np.int64))[0])


def gate_intervals(
    population: Population, photos: int, splits: int, random: np.random.Generator
) -> list[list[float] | None]:
    """The gate's interval on each of so many splits."""
    found = []
    for _ in range(splits):
        own = random.choice(PHOTOS, photos, replace=False)
        first, other = (matches_of(population, model, own) for model in (0, 1))
        found.append(drop_interval(first, other, np.arange(photos)))
    return found


def gate_rows(splits: int) -> list[str]:
    lines = [
        "| what INT8 does | photos | wrongly accepted | wrongly refused | accepted with a drop 0.02 below max_drop "
        "| refused with a drop 0.02 above, 0.05 above |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, harm in HARMS.items():
        random = np.random.default_rng(1)
        population = draw_population(random, harm)
        drop = true_drop(population)
        for photos in (FEWEST, 64, 200):
            known = [one or [-1.0, 1.0] for one in gate_intervals(population, photos, splits, random)]
            low, high = np.array(known).T
            rates = [
                high <= drop / BEYOND, low > drop, high <= drop + 0.02, low > drop - 0.02, low > drop - 0.05
            ]  # fmt: skip
            cells = [f"{np.mean(rate):.1%}" for rate in rates]
            lines.append(f"| {name}, true drop {drop:.4f} | {photos} | {' | '.join(cells[:4])}, {cells[4]} |")
    return lines


def rounds_of(random: np.random.Generator, stays: float, faster: float) -> tuple[Floats, Floats]:
    """Two formats of one run, in images a second: the machine's pace is that of both; each has 2% noise of its own."""
    pace, walk = np.zeros(ROUNDS), random.normal(0, 0.02 / (1 - stays**2) ** 0.5)
    for number in range(ROUNDS):
        walk = stays * walk + random.normal(0, 0.02)
        pace[number] = walk
    first, other = (100 * np.exp(pace + random.normal(0, 0.02, ROUNDS)) for _ in range(2))
    return first, other * (1 + faster)


def speed_rows(runs: int) -> list[str]:
    lines = [
        "| verdict on speed, 16 rounds | a disturbance lasts | equal, but one called faster | 2% faster | 5% | 20% |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for stays, lasts in ((0.0, "a round"), (0.8, "five rounds"), (0.95, "twenty rounds")):
        paired, apart = [], []
        for faster in (0.0, 0.02, 0.05, 0.2):
            random = np.random.default_rng(2)
            within = between = 0
            for _ in range(runs):
                first, other = rounds_of(random, stays, faster)
                low, high = median_interval((other / first).tolist()) or (0.0, 2.0)
                within += not low <= 1 <= high
                _, again = rounds_of(random, stays, faster)
                ranges = [interval_of_another_run(one.tolist()) or [0.0, np.inf] for one in (first, again)]
                medians = [float(np.median(one)) for one in (again, first)]
                between += not any(low <= value <= high for (low, high), value in zip(ranges, medians, strict=True))
            paired.append(f"{within / runs:.1%}")
            apart.append(f"{between / runs:.1%}")
        lines.append(f"| two formats of one run | {lasts} | {' | '.join(paired)} |")
        lines.append(f"| two runs, `seamline compare` | {lasts} | {' | '.join(apart)} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=400, help="of each size (default: 400)")
    parser.add_argument("--runs", type=int, default=2000, help="of the benchmark (default: 2000)")
    arguments = parser.parse_args()
    print("\n".join([*gate_rows(arguments.splits), "", *speed_rows(arguments.runs)]))
