"""How every ONNX file is written, whatever the family."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Of torch's exporter that traces, which is to be replaced one day, and of steps that it leaves to be computed. The
# tracer says too that sizes become plain numbers, which is what is wanted.
EXPECTED_WARNINGS = (
    "You are using the legacy TorchScript-based ONNX export",
    "`torch.jit.script` is deprecated",
    "Constant folding - Only steps=1 can be constant folded",
)


def module_to_onnx(
    module: Any, example: Any, name: str, outputs: Sequence[str], out: Path, opset: int, metadata: Mapping[str, str]
) -> None:
    """Export a module of torch's as an f32 ONNX file, with this metadata and no other; equal weights give equal bytes.

    By torch's exporter that traces: the newer one cannot export torchvision's detectors (its issues 9306 and 9462).

    Args:
        example: a tensor whose shape is the only one that the file takes.
        name: of the input.
    """
    import onnx
    import torch

    with warnings.catch_warnings():
        for said in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", said)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.onnx.export(
            module, (example,), str(out), input_names=[name], output_names=list(outputs), opset_version=opset,
            dynamo=False,
        )  # fmt: skip
    write_f32_onnx(onnx.load(out), out, metadata)


def write_f32_onnx(model: Any, out: Path, metadata: Mapping[str, str]) -> None:
    """Check an f32 ONNX model and write it with this metadata and no other: exporters add the date."""
    import onnx

    del model.metadata_props[:]
    for key, value in sorted({**metadata, "precision": "f32"}.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(out))
