"""Which row of the benchmark to use: among those that are as accurate, the fastest beyond noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seamline.base.coco import Record
from seamline.benchmark.figures import median_interval
from seamline.benchmark.tables import kind_of_rows
from seamline.models.exported import ACCEPTED


def recommended(rows: Mapping[str, Record], max_drop: float) -> str:
    """The fastest row on the CPU that is as accurate as the reference; a lossless one if it may be as fast.

    Args:
        rows: as in benchmark.json; the first one is the reference.
        max_drop: of the primary mAP50-95, that a lossy format may cost (export.int8.max_drop).
    """
    reference = next(iter(rows))
    good = [
        name
        for name, row in rows.items()
        if name == reference or (row["device"] == "cpu" and is_as_accurate(row, rows[reference], max_drop))
    ]
    best = max(good, key=lambda name: float(rows[name]["throughput_img_s"]))
    even = [best, *(name for name in as_fast(rows, best) if name in good)]
    lossless = [name for name in even if rows[name]["precision"] == rows[reference]["precision"]]
    return max(lossless or [best], key=lambda name: float(rows[name]["throughput_img_s"]))


def is_as_accurate(row: Record, reference: Record, max_drop: float) -> bool:
    """Whether a row costs no more than max_drop, as far as is known.

    A row of the reference's precision is the same model. Of another precision it is known from the gate of the export
    (INT8), or from the interval of the difference on test. No row is, if it cost more on test than is allowed.
    """
    delta = f"{kind_of_rows({'': row})}_mAP50_95_delta"
    if row[delta] < -max_drop:
        return False
    if row["precision"] == reference["precision"]:
        return True
    if row["int8_gate"] is not None:
        return bool(row["int8_gate"] == ACCEPTED)
    interval = row[f"{delta}_interval"]
    return interval is not None and interval[0] >= -max_drop


def as_fast(rows: Mapping[str, Record], name: str) -> list[str]:
    """The other rows on the same device that may be as fast, by the rounds in which all of them took turns.

    The ratio of throughputs is taken round by round, so that what slowed both cancels out. A row may be as fast if the
    95% interval of the median ratio reaches 1, or if there are too few rounds for one.
    """
    best = np.array(rows[name]["throughput_rounds_img_s"])
    found = []
    for other, row in rows.items():
        if other != name and row["device"] == rows[name]["device"]:
            interval = median_interval(np.array(row["throughput_rounds_img_s"]) / best)
            if interval is None or interval[1] >= 1:
                found.append(other)
    return found
