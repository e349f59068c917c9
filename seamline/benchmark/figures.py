"""From measurements to the benchmark's figures of speed, with the range of another run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

from seamline.base.coco import Record
from seamline.benchmark.timing import Measurement

RESAMPLES = 2000
LEVEL = 0.95
BLOCKS = 6  # of rounds, for the interval


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


def interval_of_another_run(values: Sequence[float]) -> list[float]:
    """The range in which the median of another run like this one is to be expected.

    What disturbs a machine lasts for many rounds. Rounds are therefore not independent, and the plain interval of their
    median is much too narrow. BLOCKS runs of consecutive rounds are drawn again with replacement (a block bootstrap).
    The deviation of their mean is widened twice: to that of one more block (times the root of BLOCKS + 1), since what
    lasts longer than a block does not average out, and because it is known from few blocks (Student's t, 95%). How
    often it holds: tests/benchmark/test_figures.py. For one round it is the value itself.
    """
    median = float(np.median(values))
    blocks = np.array_split(np.asarray(values), min(BLOCKS, len(values)))
    if len(blocks) < 2:
        return [round(median, 3)] * 2
    drawn = np.random.default_rng(0).integers(0, len(blocks), (RESAMPLES, len(blocks)))
    medians = np.array([np.median(block) for block in blocks])
    deviation = np.mean(medians[drawn], axis=1).std() * math.sqrt(len(blocks) / (len(blocks) - 1))
    half = float(stdtrit(len(blocks) - 1, 0.5 + LEVEL / 2) * deviation * math.sqrt(len(blocks) + 1))
    return [round(max(median - half, 0.0), 3), round(median + half, 3)]
