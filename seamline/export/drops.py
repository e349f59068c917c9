"""What INT8 costs on photos that the model was not trained on, how sure that is, and what follows."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO
from scipy.special import stdtrit

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError, counted
from seamline.evaluation.average_precision import Floats, Ints, Matches, average_precision, read_ground_truth
from seamline.evaluation.bootstrap import draw_weights, groups_showing, mean_of_classes, sample_precisions
from seamline.evaluation.measure import groups_beside
from seamline.models.exported import ACCEPTED, NOT_KNOWN, REFUSED
from seamline.params.evaluate import IouThresholds

DRAWS = 1000
SEED = 0
DECIMALS = 5  # of reports/export.json
FEWEST = 50  # groups; draws of fewer vary too little to say anything
# Nominal levels of the two one-sided bounds. Draws of a small split vary less than small splits do, so that a nominal
# 95% of the upper bound would be 87% to 92%; with these the errors are about 5% (bench/gates.py, docs/evaluation.md).
UPPER_LEVEL, LOWER_LEVEL = 0.99, 0.95


class Gate(NamedTuple):
    """The photos that decide whether INT8 is good enough."""

    on: str  # export.int8.gate_on
    truth: COCO
    groups: Ints  # (images,): of each image, in the order of their ids
    test: Path | None  # test's COCO file, where it counts beside val
    left_out: int  # photos that train has too, or that belong to a group of which train has a photo

    @property
    def photos(self) -> str:
        return self.on.replace("+", " and ")


class Drop(NamedTuple):
    """How much lower mAP50-95 is than the reference's, on the photos of a gate."""

    value: float | None  # None: the photos show nothing
    interval: list[float] | None  # [low, high]: one-sided bounds, each right in 95 of 100 cases; None: not known
    groups: int = 0  # of the photos, those that show an instance


def read_gate(split: Path, on: str) -> Gate:
    """The photos that count, with their instances: those of val, or of val and test, that train does not know.

    Args:
        split: folder with train.json, val.json, test.json and groups.json.
        on: export.int8.gate_on.

    Raises:
        SeamlineError: when an image is in no group.
    """
    names, group_of = on.split("+"), groups_beside(split / "val.json")
    train, *parts = (read_ground_truth(split / f"{name}.json") for name in ("train", *names))
    file_names = {image["file_name"] for image in train.imgs.values()}
    trained = {group_of.get(str(number)) for number in train.imgs} - {None}
    every = {number: image for part in parts for number, image in part.imgs.items()}
    missing = [number for number in every if str(number) not in group_of]
    if missing:
        raise SeamlineError(f"{split / 'groups.json'}: lacks image {missing[0]}; the split stage makes it.")
    known = [
        number
        for number, image in sorted(every.items())
        if not (number in train.imgs or image["file_name"] in file_names or group_of[str(number)] in trained)
    ]
    truth = COCO()
    truth.dataset = {
        "images": [every[number] for number in known],
        "annotations": [one for part in parts for one in part.anns.values() if one["image_id"] in set(known)],
        "categories": list(parts[0].cats.values()),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    groups = np.array([group_of[str(number)] for number in known], dtype=np.int64)
    return Gate(on, truth, groups, split / "test.json" if "test" in names else None, len(every) - len(known))


def gate_to_record(gate: Gate) -> Record:
    """The gate's photos, as reports/export.json has them."""
    groups = len(np.unique(gate.groups))
    return {"on": gate.on, "images": len(gate.groups), "groups": groups, "left_out": gate.left_out}


def measure_drop(
    gate: Gate, reference: Sequence[Record], found: Sequence[Record], kind: str, ious: IouThresholds
) -> Drop:
    """What a model costs beside the reference; both are COCO results, of other images as well."""
    if not gate.truth.imgs:
        return Drop(None, None)
    known = [[one for one in records if one["image_id"] in gate.truth.imgs] for records in (reference, found)]
    first, other = (average_precision(gate.truth, records, kind, ious) for records in known)
    ours, theirs = first.summary["mAP50_95"], other.summary["mAP50_95"]
    if ours is None or theirs is None:
        return Drop(None, None)
    shown = groups_showing(first.matches, gate.groups)
    return Drop(ours - theirs, drop_interval(first.matches, other.matches, gate.groups), shown)


def drop_interval(reference: Matches, found: Matches, groups: Ints, seed: int = SEED) -> list[float] | None:
    """Between which bounds the drop in mAP50-95 lies, by a paired bootstrap of groups; see Drop.

    Args:
        reference, found: of the two models, on the same images.
        groups: (images,): what is drawn together.

    Returns:
        None with fewer than FEWEST groups that show an instance, and where every draw gives the same drop.
    """
    shown = groups_showing(reference, groups)
    if shown < FEWEST:
        return None
    weights = draw_weights(groups, DRAWS, seed)
    value = float(drops_of(reference, found, np.ones((1, len(groups)), dtype=np.int64))[0])
    return bounds_of_drop(value, drops_of(reference, found, weights), weights, groups, shown)


def bounds_of_drop(value: float, drawn: Floats, weights: Ints, groups: Ints, shown: int) -> list[float] | None:
    """Between which bounds the drop in a figure lies, from its draws; see Drop.

    Half the width is the draws' standard deviation times Student's t. What INT8 costs is often lost on a few photos, so
    both bounds are moved by the skewness, as the Edgeworth expansion of a studentised mean says (Hall 1992, The
    Bootstrap and Edgeworth Expansion). It is that of the groups' influences: their covariances with the draws (Efron
    2014, Estimation and Accuracy after Model Selection).

    Args:
        value: the drop itself.
        drawn: (draws,): the drop in each; NaN where it shows nothing.
        weights: (draws, images) of draw_weights.
        groups: (images,): what is drawn together.
        shown: groups that show something.

    Returns:
        None with fewer than FEWEST groups, and where every draw gives the same drop.
    """
    if shown < FEWEST:
        return None
    weights, drawn = weights[~np.isnan(drawn)], drawn[~np.isnan(drawn)]
    deviation = float(drawn.std()) * math.sqrt(shown / (shown - 1))
    if not deviation > 0:
        return None
    _, one_of_each = np.unique(groups, return_index=True)
    influences = (weights[:, one_of_each] - 1).T @ (drawn - drawn.mean())
    skewness = float(np.mean((influences - influences.mean()) ** 3) / influences.std() ** 3)
    bounds = []
    for level, direction in ((LOWER_LEVEL, -1), (UPPER_LEVEL, 1)):
        t = float(stdtrit(shown - 1, level))
        shift = skewness / (6 * math.sqrt(shown)) * (1 + 2 * t**2)
        bounds.append(round(value + deviation * (direction * t + shift), 6))
    return bounds


def drops_of(reference: Matches, found: Matches, weights: Ints) -> Floats:
    """(samples,) of weights (samples, images)."""
    first, other = (mean_of_classes(sample_precisions(matches, weights)) for matches in (reference, found))
    drops: Floats = first - other
    return drops


def outcome_of(drop: Drop, max_drop: float) -> str:
    """Whether a drop is known to be allowed, known not to be, or neither."""
    if drop.interval is None:
        return NOT_KNOWN
    low, high = drop.interval
    return ACCEPTED if high <= max_drop else REFUSED if low > max_drop else NOT_KNOWN


def cost_to_text(value: float | None, interval: Sequence[float] | None) -> str:
    """Such as "costs 0.0004 (-0.0080 to 0.0106)", or "gains 0.0002" where a drop is negative.

    Rounded as in reports/export.json first, so that one drop reads alike wherever it is said.
    """
    if value is None:
        return "costs an unknown amount"
    shown = f"{round(value, DECIMALS):.4f}"
    if shown in ("0.0000", "-0.0000"):
        verb, sign = "costs nothing measurable", 1
    else:
        verb, sign = (f"gains {shown[1:]}", -1) if shown.startswith("-") else (f"costs {shown}", 1)
    if interval is None:
        return verb
    low, high = sorted(sign * round(one, DECIMALS) + 0.0 for one in interval)
    return f"{verb} ({low:.4f} to {high:.4f})"


def why_no_interval(groups: int) -> str:
    """Which of drop_interval's two conditions is not met: how many groups there are, or how the draws differ."""
    if groups < FEWEST:
        return (
            f"these are only {counted(groups, 'group')} that show an instance (photos that belong together are one "
            f"group), and an interval needs {FEWEST}"
        )
    return f"it is the same however the {groups} groups of photos are drawn again, so that there is no interval"
