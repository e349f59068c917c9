"""What every ONNX file is written with, whatever the family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_f32_onnx(model: Any, out: Path, metadata: Mapping[str, str]) -> None:
    """Check an f32 ONNX model and write it with this metadata and no other: exporters add the date."""
    import onnx

    del model.metadata_props[:]
    for key, value in sorted({**metadata, "precision": "f32"}.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(out))
