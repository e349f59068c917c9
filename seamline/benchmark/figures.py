"""From measurements to the benchmark's figures of speed, with the range of another run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

from seamline.base.coco import Record
from seamline.benchmark.timing import Measurement

LEVEL = 0.95
BLOCKS = 6  # of rounds, for the range of another run
FEWEST_ROUNDS = 6  # of fewer, not even the smallest and the largest are 95% sure to have the median between them


def measurements_to_latency(measured: Sequence[Measurement]) -> Record:
    """Latency percentiles over all images of all rounds, and medians of the parts."""
    latencies = [latency for one in measured for latency in one.latencies_ms]
    parts = np.median([part for one in measured for part in one.parts_ms], axis=0)
    return {
        "queries": len(latencies),
        "latency_ms": {f"p{rank}": round(float(np.percentile(latencies, rank)), 3) for rank in (50, 90, 99)},
        "latency_p50_interval_ms": interval_of_another_run([statistics.median(one.latencies_ms) for one in measured]),
        **{
            f"{name}_ms": round(float(value), 3)
            for name, value in zip(("preprocess", "inference", "postprocess"), parts, strict=True)
        },
    }


def measurements_to_throughput(measured: Sequence[Measurement]) -> Record:
    """The throughput of the median round.

    throughput_spread is the distance from the 10th to the 90th percentile of the rounds, as a share of their median.
    """
    throughputs = [one.images / one.wall_s for one in measured]
    p10, median, p90 = np.percentile(throughputs, [10, 50, 90])
    return {
        "images_timed": sum(one.images for one in measured),
        "rounds": len(measured),
        "throughput_img_s": round(float(median), 2),
        "throughput_interval_img_s": interval_of_another_run(throughputs),
        "throughput_spread": round(float((p90 - p10) / median), 3),
        "throughput_rounds_img_s": [round(value, 2) for value in throughputs],
    }


def measurements_to_pace(groups: Sequence[Mapping[str, Sequence[Measurement]]]) -> list[float]:
    """How long each round took beside the others, as a ratio: the median over rows of each row's own ratio.

    What slows one format alone does not show in it; what slows the machine does.

    Args:
        groups: the rows' measurements of latency and of throughput.
    """
    walls = np.array([[one.wall_s / one.images for one in own] for rows in groups for own in rows.values()])
    return [float(value) for value in np.median(walls / np.median(walls, axis=1, keepdims=True), axis=0)]


def interval_of_another_run(values: Sequence[float]) -> list[float] | None:
    """The range in which the median of another run like this one is to be expected; None for too few rounds.

    What disturbs a machine lasts for many rounds. Rounds are therefore not independent, and the plain interval of their
    median is much too narrow. This is the 95% prediction interval of one more block (Student's t), given the medians of
    BLOCKS blocks of consecutive rounds: what lasts longer than a block does not average out. It is made of logarithms:
    a disturbance makes a machine slower by a factor, and no image takes no time. How often it holds:
    tests/benchmark/test_figures.py.
    """
    if len(values) < FEWEST_ROUNDS:
        return None
    medians = np.log([np.median(block) for block in np.array_split(np.asarray(values), BLOCKS)])
    half = float(stdtrit(BLOCKS - 1, 0.5 + LEVEL / 2) * medians.std(ddof=1) * math.sqrt(1 + 1 / BLOCKS))
    median = float(np.median(values))
    return [round(median * math.exp(-half), 3), round(median * math.exp(half), 3)]


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95% interval of a median of independent values of any distribution; None for fewer than FEWEST_ROUNDS.

    Its ends are the values of ranks r and n + 1 - r. The median lies outside of them with the probability that fewer
    than r of n coins show heads, or more than n - r: 2 P(X < r) for a binomial X (David and Nagaraja 2003, Order
    Statistics, section 7.1). r is the largest with at most 5%.
    """
    count = len(values)
    below, rank = 0.0, 0
    while (below := below + math.comb(count, rank) / 2**count) <= (1 - LEVEL) / 2:
        rank += 1
    if rank == 0:
        return None
    ordered = sorted(map(float, values))
    return ordered[rank - 1], ordered[count - rank]
