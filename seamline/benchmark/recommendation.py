"""Which row of the benchmark to use: among those that are known to be as accurate, the fastest beyond noise."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from seamline.base.coco import Record
from seamline.benchmark.figures import median_interval
from seamline.benchmark.tables import kind_of_rows
from seamline.models.exported import ACCEPTED, NOT_KNOWN, REFUSED

EVEN = 0.05  # ratios of throughputs that are called equal are known to be as near to 1
FASTER, EQUAL, UNSURE = "faster", "equally fast within noise", "not known which is faster"


def recommended(rows: Mapping[str, Record], max_drop: float) -> str:
    """The fastest row on the CPU that is known to be as accurate as the reference; a lossless one if it may be as fast.

    A row whose speed had not become steady is passed over, unless none had.

    Args:
        rows: as in benchmark.json; the first one is the reference.
        max_drop: of the primary mAP50-95, that a lossy format may cost (export.int8.max_drop).
    """
    reference, outcomes = next(iter(rows)), outcomes_of_rows(rows, max_drop)
    good = [
        name
        for name, row in rows.items()
        if name == reference or (row["device"] == "cpu" and outcomes[name] in (None, ACCEPTED))
    ]
    good = [name for name in good if rows[name]["steady"]] or good
    best = fastest(rows, good)
    even = [best, *(name for name in may_be_as_fast(rows, best) if name in good)]
    lossless = [name for name in even if outcomes[name] is None]
    return fastest(rows, lossless or [best])


def fastest(rows: Mapping[str, Record], names: Collection[str]) -> str:
    return max(names, key=lambda name: float(rows[name]["throughput_img_s"]))


def outcomes_of_rows(rows: Mapping[str, Record], max_drop: float) -> dict[str, str | None]:
    """Whether each row is known to cost no more than max_drop: ACCEPTED, REFUSED or NOT_KNOWN; None: the same model.

    A row of the reference's precision is the same model. Of another precision it is known from the gate of the export
    (INT8), or from the interval of the difference on test, which is made as that of the gate. A row that cost more on
    test than is allowed is refused, whatever else is known.
    """
    reference = next(iter(rows.values()))
    return {name: outcome_of_row(row, reference, max_drop) for name, row in rows.items()}


def outcome_of_row(row: Record, reference: Record, max_drop: float) -> str | None:
    delta = f"{kind_of_rows({'': row})}_mAP50_95_delta"
    if row[delta] < -max_drop:
        return REFUSED
    if row["precision"] == reference["precision"]:
        return None
    if row["int8_gate"] is not None:
        return str(row["int8_gate"])
    interval = row[f"{delta}_interval"]
    if interval is None:
        return NOT_KNOWN
    return ACCEPTED if interval[0] >= -max_drop else REFUSED if interval[1] < -max_drop else NOT_KNOWN


def faster_but_not_known(rows: Mapping[str, Record], best: str, max_drop: float) -> list[str]:
    """Rows that are faster than the recommended one, and would be recommended if it were known what they cost."""
    outcomes, speeds = outcomes_of_rows(rows, max_drop), may_be_as_fast(rows, best)
    return [name for name, speed in speeds.items() if speed == FASTER and outcomes[name] == NOT_KNOWN]


def may_be_as_fast(rows: Mapping[str, Record], name: str) -> dict[str, str]:
    """The other rows on the same device that may be as fast, by the rounds in which all of them took turns.

    The ratio of throughputs is taken round by round, so that what slowed both cancels out. A row may be as fast if the
    95% interval of the median ratio reaches 1, or if there are too few rounds for one.

    Returns:
        Of each row FASTER where its whole interval is above 1, EQUAL where it is within EVEN of 1, else UNSURE; UNSURE
        too where one of both had not become steady.
    """
    best = np.array(rows[name]["throughput_rounds_img_s"])
    found = {}
    for other, row in rows.items():
        if other != name and row["device"] == rows[name]["device"]:
            interval = median_interval(np.array(row["throughput_rounds_img_s"]) / best)
            if interval is None or interval[1] >= 1:
                steady = row["steady"] and rows[name]["steady"]
                found[other] = verdict_of(interval) if steady else UNSURE
    return found


def verdict_of(ratio: tuple[float, float] | None) -> str:
    if ratio is None:
        return UNSURE
    low, high = ratio
    return FASTER if low > 1 else EQUAL if max(1 - low, high - 1) <= EVEN else UNSURE
