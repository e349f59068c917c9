"""What an epoch was like: a line for the terminal, and tables for dvc plots."""

from __future__ import annotations

from pathlib import Path

from seamline.base.coco import Record
from seamline.base.files import write_csv


def record_to_line(record: Record, epochs: int) -> str:
    losses = (f"{key.removesuffix('_loss')} {value:.3f}" for key, value in record.items() if key.endswith("_loss"))
    line = f"epoch {record['epoch']}/{epochs}  {'  '.join(losses)}"
    kind = "mask" if "val_mask_mAP50_95" in record else "box"
    if (value := record.get(f"val_{kind}_mAP50_95")) is not None:
        line += f"  val {kind} mAP50-95 {value:.3f}"
    return line


def write_history(history: list[Record], losses: Path, validation: Path) -> None:
    """Losses and learning rate of every epoch, and the metrics of validated epochs, as CSV for dvc plots."""
    for path, validated in ((losses, False), (validation, True)):
        keys = ["epoch", *(key for key in history[-1] if key != "epoch" and key.startswith("val_") == validated)]
        write_csv(path, keys, ([record[key] for key in keys] for record in history if keys[-1] in record))
