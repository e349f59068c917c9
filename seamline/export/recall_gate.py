"""Whether INT8 finds what f32 finds: the nearest garment among the nearest ten, on photos that train does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seamline.base.coco import Record
from seamline.base.errors import counted
from seamline.evaluation.average_precision import Floats, Ints
from seamline.export.exact_bounds import bounds_of_mean
from seamline.models.arrays import Floats as Vectors
from seamline.models.exported import ACCEPTED, NOT_KNOWN, REFUSED

AMONG = 10
DECIMALS = 5


class Lost(NamedTuple):
    """How much recall is lost: the mean over groups of photos of their garments' share that is."""

    value: float | None  # None: there is no garment, or all are of one photo
    low: float  # bounds, each right in at least 95 of 100 cases
    high: float
    garments: int
    groups: int


def measure_lost(reference: Vectors, found: Vectors, photos: Ints, groups: Ints) -> Lost:
    """Of how many garments the nearest by the reference's vectors is not among the ten nearest by the others.

    Args:
        reference, found: (n, dimension), of length 1.
        photos: (n,), of each garment; those of its own photo do not count as its neighbours.
        groups: (n,), of photos that belong together; they are one observation.
    """
    if len(np.unique(photos)) < 2:
        return Lost(None, 0.0, 1.0, len(photos), len(np.unique(groups)))
    nearest = np.argmax(likeness(reference, photos), axis=1)
    among = np.argsort(-likeness(found, photos), axis=1, kind="stable")[:, :AMONG]
    lost = (among != nearest[:, None]).all(axis=1)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    shares = np.bincount(group, weights=lost) / sizes
    return Lost(float(shares.mean()), *bounds_of_mean(shares), len(photos), len(shares))


def likeness(vectors: Vectors, photos: Ints) -> Floats:
    """(n, n) cosines, -inf for what is of one photo."""
    found: Floats = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    found[photos[:, None] == photos[None]] = -np.inf
    return found


def outcome_of(lost: Lost, most: float) -> str:
    """Whether what is lost is known to be allowed, known not to be, or neither."""
    if lost.value is None:
        return NOT_KNOWN
    return ACCEPTED if lost.high <= most else REFUSED if lost.low > most else NOT_KNOWN


def lost_to_record(lost: Lost, rung: str, precision: str, most: float) -> Record:
    """One rung, as reports/embedder.json has it."""
    return {
        "rung": rung,
        "precision": precision,
        "recall_drop": None if lost.value is None else round(lost.value, DECIMALS),
        "interval": [round(lost.low, DECIMALS), round(lost.high, DECIMALS)],
        "garments": lost.garments,
        "groups": lost.groups,
        # A quantiser that left everything as it was has won nothing.
        "outcome": outcome_of(lost, most) if precision == "int8" else REFUSED,
    }


def outcome_to_sentence(rungs: Sequence[Record], photos: str, most: float) -> str:
    """What the last rung's outcome is and why, for the model's folder and the report."""
    last = rungs[-1]
    if last["precision"] != "int8":
        return "There is no INT8 embedder: the quantiser left nothing INT8."
    seen = f"{counted(last['garments'], 'garment')} in {counted(last['groups'], 'group')} of {photos}'s photos"
    if last["recall_drop"] is None:
        return f"Whether INT8 finds what f32 finds is not known: {photos} shows no garments of two photos."
    low, high = last["interval"]
    share = f"{last['recall_drop']:.3f} of them ({low:.3f} to {high:.3f})"
    said = f"f32's nearest garment is not among INT8's nearest {AMONG} for {share}, over {seen}"
    allowed = f"embed.int8.max_recall_drop ({most:g})"
    if last["outcome"] == REFUSED:
        return f"INT8 loses more than {allowed} allows: {said}; raise it, or use f32."
    if last["outcome"] == ACCEPTED:
        return f"INT8 is accepted: {said}, within {allowed}."
    return f"Whether INT8 keeps within {allowed} is not known: {said}. Give val more photos (split.ratios)."
