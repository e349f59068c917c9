"""The main figures of reports/ as lines for a terminal, and where the rest is."""

from __future__ import annotations

from pathlib import Path

from seamline.base.coco import Record
from seamline.base.errors import counted
from seamline.benchmark.recommendation import recommended
from seamline.benchmark.tables import kind_of_rows
from seamline.evaluation.kinds import KINDS, PLURALS
from seamline.report.contents import how_to_run
from seamline.report.records import read_record

EXPORTED = ("onnx", "openvino", "openvino_f16", "openvino_int8")


def reports_to_lines(reports: Path, weights: Path, max_drop: float, here: Record) -> list[str]:
    """Accuracy, speed and files of the last run.

    Args:
        max_drop: export.int8.max_drop.
        here: this machine's processor_kind.

    Raises:
        SeamlineError: naming the file that is missing, or lacks a figure.
    """
    metrics, benchmark, export, environment = (
        read_record(reports / f"{name}.json") for name in ("metrics", "benchmark", "export", "environment")
    )
    lines = []
    if not weights.is_file():
        lines = ["\nFigures of an earlier run: the model is not here. dvc repro makes it, or dvc pull fetches it."]
    exported = [name for name in EXPORTED if name in export]
    not_known = export["int8_not_known"] is not None
    return [
        *lines,
        *accuracy_lines(metrics),
        *speed_lines(benchmark),
        *machine_lines(environment, here),
        f"recommended: {how_to_run(recommended(benchmark, max_drop))}",
        f"\nreport:  {reports / 'index.html'} (open it), {reports}/*.json (every number)",
        f"models:  {weights}, models/export/{{{','.join(exported)}}}",
        *([f"no INT8: {export['int8_refused']}"] if export["int8_refused"] else []),
        *([f"INT8:    not known to be accurate enough ({reports}/export.json says why)"] if not_known else []),
        "metrics: dvc metrics show, dvc plots show; compare with dvc metrics diff",
    ]


def accuracy_lines(metrics: Record) -> list[str]:
    kinds = [kind for kind in reversed(KINDS) if kind in metrics["test"]]
    heads = "  ".join(f"{kind} mAP50-95  {kind} mAP50 " for kind in kinds)
    lines = [f"\naccuracy (pycocotools)   {heads}".rstrip()]
    for split, own in metrics.items():
        values = [own[kind][key] for kind in kinds for key in ("mAP50_95", "mAP50")]
        cells = ("-" if value is None else format(value, ".3f") for value in values)
        lines.append(f"{split:<24}" + "".join(f"{cell:>14}" for cell in cells))
    return lines


def speed_lines(benchmark: Record) -> list[str]:
    kind = kind_of_rows(benchmark)
    head = f"speed (test, files to {PLURALS[kind]})"
    lines = [f"\n{head:<30}images/s   p50 ms   MB   {kind} mAP50-95"]
    for name, row in benchmark.items():
        lines.append(
            f"{name:<28}{row['throughput_img_s']:>10.1f}{row['latency_ms']['p50']:>9.1f}"
            f"{row['model_mb']:>5.1f}{row[f'{kind}_mAP50_95']:>16.3f}"
        )
    return lines


def machine_lines(environment: Record, here: Record) -> list[str]:
    """On which processor speed was measured; where that is another one, how to measure on this one."""
    cores = counted(environment["cores_used"], "core")
    measured = f"measured on {environment['processor']}, {cores}"
    if (environment["processor"], environment["instructions"]) == (here["name"], here["instructions"]):
        return [measured]
    return [
        f"{measured}: another kind of processor than here ({here['name']})",
        "to measure here: dvc repro --single-item --force benchmark",
    ]
