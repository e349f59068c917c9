"""How good a model of attributes is, attribute by attribute: with intervals by groups, beside the majority."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from seamline.attributes.calibration import abstaining, find_temperature, find_threshold, log_loss
from seamline.attributes.labelled import MISSING, Ints
from seamline.attributes.measures import accuracy, columns_of, labels_to_confusion, macro_f1, per_value
from seamline.base.coco import Record
from seamline.base.splits import MEASURED_SPLITS
from seamline.evaluation.bootstrap import interval, weights_without

Floats = npt.NDArray[np.floating]
Attributes = Mapping[str, Sequence[str]]
DECIMALS = 6


def calibration_of(logits: Floats, labels: Ints, attributes: Attributes, target_accuracy: float) -> Record:
    """Temperature and threshold of each attribute, chosen on val.

    Args:
        logits: (n, outputs) on val.
        labels: (n, attributes).
    """
    found: Record = {}
    for column, (name, own) in enumerate(own_columns(logits, attributes)):
        temperature = find_temperature(own, labels[:, column])
        threshold = find_threshold(own, labels[:, column], temperature, target_accuracy)
        on_val = abstaining(own, labels[:, column], temperature, threshold)
        found[name] = {
            "temperature": temperature,
            "threshold": threshold,
            "reached": on_val.accuracy is not None and on_val.accuracy >= target_accuracy,
        }
    return found


def own_columns(logits: Floats, attributes: Attributes) -> list[tuple[str, Floats]]:
    sizes = [len(values) for values in attributes.values()]
    return list(zip(attributes, columns_of(logits, sizes), strict=True))


def evaluate_attributes(
    logits: Floats,
    labels: Ints,
    groups: Ints,
    train_labels: Ints,
    attributes: Attributes,
    calibration: Record,
    seed: int,
) -> Record:
    """The figures of each attribute on a split.

    Args:
        logits: (n, outputs) of its garments.
        labels: (n, attributes).
        groups: (n,): the number of each garment's group.
        train_labels: of train, whose most frequent value is the majority's.
        calibration: of calibration_of.
        seed: of the parts that the intervals leave out, where there are more groups than parts.
    """
    found: Record = {}
    for column, (name, own) in enumerate(own_columns(logits, attributes)):
        values, truth = attributes[name], labels[:, column]
        majority = majority_of(train_labels[:, column], len(values))
        temperature, threshold = calibration[name]["temperature"], calibration[name]["threshold"]
        named = abstaining(own, truth, temperature, threshold)
        found[name] = {
            **measured(truth, own.argmax(axis=1), groups, values, seed),
            "majority": {"value": values[majority], **plain_figures(truth, np.full(len(truth), majority), len(values))},
            "log_loss": rounded(log_loss(own, truth, temperature)),
            "log_loss_uncalibrated": rounded(log_loss(own, truth)),
            "abstaining": {
                "threshold": threshold,
                "named": named.named,
                "coverage": rounded(named.coverage),
                "accuracy": rounded(named.accuracy),
            },
        }
    return found


def majority_of(train_labels: Ints, size: int) -> int:
    """The most frequent value among the labels (n,) that are there; of equally frequent ones the first."""
    return int(np.bincount(train_labels[train_labels != MISSING], minlength=size).argmax())


def measured(labels: Ints, predicted: Ints, groups: Ints, values: Sequence[str], seed: int) -> Record:
    """Of one attribute; a garment whose prediction is MISSING was not found, and counts as wrong.

    Args:
        labels, predicted, groups: (n,).
        values: names of the attribute's values.
        seed: see evaluate_attributes.
    """
    there = labels != MISSING
    confusion = labels_to_confusion(labels, predicted, len(values))
    left_out = labels_to_confusion(labels[there], predicted[there], len(values), weights_without(groups[there], seed))
    count = len(np.unique(groups[there]))
    figures = plain_figures(labels, predicted, len(values))
    of_values = per_value(confusion)
    return {
        "observed": int(there.sum()),
        "missing": int((~there).sum()),
        "groups": count,
        "accuracy": figures["accuracy"],
        "accuracy_interval": interval(accuracy(left_out), count, figures["accuracy"]),
        "macro_f1": figures["macro_f1"],
        "macro_f1_interval": interval(macro_f1(left_out), count, figures["macro_f1"]),
        "values": {
            value: {
                "precision": rounded(of_values.precision[index]),
                "recall": rounded(of_values.recall[index]),
                "f1": rounded(of_values.f1[index]),
                "support": int(of_values.support[index]),
            }
            for index, value in enumerate(values)
        },
        "not_found": int(confusion[:, -1].sum()),
        "confusion": confusion[:, :-1].astype(int).tolist(),  # actual by predicted, in the order of the values
    }


def plain_figures(labels: Ints, predicted: Ints, size: int) -> dict[str, float | None]:
    confusion = labels_to_confusion(labels, predicted, size)
    return {"accuracy": rounded(float(accuracy(confusion))), "macro_f1": rounded(float(macro_f1(confusion)))}


def rounded(value: float | None) -> float | None:
    """None for what there is nothing of."""
    return None if value is None or np.isnan(value) else round(float(value), DECIMALS)


def accuracy_summary(metrics: Record) -> Record:
    """What `dvc metrics show` and `dvc exp show` print: each attribute's macro F1 on val, to choose by, and on test."""
    return {
        split: {f"{name}_f1": figures["macro_f1"] for name, figures in metrics[split].items()}
        for split in MEASURED_SPLITS
    }


def mean_of(attributes: Record) -> str:
    """The mean macro F1 of a split's attributes, as text; those without a label are left out."""
    known = [figures["macro_f1"] for figures in attributes.values() if figures["macro_f1"] is not None]
    return f"{np.mean(known):.3f}" if known else "not known"
