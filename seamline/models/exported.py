"""Where the models of a training lie: its weights, and a folder for each format that the export stage makes."""

from __future__ import annotations

from pathlib import Path

from seamline.models.engines.opening import NO_MODEL


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
