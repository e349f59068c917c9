"""The benchmark's figures as files and as tables, for a terminal and to paste into Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.escaping import to_line, to_markdown
from seamline.base.files import write_csv, write_json, write_text
from seamline.benchmark.figures import FEWEST_ROUNDS
from seamline.evaluation.kinds import PLURALS, primary_kind
from seamline.models.exported import NOT_KNOWN

COLUMNS = ("format", "precision", "images/s", "range", "p50 ms", "range", "p90", "p99", "MB", "RSS MB")


def kind_of_rows(rows: Mapping[str, Record]) -> str:
    """The kind of shapes that the rows' accuracy is about, "box" or "mask"."""
    return primary_kind(next(iter(rows.values())))


def rows_to_cells(rows: Mapping[str, Record]) -> list[tuple[str, ...]]:
    """The header, then a line for each row."""
    kind = kind_of_rows(rows)
    header: tuple[str, ...] = (*COLUMNS, f"{kind} mAP", "delta")
    return [header] + [
        (
            name + marks_of(row),
            row["precision"],
            f"{row['throughput_img_s']:.1f}",
            range_to_text(row["throughput_interval_img_s"], 1),
            f"{row['latency_ms']['p50']:.2f}",
            range_to_text(row["latency_p50_interval_ms"], 2),
            f"{row['latency_ms']['p90']:.2f}",
            f"{row['latency_ms']['p99']:.2f}",
            f"{row['model_mb']:.1f}",
            f"{row['peak_rss_mb']:.0f}",
            f"{row[f'{kind}_mAP50_95']:.4f}",
            f"{row[f'{kind}_mAP50_95_delta']:+.4f}",
        )
        for name, row in rows.items()
    ]


def marks_of(row: Record) -> str:
    """What follows a row's name: * where it is not comparable as it stands, ? where its gate's outcome is not known."""
    return ("" if row["not_comparable"] is None else " *") + (" ?" if row.get("int8_gate") == NOT_KNOWN else "")


def range_to_text(interval: Sequence[float] | None, digits: int) -> str:
    return "not known" if interval is None else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def rows_to_table(rows: Mapping[str, Record]) -> str:
    """An aligned table for a terminal."""
    lines = rows_to_cells(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    )


def rows_to_markdown(rows: Mapping[str, Record], facts: Record, remarks: Sequence[str]) -> str:
    """The table to paste, with what is needed to read it."""
    reference, first = next(iter(rows.items()))
    kind = kind_of_rows(rows)
    header, *cells = rows_to_cells(rows)
    lines = [header, ("---", "---", *["---:"] * (len(header) - 2)), *cells]
    reasons = [f"{name} {row['not_comparable']}" for name, row in rows.items() if row["not_comparable"] is not None]
    notes = [
        f"{to_markdown(facts['processor'])}, {facts['cores_used']} cores for every row, {first['imgsz']} px, batch 1; "
        f"{first['images']} test images, from the file to the {PLURALS[kind]}, profile {first['profile']}. images/s: "
        "many images under way at once; p50, p90, p99: one at a time; range: where the median of another run is to be "
        "expected; "
        f"RSS: peak memory of the process, one image at a time; {kind} mAP: pycocotools' mAP50-95 on test; "
        f"delta: to that of {reference}.",
        *([f"\\* Not comparable as it stands: {'; '.join(reasons)}."] if reasons else []),
        *(
            f"? Whether {name} costs more accuracy than export.int8.max_drop allows is not known (reports/export.json)."
            for name, row in rows.items()
            if row.get("int8_gate") == NOT_KNOWN
        ),
        *(
            [f"Ranges are not known: they need {FEWEST_ROUNDS} rounds, and there were {first['rounds']}."]
            if first["throughput_interval_img_s"] is None
            else []
        ),
        *map(to_line, remarks),
    ]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + [""] + ["\n\n".join(notes)]) + "\n"


def write_benchmark(reports: Path, rows: Mapping[str, Record], facts: Record, conditions: Record) -> None:
    """benchmark.json, .md and .csv, speed.json (one screen for dvc metrics), environment.json and conditions.json."""
    write_json(reports / "benchmark.json", rows)
    write_json(reports / "environment.json", facts)
    write_json(reports / "conditions.json", conditions)
    write_json(reports / "speed.json", {name: {"img_s": row["throughput_img_s"]} for name, row in rows.items()})
    write_text(reports / "benchmark.md", rows_to_markdown(rows, facts, conditions["disturbances"]))
    columns = ("throughput_img_s", f"{kind_of_rows(rows)}_mAP50_95")
    cells = [(name, *(row[column] for column in columns)) for name, row in rows.items()]
    write_csv(reports / "benchmark.csv", ("format", *columns), cells)
