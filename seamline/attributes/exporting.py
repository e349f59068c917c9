"""A model of attributes as ONNX, OpenVINO and INT8, compared with the weights in PyTorch garment by garment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seamline.attributes.labelled import MISSING, Ints
from seamline.attributes.measures import columns_of, labels_to_confusion, macro_f1
from seamline.attributes.network import AttributeNetwork
from seamline.base.coco import Record
from seamline.base.errors import SeamlineError, counted
from seamline.base.files import megabytes
from seamline.evaluation.bootstrap import draw_weights
from seamline.export.drops import DECIMALS, DRAWS, SEED, Drop, bounds_of_drop, cost_to_text, outcome_of, why_no_interval
from seamline.export.exact_bounds import bounds_of_mean
from seamline.export.onnx_files import module_to_onnx
from seamline.images.reading import Image
from seamline.inference.classifier import AttributeClassifier
from seamline.models.attribute_facts import AttributeFacts, attribute_facts_to_metadata
from seamline.models.exported import NOT_KNOWN, REFUSED

Logits = npt.NDArray[np.float32]
PREPROCESSING = (
    "cut out around the garment's box with the margin, fitted into imgsz x imgsz, centred on the mean colour, bilinear "
    "(Pillow's); RGB, 0 to 1, mean subtracted, divided by std, NCHW, one garment a batch"
)


class Gate(NamedTuple):
    """The garments of val that decide whether INT8 is good enough."""

    labels: Ints  # (n, attributes)
    groups: Ints  # (n,)
    sizes: Sequence[int]  # values of each attribute
    reference: Logits  # of the weights in PyTorch


def network_to_onnx(network: AttributeNetwork, facts: AttributeFacts, out: Path, opset: int) -> None:
    """Write an f32 ONNX file, 1 x 3 x imgsz x imgsz to 1 x outputs; equal weights give equal bytes."""
    import torch

    module = network.to("cpu").to(memory_format=torch.contiguous_format).eval()
    example = torch.zeros(1, 3, facts.imgsz, facts.imgsz)
    module_to_onnx(module, example, "images", ["logits"], out, opset, exported_metadata(facts))


def exported_metadata(facts: AttributeFacts) -> dict[str, str]:
    return {**attribute_facts_to_metadata(facts), "preprocessing": PREPROCESSING, "precision": "f32"}


def exported_logits(model: Path, parts: Sequence[Image]) -> tuple[Logits, str]:
    """A model's outputs for what was cut out of photos, and the precision that it computed them in."""
    with AttributeClassifier(model) as classifier:
        return classifier.logits(parts), classifier.precision


def agreement(found: Logits, reference: Logits, sizes: Sequence[int]) -> float:
    """Share of (garment, attribute) for which both take the same value for the likeliest."""
    same = [
        ours.argmax(axis=1) == theirs.argmax(axis=1)
        for ours, theirs in zip(columns_of(found, sizes), columns_of(reference, sizes), strict=True)
    ]
    return float(np.mean(same))


def row_of(model: Path, found: Logits, precision: str, reference: Logits, sizes: Sequence[int]) -> Record:
    """A model's entry in export.json.

    Args:
        found, reference: outputs of the model and of the weights in PyTorch, for the same garments.
    """
    return {
        "precision": precision,
        "model_mb": megabytes(model.parent if model.suffix == ".onnx" else model),
        "agreement": round(agreement(found, reference, sizes), DECIMALS),
        "max_abs_logit_difference": float(f"{np.abs(found - reference).max():.1g}"),
    }


def check_agreement(name: str, row: Record, least: float) -> None:
    """Raises SeamlineError when an f32 model does not name what PyTorch names."""
    if row["agreement"] < least:
        raise SeamlineError(
            f"{name}: names the same value as PyTorch in only {row['agreement']:.2%} of cases on val and test, less "
            f"than classify.min_agreement ({least:g}); try another export.opset or lower classify.min_agreement."
        )


def mean_f1(logits: Logits, gate: Gate, weights: Ints) -> npt.NDArray[np.float64]:
    """(draws,) of weights (draws, n): the mean macro F1 of the attributes that have a label in a draw."""
    values = [
        macro_f1(labels_to_confusion(gate.labels[:, column], own.argmax(axis=1), gate.sizes[column], weights))
        for column, own in enumerate(columns_of(logits, gate.sizes))
    ]
    known = ~np.isnan(values)
    found: npt.NDArray[np.float64] = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
    return found


def measure_drop(found: Logits, gate: Gate) -> Drop:
    """What a model costs in mean macro F1 on val, beside PyTorch.

    Bounds are of a paired bootstrap of groups; where both name the same everywhere, those of unchanged_bounds.
    """
    groups = len(np.unique(gate.groups[(gate.labels != MISSING).any(axis=1)]))
    if not is_renamed(found, gate):
        return Drop(0.0, unchanged_bounds(gate), groups)
    once = np.ones((1, len(gate.groups)), np.int64)
    value = float((mean_f1(gate.reference, gate, once) - mean_f1(found, gate, once))[0])
    weights = draw_weights(gate.groups, DRAWS, SEED)
    drawn = mean_f1(gate.reference, gate, weights) - mean_f1(found, gate, weights)
    return Drop(value, bounds_of_drop(value, drawn, weights, gate.groups, groups), groups)


def is_renamed(found: Logits, gate: Gate) -> bool:
    """Whether a model names any garment with a label otherwise than PyTorch does."""
    return any(
        (ours.argmax(axis=1) != theirs.argmax(axis=1))[gate.labels[:, column] != MISSING].any()
        for column, (ours, theirs) in enumerate(
            zip(columns_of(found, gate.sizes), columns_of(gate.reference, gate.sizes), strict=True)
        )
    )


def unchanged_bounds(gate: Gate) -> list[float] | None:
    """Between which bounds the drop lies where no prediction has changed; None where no garment has a label.

    Drawn again, such groups would always say 0. Clopper and Pearson's formula says in how large a share of all groups a
    prediction may change though it did in none of these; the bound is what that costs if those garments are hit that
    cost most, in the mean over the attributes.
    """
    most = []
    for column, own in enumerate(columns_of(gate.reference, gate.sizes)):
        labels = gate.labels[:, column]
        if count := len(np.unique(gate.groups[labels != MISSING])):
            _, share = bounds_of_mean(np.zeros(count))
            most.append(most_lost(labels_to_confusion(labels, own.argmax(axis=1), gate.sizes[column]), share))
    return [round(float(one * np.mean(most)), DECIMALS) for one in (-1, 1)] if most else None


def most_lost(confusion: npt.NDArray[np.float64], share: float) -> float:
    """About the most that macro F1 falls where this share of the garments is named otherwise, one after the other.

    Each is one whose value is named rightly and loses most F1 by it, and gets the name that loses most by one more.

    Args:
        confusion: (values, values + 1) of one attribute, as labels_to_confusion makes it.
    """
    moved, left = confusion.copy(), share * float(confusion.sum())
    while left > 0:
        right, size = np.diagonal(moved), moved.sum(1) + moved[:, :-1].sum(0)  # F1 is 2 * right / size
        squared = np.maximum(size, 1e-12) ** 2
        value = int(np.where(right > 0, (size - right) / squared, -1).argmax())
        others = np.where(size > 0, right / squared, -1)
        others[value] = -1
        other, count = int(others.argmax()), min(left, 1.0, float(right[value]))
        if count <= 0 or others[other] < 0:
            break
        moved[value, value] -= count
        moved[value, other] += count
        left -= count
    return float(macro_f1(confusion) - macro_f1(moved))


def drop_to_record(rung: str, drop: Drop, precision: str, max_drop: float) -> Record:
    """A rung's figures, and whether it is accepted, refused or not known to be either."""
    return {
        "rung": rung,
        "precision": precision,
        "macro_f1_drop": None if drop.value is None else round(drop.value, DECIMALS),
        "interval": drop.interval,
        "groups": drop.groups,
        "outcome": outcome_of(drop, max_drop) if precision == "int8" else REFUSED,
    }


def outcome_to_sentence(rung: Record, max_drop: float) -> str:
    """What the gate found, for people."""
    cost = f"on {counted(rung['groups'], 'group')} of val it {cost_to_text(rung['macro_f1_drop'], rung['interval'])}"
    if rung["outcome"] == REFUSED:
        return (
            f"INT8 costs more macro F1 than classify.int8.max_drop ({max_drop:g}) allows: {cost}; raise it, or train "
            "longer (classify.epochs)."
        )
    if rung["outcome"] == NOT_KNOWN:
        why = "" if rung["interval"] else f", but {why_no_interval(rung['groups'])}"
        if rung["interval"] and rung["macro_f1_drop"] == 0:
            why = "; it names the same, and more garments on val would tell more"
        return f"Whether INT8 costs more macro F1 than classify.int8.max_drop ({max_drop:g}) is not known: {cost}{why}."
    return f"accepted: {cost}, and classify.int8.max_drop allows {max_drop:g}"
