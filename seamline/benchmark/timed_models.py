"""Which models the benchmark times."""

from __future__ import annotations

from pathlib import Path

from seamline.models.exported import models_made


def timed_models(weights: Path, exported: Path) -> dict[str, Path]:
    """All but OpenVINO f16: its weights are stored as f16, and computed with as f32."""
    return {name: path for name, path in models_made(weights, exported).items() if name != "openvino_f16"}
