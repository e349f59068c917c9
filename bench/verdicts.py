"""How often `seamline compare` says that one of two experiments is better: false alarms, and power, by simulation.

Trainings vary as the seeds in reports/train/seed_spread.json do; by the photos a difference varies as the paired
bootstrap of two such trainings says. Each pair is judged by compare's own verdict. Prints a table for
docs/evaluation.md; the same arguments give the same table.

Example: python -m bench.verdicts reports/train/seed_spread.json --photos 0 0.019
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np

from seamline.base.files import read_json
from seamline.evaluation.seed_limits import over_seeds
from seamline.experiments.comparing import verdict

DIFFERENCES = (0.0, 0.02, 0.05)  # of mAP50-95; the first one gives the false alarms
SEEDS = ((1, 1), (3, 1), (3, 3), (5, 5))
Z = 1.959964  # of a 95% interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spread", type=Path, help="reports/train/seed_spread.json")
    parser.add_argument("--measure", default="test_mask_mAP50_95", help="whose spread (default: test_mask_mAP50_95)")
    parser.add_argument("--photos", type=float, nargs="+", required=True, help="standard deviations by other photos")
    parser.add_argument("--pairs", type=int, default=10_000, help="pairs of experiments that are drawn a cell")
    args = parser.parse_args()
    seeds = statistics.stdev(run[args.measure] for run in read_json(args.spread)["seeds"].values())
    print(f"standard deviation of seeds {seeds:.4f}, of photos {' or '.join(map(str, args.photos))}\n")
    print("| seeds of each | photos | " + " | ".join(f"at a difference of {one}" for one in DIFFERENCES) + " |")
    print("| --- | ---: |" + " ---: |" * len(DIFFERENCES))
    for ours, theirs in SEEDS:
        for photos in args.photos[ours == theirs == 1 and args.photos[0] == 0 :]:  # photos are all it knows
            shares = [share_said((ours, theirs), seeds, photos, one, args.pairs) for one in DIFFERENCES]
            print(f"| {ours} and {theirs} | {photos} | {' | '.join(f'{share:.1%}' for share in shares)} |")


def share_said(counts: tuple[int, int], seeds: float, photos: float, difference: float, pairs: int) -> float:
    """Of pairs of experiments, the share in which the other one is said to be better or worse without reserve.

    With one training of each, where compare never says so: the share that is "with these seeds".

    Args:
        counts: how many trainings there are of the first and of the other experiment.
        seeds: standard deviation of trainings that differ by the seed.
        photos: standard deviation of a difference over test sets drawn again.
        difference: the true one.
        pairs: how many are drawn.
    """
    random = np.random.default_rng(0)
    said = 0
    for _ in range(pairs):
        first = random.normal(0, seeds, counts[0]).tolist()
        other = (random.normal(difference, seeds, counts[1]) + random.normal(0, photos)).tolist()
        between = other[0] - first[0]
        span = (between - Z * photos, between + Z * photos)
        found = verdict(between, span, over_seeds(first, other), "")
        said += "within" not in found
    return said / pairs


if __name__ == "__main__":
    main()
