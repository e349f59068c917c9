"""What the classify stage leaves where there are no attributes to learn: the reason, in the place of each thing."""

from __future__ import annotations

from pathlib import Path

from seamline.base.files import whole_folder, write_csv, write_json
from seamline.models.exported import leave_reason

FORMATS = ("onnx", "openvino", "openvino_int8")
LOSSES = ("epoch", "loss", "lr_heads", "lr_backbone", "val_macro_f1")
JSONS = ("metrics", "accuracy", "export", "speed")


def write_nothing(out: Path, report: Path, reason: str) -> None:
    print(f"no attributes are learned: {reason}")
    with whole_folder(out) as folder:
        for name in FORMATS:
            (folder / name).mkdir()
            leave_reason(folder / name, reason)
    for name in JSONS:
        write_json(report / f"{name}.json", {} if name == "accuracy" else {"attributes": {}, "reason": reason})
    write_csv(report / "losses.csv", LOSSES, [])
