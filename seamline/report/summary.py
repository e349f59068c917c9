"""The main figures of reports/ as lines for a terminal, and where the rest is."""

from __future__ import annotations

from pathlib import Path

from seamline.base.coco import Record
from seamline.base.files import read_json
from seamline.evaluation.kinds import primary_kind

EXPORTED = ("onnx", "openvino", "openvino_f16", "openvino_int8")
COLUMNS = [(kind, key) for kind in ("mask", "box") for key in ("mAP50_95", "mAP50")]


def reports_to_lines(reports: Path, weights: Path) -> list[str]:
    """Accuracy, speed and files of the last run.

    Raises:
        SeamlineError: naming the file that is missing.
    """
    metrics, benchmark, export = (read_json(reports / f"{name}.json") for name in ("metrics", "benchmark", "export"))
    lines = []
    if not weights.is_file():
        lines = ["\nFigures of an earlier run: the model is not here. dvc repro makes it, or dvc pull fetches it."]
    exported = [name for name in EXPORTED if name in export]
    return [
        *lines,
        *accuracy_lines(metrics),
        *speed_lines(benchmark),
        f"\nreport:  {reports / 'index.html'} (open it), {reports}/*.json (every number)",
        f"models:  {weights}, models/export/{{{','.join(exported)}}}",
        *([f"no INT8: {export['int8_refused']}"] if export["int8_refused"] else []),
        "metrics: dvc metrics show, dvc plots show; compare with dvc metrics diff",
    ]


def accuracy_lines(metrics: Record) -> list[str]:
    lines = ["\naccuracy (pycocotools)   mask mAP50-95  mask mAP50   box mAP50-95  box mAP50"]
    for split, kinds in metrics.items():
        values = [kinds.get(kind, {}).get(key) for kind, key in COLUMNS]  # a model may find boxes only
        cells = ("-" if value is None else format(value, ".3f") for value in values)
        lines.append(f"{split:<24}" + "".join(f"{cell:>14}" for cell in cells))
    return lines


def speed_lines(benchmark: Record) -> list[str]:
    kind = primary_kind(key for row in benchmark.values() for key in row)
    lines = [f"\nspeed (test, files to masks)  images/s   p50 ms   MB{kind:>7} mAP50-95"]
    for name, row in benchmark.items():
        lines.append(
            f"{name:<28}{row['throughput_img_s']:>10.1f}{row['latency_ms']['p50']:>9.1f}"
            f"{row['model_mb']:>5.1f}{row[f'{kind}_mAP50_95']:>16.3f}"
        )
    return lines
