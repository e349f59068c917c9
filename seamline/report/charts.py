"""The report's charts, drawn from its tables."""

from __future__ import annotations

from seamline.base.coco import Record
from seamline.charts import evaluation as draw
from seamline.charts.benchmark import benchmark_figure
from seamline.evaluation.kinds import PLURALS
from seamline.report.contents import rows_to_columns
from seamline.report.page import figure_to_svg


def charts(reports: Record, kind: str) -> dict[str, str]:
    """Each chart as SVG, drawn again from the tables, so that it suits light and dark pages."""
    validation, losses = (rows_to_columns(reports[name]) for name in ("validation", "losses"))
    test = reports["per_class"]["test"][kind]
    mistakes = {name: count for name, count in reports["mistakes"]["all"].items() if name != "right"}
    figures = {
        "losses": draw.curve_figure(
            losses["epoch"],
            {key: values for key, values in losses.items() if key not in ("epoch", "lr") and any(values)},
            "Training losses", xlabel="epoch", ylabel="loss",
        ),
        "validation": draw.curve_figure(
            validation["epoch"], {key: values for key, values in validation.items() if "mAP50_95" in key},
            "The trainer's own validation", xlabel="epoch", ylabel="mAP50-95",
        ),
        "per_class": draw.interval_figure(
            [(name, row["mAP50_95"], row["mAP50_95_interval"]) for name, row in test.items()],
            f"{PLURALS[kind].capitalize()} of each class on test", "mAP50-95",
        ),
        "slices": draw.slices_figure([row for row in reports["slice_rows"] if row["split"] == "test"], kind),
        "precision_recall": draw.precision_recall_figure(rows_to_columns(reports["precision_recall"]), kind),
        "confidence": draw.confidence_figure(
            rows_to_columns(reports["confidence"]), reports["operating_point"]["threshold"], kind
        ),
        "reliability": draw.reliability_figure(
            reports["reliability"],
            reports["operating_point"]["test_calibration_error"],
            reports["operating_point"]["test_calibration_error_by_chance"],
        ),
        "mistakes": draw.mistakes_figure(mistakes, "Mistakes on test"),
        "benchmark": benchmark_figure(reports["benchmark"], kind),
    }  # fmt: skip
    return {name: figure_to_svg(figure) for name, figure in figures.items()}
