"""Where the models of a training lie: its weights, and a folder for each format that the export stage makes."""

from __future__ import annotations

from pathlib import Path

from seamline.base.files import write_text
from seamline.models.engines.opening import NO_MODEL
from seamline.models.engines.openvino import import_openvino, rt_info

# What the export's gate found of INT8: it is known to cost no more than it may, known to cost more, or neither.
ACCEPTED, REFUSED, NOT_KNOWN = "accepted", "refused", "not known"


def model_paths(weights: Path, exported: Path) -> dict[str, Path]:
    """Each format's model, as open_engine takes it."""
    return {
        "pytorch": weights,
        "onnx": exported / "onnx" / "model.onnx",
        "openvino": exported / "openvino",
        "openvino_f16": exported / "openvino_f16",
        "openvino_int8": exported / "openvino_int8",
    }


def models_made(weights: Path, exported: Path) -> dict[str, Path]:
    """Each format's model, without INT8 where its gate refused it."""
    paths = model_paths(weights, exported)
    return {name: path for name, path in paths.items() if not (path / NO_MODEL).is_file()}


def leave_reason(folder: Path, reason: object) -> str:
    """Put why there is no model into the folder in its place."""
    for file in folder.iterdir():
        file.unlink()
    write_text(folder / NO_MODEL, f"{reason}\n")
    return str(reason)


def int8_gate(path: Path) -> str | None:
    """What a model file says of its gate; None for a model that is not INT8."""
    if not (path / "model.xml").is_file():
        return None
    return rt_info(import_openvino().Core().read_model(path / "model.xml")).get("int8_gate")
