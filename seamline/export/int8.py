"""INT8: quantised on as many rungs as it takes until average precision is not known to suffer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from seamline.base.coco import Record
from seamline.base.errors import counted
from seamline.export.comparison import figure_name
from seamline.export.drops import DECIMALS, Drop, Gate, cost_to_text, gate_to_record, outcome_of, why_no_interval
from seamline.export.exporters import exporter_of
from seamline.export.openvino import save_openvino
from seamline.export.quantising import FULL, ZERO_POINTS, preset_of, quiet_nncf, tried_rungs
from seamline.images.reading import read_image
from seamline.models.arrays import Canvases, Floats, Outputs
from seamline.models.engines.engine import Engine
from seamline.models.engines.openvino import rt_info
from seamline.models.exported import NOT_KNOWN, REFUSED
from seamline.models.families import Family, family_of
from seamline.models.model_facts import ModelFacts, metadata_to_facts

T = TypeVar("T")
# What is quantised on each rung: everything except what joins and decodes the outputs; the same with a zero point for
# activations, which spends no numbers on values that SiLU never has, but takes up to twice as long; not the head, which
# finds boxes and masks; layer by layer, what NNCF finds to do no harm. The first rung that is not refused is taken.
ACCURACY_CONTROL = "accuracy control"
RUNGS = (FULL, ZERO_POINTS, "head in f32", ACCURACY_CONTROL)
# The same for sentences.
SAID = {
    FULL: "with all layers quantised",
    ZERO_POINTS: "with all layers quantised and zero points",
    "head in f32": "with the head left in f32",
    ACCURACY_CONTROL: "with layers put back to f32 by accuracy control",
}


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
    import openvino

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

    ignored = exporter_of(facts.family, f32).ignored_operations(operation_names(model), rung)
    with quiet_nncf() as nncf:
        images = nncf.Dataset(list(calibration), tensor_of)
        options = {
            "preset": preset_of(nncf, rung),
            "subset_size": len(calibration),
            "ignored_scope": nncf.IgnoredScope(names=ignored),
        }
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
    device, readers, tensors = "cpu", 0, None

    def __init__(self, compiled: Any, facts: ModelFacts, family: Family) -> None:
        self.compiled, self.facts, self.family = compiled, facts, family

    def infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        outputs = self.compiled([self.family.canvases_to_tensor(canvases)])
        return decode(tuple(outputs[index] for index in range(len(self.compiled.outputs))))

    infer_beside = infer


def rungs_until_one_holds(
    quantise_to: Callable[[str], None],
    measure: Callable[[], tuple[float, str, Drop]],
    kind: str,
    reference: float,
    max_drop: float,
) -> list[Record]:
    """Quantise rung by rung until one is not refused, or there is no rung left.

    Args:
        quantise_to: makes the model of a rung.
        measure: mAP50-95 on val of the model just made, the precision it computes in, its drop on the gate's photos.
        kind: mask or box: what average precision is of.
        reference: PyTorch's mAP50-95 on val.
        max_drop: allowed, as a difference of the two.

    Returns:
        The rungs tried, each with its figures unrounded and its outcome; the last one's is that of INT8.
    """

    def try_rung(rung: str) -> Record:
        quantise_to(rung)
        average_precision, precision, drop = measure()
        return {
            "rung": rung,
            "said": SAID[rung],
            figure_name(kind): average_precision,
            "drop": reference - average_precision,
            "precision": precision,
            "gate_drop": drop.value,
            "gate_interval": drop.interval,
            "gate_groups": drop.groups,
            # Accuracy control may put every layer back, and then nothing is lost and nothing won.
            "outcome": outcome_of(drop, max_drop) if precision == "int8" else REFUSED,
        }

    return tried_rungs(RUNGS, try_rung)


def why_no_int8(rungs: Sequence[Record], kind: str, gate: Gate, max_drop: float) -> str | None:
    """The reason in a sentence where every rung is refused; None where the last one is not."""
    if rungs[-1]["outcome"] != REFUSED:
        return None
    costs = ", ".join(
        f"{cost_to_text(rung['gate_drop'], rung['gate_interval'])} {rung['said']}"
        + ("" if rung["precision"] == "int8" else ", which left nothing INT8")
        for rung in rungs
    )
    return (
        f"INT8 costs more {kind} mAP50-95 on {gate.photos} than export.int8.max_drop ({max_drop:g}) allows: "
        f"it {costs}; raise export.int8.max_drop or train longer (train.epochs)."
    )


def why_not_known(rungs: Sequence[Record], kind: str, gate: Gate, max_drop: float) -> str | None:
    """What is not known of the last rung, in a sentence; None where its outcome is another."""
    last = rungs[-1]
    if last["outcome"] != NOT_KNOWN:
        return None
    wider = "" if gate.test else ", or set export.int8.gate_on to val+test"
    photos = f"{counted(len(gate.groups), 'photo')} of {gate.photos}"
    if last["gate_drop"] is not None:
        measured = f"on {photos} it {cost_to_text(last['gate_drop'], last['gate_interval'])}"
        measured += "" if last["gate_interval"] else f", but {why_no_interval(last['gate_groups'])}"
    elif len(gate.groups):
        measured = f"{photos} show no instance to measure it on"
    else:
        measured = f"all photos of {gate.photos} are in groups of train, so that none is left to measure it on"
    return (
        f"Whether INT8 costs more {kind} mAP50-95 than export.int8.max_drop ({max_drop:g}) allows is not known: "
        f"{measured}. Give val more photos (split.ratios){wider}."
    )


def outcome_metadata(rung: Record, gate: Gate) -> dict[str, str]:
    """What the model file says of its gate, for whoever opens it without reports/export.json."""
    drop = cost_to_text(rung["gate_drop"], rung["gate_interval"])
    return {
        "int8_gate": rung["outcome"],
        "int8_drop": f"{drop} on {counted(len(gate.groups), 'photo')} of {gate.photos}",
    }


def rungs_to_report(rungs: Sequence[Record], kind: str, gate: Gate, max_drop: float) -> Record:
    """What reports/export.json says of the gate and of the rungs tried."""
    return {
        "int8_outcome": rungs[-1]["outcome"],
        "int8_refused": why_no_int8(rungs, kind, gate, max_drop),
        "int8_not_known": why_not_known(rungs, kind, gate, max_drop),
        "int8_gate": gate_to_record(gate),
        "int8_rungs": rungs_to_records(rungs),
    }


def rungs_to_records(rungs: Sequence[Record]) -> list[Record]:
    """The rungs tried, as reports/export.json has them: figures with five decimals."""
    return [{key: rounded(value) for key, value in rung.items()} for rung in rungs]


def rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [round(one, DECIMALS) for one in value]
    return round(value, DECIMALS) if isinstance(value, float) else value
