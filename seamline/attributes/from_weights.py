"""From trained weights to models that can be used, each measured: what the classify stage does after training."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import msgspec
import numpy as np
import torch

from seamline.attributes.backbones import build_backbone, licence_of
from seamline.attributes.detected import detected_parts, read_results
from seamline.attributes.evaluation import measured
from seamline.attributes.exporting import (
    Gate,
    Logits,
    check_agreement,
    drop_to_record,
    exported_logits,
    exported_metadata,
    measure_drop,
    network_to_onnx,
    outcome_to_sentence,
    row_of,
)
from seamline.attributes.labelled import MISSING, Example, Labelled, groups_of, images_of, labels_of
from seamline.attributes.measures import columns_of
from seamline.attributes.network import FAMILY, AttributeNetwork
from seamline.attributes.timing import PHOTOS, time_models
from seamline.attributes.trainer import in_parts, squares_of
from seamline.base.coco import Record
from seamline.base.files import sha256_of
from seamline.base.spacing import evenly_spaced
from seamline.base.splits import MEASURED_SPLITS
from seamline.export.openvino import add_metadata, onnx_to_openvino
from seamline.export.quantising import RUNGS, quantise_on_tensors, tried_rungs
from seamline.images.cutouts import squares_to_tensor
from seamline.images.reading import Image
from seamline.inference.classifier import AttributeClassifier
from seamline.models.attribute_facts import AttributeFacts
from seamline.models.exported import REFUSED, leave_reason
from seamline.models.rcnn_weights import write
from seamline.params.classify import Classify
from seamline.training.finished import Training


def network_logits(network: AttributeNetwork, examples: list[Example], params: Classify) -> Logits:
    """The outputs of the weights in PyTorch, on the CPU, (n, outputs)."""
    backbone = build_backbone(params.backbone)
    squares = squares_of(examples, params.imgsz, backbone)
    with torch.no_grad():
        made = [
            network(torch.from_numpy(squares_to_tensor(part, backbone.mean, backbone.std)))
            for part in in_parts(squares)
        ]
    return np.asarray(torch.cat(made).numpy(), np.float32)


def facts_of(labelled: Labelled, params: Classify, training: Training) -> AttributeFacts:
    """What a training's models say of themselves, before they are calibrated."""
    backbone = build_backbone(params.backbone)
    return AttributeFacts(
        attributes=labelled.attributes,
        imgsz=params.imgsz,
        mean=backbone.mean,
        std=backbone.std,
        margin=labelled.about["margin"],
        background=labelled.about["background"],
        backbone=params.backbone,
        licence=licence_of(params.backbone, params.start),
        training_revision=training.facts["training_revision"],
        data_sha256=training.facts["data_sha256"],
        weights_sha256=sha256_of(training.weights),
        names=labelled.about["names"],
        classes=labelled.about.get("classes"),
    )


def calibrated(facts: AttributeFacts, calibration: Record) -> AttributeFacts:
    return msgspec.structs.replace(
        facts,
        temperatures={name: one["temperature"] for name, one in calibration.items()},
        thresholds={name: one["threshold"] for name, one in calibration.items()},
    )


def make_models(
    network: AttributeNetwork,
    facts: AttributeFacts,
    out: Path,
    labelled: Labelled,
    logits: dict[str, Logits],
    params: Classify,
    opset: int,
) -> tuple[Record, Record]:
    """best.pt, ONNX, OpenVINO and INT8 in an empty folder; what export.json and speed.json say of them.

    Args:
        logits: of the weights in PyTorch, on val and test.

    Raises:
        SeamlineError: when ONNX or OpenVINO does not name what PyTorch names.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    write({"family": FAMILY, "facts": msgspec.to_builtins(facts), "weights": weights}, out / "best.pt")
    sizes = [len(values) for values in facts.attributes.values()]
    examples = [one for name in MEASURED_SPLITS for one in labelled.splits[name]]
    parts, reference = images_of(examples), np.concatenate([logits[name] for name in MEASURED_SPLITS])
    for name in ("onnx", "openvino", "openvino_int8"):
        (out / name).mkdir()
    onnx_file, rows = out / "onnx" / "model.onnx", {}
    network_to_onnx(network, facts, onnx_file, opset)
    onnx_to_openvino(onnx_file, out / "openvino", exported_metadata(facts), "f32")
    for name, path in (("onnx", onnx_file), ("openvino", out / "openvino")):
        rows[name] = row_of(path, *exported_logits(path, parts), reference, sizes)
        print(
            f"{name}: {rows[name]['model_mb']:.1f} MB, agrees with PyTorch in {rows[name]['agreement']:.2%}", flush=True
        )
        check_agreement(name, rows[name], params.min_agreement)
    val = labelled.splits["val"]
    gate = Gate(labels_of(val), groups_of(val), sizes, logits["val"])
    rungs = make_int8(facts, out, labelled.splits["train"], parts, gate, params)
    models = {
        "onnx": (onnx_file, "f32"),
        "openvino": (out / "openvino", "f32"),
        "openvino_bf16": (out / "openvino", "bf16"),
    }
    said = outcome_to_sentence(rungs[-1], params.int8.max_drop)
    int8, found = out / "openvino_int8", [rung.pop("logits") for rung in rungs][-1]
    if rungs[-1]["outcome"] == REFUSED:
        leave_reason(int8, said)
    else:
        add_metadata(int8, {"int8_gate": rungs[-1]["outcome"]})
        rows["openvino_int8"] = row_of(int8, found, rungs[-1]["precision"], reference, sizes)
        models["openvino_int8"] = (int8, "f32")
    print(f"openvino_int8: {said}", flush=True)
    speed = time_models(models, [parts[index] for index in range(min(PHOTOS, len(parts)))])
    int8_said = {"outcome": rungs[-1]["outcome"], "said": said, "max_drop": params.int8.max_drop, "rungs": rungs}
    return {"opset": opset, "garments": len(parts), **rows, "int8": int8_said}, speed


def make_int8(
    facts: AttributeFacts, out: Path, train: list[Example], parts: list[Image], gate: Gate, params: Classify
) -> list[Record]:
    """The rungs tried, each with its outputs; the last one's outcome is that of INT8."""
    few = evenly_spaced(train, params.int8.calibration_garments)
    squares = squares_of(few, params.imgsz, build_backbone(params.backbone))
    tensors = [squares_to_tensor([square], facts.mean, facts.std) for square in squares]

    def try_rung(rung: str) -> Record:
        quantise_on_tensors(out / "openvino", tensors, rung, out / "openvino_int8", {"precision": "int8"})
        found, precision = exported_logits(out / "openvino_int8", parts)
        drop = measure_drop(found[: len(gate.labels)], gate)  # val comes first
        return {**drop_to_record(rung, drop, precision, params.int8.max_drop), "logits": found}

    return tried_rungs(RUNGS, try_rung)


def evaluate_detected(
    model: Path, facts: AttributeFacts, labelled: Labelled, args: Namespace, confidence: float
) -> Record | None:
    """Each attribute on test's garments as the detector found them; None where their outlines are not known.

    Args:
        model: of attributes, in ONNX.
        facts: what it says of itself.
        args: of the stage: predictions, split and images, None where they were not named.
        confidence: from which score on a detection counts.
    """
    examples = [one for one in labelled.splits["test"] if one.box is not None]
    if not examples or args.predictions is None:
        return None
    records, names = read_results(args.predictions, args.split, confidence, facts)
    examples = [one for one in examples if one.file_name in set(names.values())]
    if not examples:
        return None
    with AttributeClassifier(model) as classifier:
        parts, positions = detected_parts(examples, records, names, args.images, facts.margin, facts.background)
        logits = classifier.logits(parts)
    labels, groups = labels_of(examples), groups_of(examples)
    sizes = [len(values) for values in facts.attributes.values()]
    found: Record = {"garments": len(examples), "found": len(parts), "confidence": confidence}
    for column, (name, own) in enumerate(zip(facts.attributes, columns_of(logits, sizes), strict=True)):
        predicted = np.full(len(examples), MISSING, np.int64)
        predicted[positions != MISSING] = own.argmax(axis=1)[positions[positions != MISSING]]
        found[name] = measured(labels[:, column], predicted, groups, facts.attributes[name], 0)
    return found
