"""INT8: quantised on as many rungs as it takes until average precision holds."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from seamline.base.coco import Record
from seamline.export.comparison import figure_name
from seamline.export.exporters import exporter_of
from seamline.export.openvino import save_openvino
from seamline.images.reading import read_image
from seamline.models.arrays import Canvases, Floats, Outputs
from seamline.models.engines.engine import Engine
from seamline.models.engines.openvino import rt_info
from seamline.models.families import Family, family_of
from seamline.models.model_facts import ModelFacts, metadata_to_facts

T = TypeVar("T")
# How much is quantised on each rung: everything except what joins and decodes the outputs; not the head either, which
# finds boxes and masks; layer by layer, what NNCF finds to do no harm. The first rung that keeps mAP50-95 is taken.
ACCURACY_CONTROL = "accuracy control"
RUNGS = ("full", "head in f32", ACCURACY_CONTROL)


def quantise(
    f32: Path,
    out: Path,
    calibration: Sequence[Path],
    rung: str,
    max_drop: float,
    validate: Callable[[Engine], float],
    validation: Sequence[Path],
) -> None:
    """Quantise an OpenVINO folder to INT8.

    Args:
        calibration: images from which the ranges of activations are taken; always all of them, in order.
        rung: one of RUNGS.
        max_drop: for accuracy control: what it may cost.
        validate: for accuracy control: mAP50-95 of a model.
        validation: for accuracy control: the images that validate looks at.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # says that there is no CUDA
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(f32 / "model.xml")
    metadata = rt_info(model)
    facts = metadata_to_facts(metadata, f32)
    family = family_of(facts.family, f32)

    def tensor_of(path: Path) -> Floats:
        return family.canvases_to_tensor(family.image_to_canvas(read_image(path), facts)[0][None])

    def validation_fn(compiled: Any, items: Iterable[Path]) -> float:
        for _ in items:  # NNCF counts them; the metric is of all images or none
            pass
        return validate(CompiledEngine(compiled, facts, family))

    images = nncf.Dataset(list(calibration), tensor_of)
    ignored = exporter_of(facts.family, f32).ignored_operations(operation_names(model), rung)
    options = {
        "preset": nncf.QuantizationPreset.MIXED,  # asymmetric activations, which SiLU's need
        "subset_size": len(calibration),
        "ignored_scope": nncf.IgnoredScope(names=ignored),
    }
    with contextlib.redirect_stdout(sys.stderr):  # NNCF's progress
        if rung == ACCURACY_CONTROL:
            drop = {"max_drop": max_drop, "drop_type": nncf.DropType.ABSOLUTE}
            validation_images = nncf.Dataset(list(validation), tensor_of)
            quantised = nncf.quantize_with_accuracy_control(
                model, images, validation_images, validation_fn, **drop, **options
            )
        else:
            quantised = nncf.quantize(model, images, **options)
    save_openvino(quantised, out, metadata | {"precision": "int8", "int8": rung})


def operation_names(model: Any) -> list[str]:
    """The operations of an OpenVINO model, in order."""
    return [
        operation.get_friendly_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() not in ("Constant", "Parameter", "Result")
    ]


class CompiledEngine:
    """A model that OpenVINO has compiled, as accuracy control hands it over: one image at a time."""

    precision, streams, callers = "int8", 1, 1

    def __init__(self, compiled: Any, facts: ModelFacts, family: Family) -> None:
        self.compiled, self.facts, self.family = compiled, facts, family

    def infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        outputs = self.compiled([self.family.canvases_to_tensor(canvases)])
        return decode(tuple(outputs[index] for index in range(len(self.compiled.outputs))))

    infer_beside = infer


def rungs_until_one_holds(
    quantise_to: Callable[[str], None],
    measure: Callable[[], tuple[float, str]],
    kind: str,
    reference: float,
    max_drop: float,
) -> list[Record]:
    """Quantise rung by rung until mAP50-95 drops by no more than max_drop, or there is no rung left.

    Args:
        quantise_to: makes the model of a rung.
        measure: mAP50-95 of the model just made, and the precision it computes in.
        kind: mask or box: what average precision is of.
        reference: PyTorch's mAP50-95.
        max_drop: allowed, as a difference of the two.

    Returns:
        The rungs tried, each with its figures unrounded; why_no_int8 says whether the last one holds.
    """
    rungs: list[Record] = []
    for rung in RUNGS:
        quantise_to(rung)
        average_precision, precision = measure()
        drop = reference - average_precision
        rungs.append({"rung": rung, figure_name(kind): average_precision, "drop": drop, "precision": precision})
        if holds(rungs[-1], max_drop):
            break
    return rungs


def holds(rung: Record, max_drop: float) -> bool:
    """Accuracy control may put every layer back, and then nothing is lost and nothing won."""
    return bool(rung["drop"] <= max_drop and rung["precision"] == "int8")


def why_no_int8(rungs: Sequence[Record], kind: str, max_drop: float) -> str | None:
    """The reason in a sentence where no rung holds; None where the last one does."""
    if holds(rungs[-1], max_drop):
        return None
    costs = ", ".join(
        f"{rung['drop']:.4f} with {rung['rung']}" + ("" if rung["precision"] == "int8" else ", which left nothing INT8")
        for rung in rungs
    )
    return (
        f"INT8 costs more {kind} mAP50-95 on val than export.int8.max_drop ({max_drop:g}) allows: {costs}; "
        "raise export.int8.max_drop or train longer (train.epochs)."
    )


def rungs_to_records(rungs: Sequence[Record]) -> list[Record]:
    """The rungs tried, as reports/export.json has them: figures with five decimals."""
    return [
        {key: round(value, 5) if isinstance(value, float) else value for key, value in rung.items()} for rung in rungs
    ]
