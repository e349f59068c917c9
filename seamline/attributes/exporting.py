"""A model of attributes as ONNX, OpenVINO and INT8, compared with the weights in PyTorch garment by garment."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
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
from seamline.export.openvino import save_openvino
from seamline.export.rcnn import EXPECTED_WARNINGS
from seamline.images.reading import Image
from seamline.inference.classifier import AttributeClassifier
from seamline.models.attribute_facts import AttributeFacts, attribute_facts_to_metadata
from seamline.models.engines.openvino import rt_info
from seamline.models.exported import NOT_KNOWN, REFUSED

Logits = npt.NDArray[np.float32]
# What is quantised on each rung: everything; the same with a zero point for activations. The first that is not refused
# is taken.
RUNGS = ("full", "with zero points")
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
    import onnx
    import torch

    with warnings.catch_warnings():
        for said in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", said)
        torch.onnx.export(
            network.to("cpu").to(memory_format=torch.contiguous_format).eval(),
            (torch.zeros(1, 3, facts.imgsz, facts.imgsz),),
            str(out),
            input_names=["images"],
            output_names=["logits"],
            opset_version=opset,
            dynamo=False,
        )
    model = onnx.load(out)
    for key, value in sorted(exported_metadata(facts).items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(out))


def exported_metadata(facts: AttributeFacts) -> dict[str, str]:
    return {**attribute_facts_to_metadata(facts), "preprocessing": PREPROCESSING, "precision": "f32"}


def quantise(f32: Path, out: Path, tensors: Sequence[npt.NDArray[np.float32]], rung: str) -> None:
    """Quantise an OpenVINO folder to INT8.

    Args:
        tensors: the model's inputs (1, 3, imgsz, imgsz) for garments of train, always all of them, in order.
        rung: one of RUNGS.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # says that there is no CUDA
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(f32 / "model.xml")
    metadata = rt_info(model)
    preset = nncf.QuantizationPreset.PERFORMANCE if rung == RUNGS[0] else nncf.QuantizationPreset.MIXED
    with contextlib.redirect_stdout(sys.stderr):  # NNCF's progress
        quantised = nncf.quantize(model, nncf.Dataset(list(tensors)), preset=preset, subset_size=len(tensors))
    save_openvino(quantised, out, {**metadata, "precision": "int8", "int8": rung})


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
    """What a model costs in mean macro F1 on val, beside PyTorch; bounds by a paired bootstrap of groups."""
    groups = len(np.unique(gate.groups[(gate.labels != MISSING).any(axis=1)]))
    once = np.ones((1, len(gate.groups)), np.int64)
    value = float((mean_f1(gate.reference, gate, once) - mean_f1(found, gate, once))[0])
    weights = draw_weights(gate.groups, DRAWS, SEED)
    drawn = mean_f1(gate.reference, gate, weights) - mean_f1(found, gate, weights)
    return Drop(value, bounds_of_drop(value, drawn, weights, gate.groups, groups), groups)


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
        return f"Whether INT8 costs more macro F1 than classify.int8.max_drop ({max_drop:g}) is not known: {cost}{why}."
    return f"accepted: {cost}, and classify.int8.max_drop allows {max_drop:g}"
