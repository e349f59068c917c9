"""What a score threshold does: precision, recall and F1 over it, and the best one.

From pycocotools' matches at IoU 0.5: a prediction is right when it is matched to an instance; one matched to a crowd
region is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seamline.evaluation.average_precision import Bools, Curve, Floats, Ints, Matches

THRESHOLDS = np.round(np.linspace(0, 1, 101), 2)
USUAL_THRESHOLD = 0.25


class Operating(NamedTuple):
    """Counts of each class at each of THRESHOLDS: (classes, thresholds); a prediction counts at its score or below."""

    names: list[str]
    right: Ints
    predicted: Ints
    instances: Ints  # (classes,)

    def precision(self) -> Floats:
        """NaN where nothing is predicted."""
        return ratio(self.right, self.predicted)

    def recall(self) -> Floats:
        """NaN where there is no instance."""
        return ratio(self.right, np.broadcast_to(self.instances[:, None], self.right.shape))

    def f1(self) -> Floats:
        """2 TP / (2 TP + FP + FN); NaN where there is no instance."""
        found = ratio(2 * self.right, self.predicted + self.instances[:, None])
        found[self.instances == 0] = np.nan
        return found


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    found: Floats = np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
    return found


def right_and_counted(matches: Matches) -> tuple[Bools, Bools]:
    """(n,): predictions matched to an instance at the lowest IoU threshold, and those not matched to a crowd region."""
    instance = matches.instance[0]
    in_crowd = (instance >= 0) & np.append(matches.crowd, False)[instance]
    return (instance >= 0) & ~in_crowd, ~in_crowd


def matches_to_operating(matches: Matches) -> Operating:
    right, counted = right_and_counted(matches)
    classes = len(matches.names)
    # The highest threshold that a score reaches, so that sums from the right count those of it and above.
    step = np.searchsorted(THRESHOLDS, matches.score, side="right") - 1
    counts = []
    for chosen in (right, counted):
        cells = matches.class_index[chosen] * len(THRESHOLDS) + step[chosen]
        at = np.bincount(cells, minlength=classes * len(THRESHOLDS)).reshape(classes, -1)
        counts.append(np.cumsum(at[:, ::-1], axis=1)[:, ::-1].astype(np.int64))
    instances = np.bincount(matches.instance_class[~matches.crowd], minlength=classes).astype(np.int64)
    return Operating(matches.names, counts[0], counts[1], instances)


def mean_of_shown(operating: Operating, values: Floats) -> Floats:
    """Mean of values (classes, thresholds) over the classes with instances, without NaN; NaN where nothing is left."""
    shown = values[operating.instances > 0]
    known = ~np.isnan(shown)
    found: Floats = ratio(np.where(known, shown, 0).sum(axis=0), known.sum(axis=0))
    return found


def best_f1_threshold(operating: Operating) -> float:
    """The lowest of THRESHOLDS with the best mean F1 of the classes; USUAL_THRESHOLD where nothing is right."""
    f1 = np.nan_to_num(mean_of_shown(operating, operating.f1()))
    return float(THRESHOLDS[int(f1.argmax())]) if f1.max() > 0 else USUAL_THRESHOLD


def operating_to_point(operating: Operating, threshold: float) -> dict[str, Any]:
    """Precision, recall and F1 at one of THRESHOLDS, averaged over the classes with instances, and for each class.

    None where undefined. Beside them the counts that they come from, of all classes together and of each.
    """
    at = int(np.searchsorted(THRESHOLDS, threshold))
    kinds = {"precision": operating.precision(), "recall": operating.recall(), "F1": operating.f1()}
    counts = [
        {
            "right": int(operating.right[index, at]),
            "false_alarms": int(operating.predicted[index, at] - operating.right[index, at]),
            "missed": int(operating.instances[index] - operating.right[index, at]),
        }
        for index in range(len(operating.names))
    ]
    return {
        **{key: number(mean_of_shown(operating, values)[at]) for key, values in kinds.items()},
        **{key: sum(row[key] for row in counts) for key in ("right", "false_alarms", "missed")},
        "classes": {
            name: {**{key: number(values[index, at]) for key, values in kinds.items()}, **counts[index]}
            for index, name in enumerate(operating.names)
        },
    }


def number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def operating_to_table(operating: Operating) -> tuple[list[str], list[list[Any]]]:
    """Header and one row per threshold: mean precision, recall and F1 of the classes, then F1 of each class.

    Only classes with instances; a cell is empty where nothing is predicted.
    """
    shown = np.flatnonzero(operating.instances > 0)
    means = [mean_of_shown(operating, values) for values in (operating.precision(), operating.recall(), operating.f1())]
    columns = [THRESHOLDS, *means, *operating.f1()[shown]]
    header = ["confidence", "precision", "recall", "F1", *(f"F1 {operating.names[index]}" for index in shown)]
    return header, [[number(column[row]) for column in columns] for row in range(len(THRESHOLDS))]


def curves_to_table(curves: Sequence[Curve]) -> tuple[list[str], list[list[float]]]:
    """Header and one row per recall: the mean precision of the classes, then that of each class."""
    recalls = curves[0].recall if curves else []
    rows = []
    for index, recall in enumerate(recalls):
        precisions = [curve.precision[index] for curve in curves]
        mean = sum(precisions) / len(precisions)
        rows.append([recall, *(round(value, 6) for value in (mean, *precisions))])
    return ["recall", "precision", *(f"precision {curve.name}" for curve in curves)], rows
