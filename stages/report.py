"""Report: reports/index.html, one file to open with a double click, and the model card with the same facts.

The page needs no network and nothing beside it. Every figure comes from a file in reports/, which is named with it.

Example: python -m stages.report reports
"""

import argparse
from pathlib import Path
from typing import Any

from seamline.base.coco import Record
from seamline.base.files import write_text
from seamline.base.process import run
from seamline.params.export import Export
from seamline.params.loader import load_params
from seamline.params.report import Report
from seamline.report.code import code_identity
from seamline.report.contents import (
    SECTIONS,
    as_fast,
    cautions,
    confusion_table,
    how_to_run,
    losses_of_data,
    params_to_rows,
    purpose_of,
    read_facts,
    recommended,
    rows_to_columns,
)

PAGE_BYTES = 4_700_000  # overlays that do not fit are left in their folder
CAPTION_BYTES = 1000
SHEET_PX = 1600
DATA_CHARTS = {
    "classes": "Instances of each class and split",
    "areas": "Area of an instance, in percent of its image",
    "positions": "Where masks lie",
    "cooccurrence": "What is seen together",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, help="folder of the other stages' reports, and of these: reports")
    args = parser.parse_args()
    params = load_params()

    from seamline.charts.results import FORMAT_LABELS
    from seamline.report.page import picture_to_data, render

    facts = read_facts(args.reports)
    best = recommended(facts, params[Export].int8.max_drop)
    values: dict[str, Any] = {
        "facts": facts,
        "params": {name: params[kind] for name, kind in SECTIONS.items()},
        "title": params[Report].title,
        "purpose": purpose_of(facts, params),
        "cautions": cautions(facts, params),
        "code": code_identity(),
        "losses_of_data": losses_of_data(facts),
        "parameters": params_to_rows(params),
        "recommended": best,
        "as_fast": [FORMAT_LABELS.get(name, name) for name in as_fast(facts, best)],
        "labels": FORMAT_LABELS,
        "how_to_run": how_to_run(best),
    }
    write_text(args.reports / "MODEL_CARD.md", render("model_card.md", **values))

    values |= {
        "charts": charts(facts),
        "formats_picture": picture_to_data(args.reports / "formats.jpg"),
        "confusion": confusion_table(facts["confusion"], list(facts["per_class"]["test"]["mask"])),
        "contact_sheet": picture_to_data(args.reports / "data" / "contact_sheet.png", SHEET_PX),
        "data_charts": [
            (title, name, picture_to_data(args.reports / "data" / f"{name}.png")) for name, title in DATA_CHARTS.items()
        ],
    }
    without_overlays = render("report.html", **values, pictures={"worst": [], "sample": []}, pictures_left_out=0)
    pictures, left_out = overlays(facts, args.reports / "evaluate", PAGE_BYTES - len(without_overlays.encode()))
    page = render("report.html", **values, pictures=pictures, pictures_left_out=left_out)
    write_text(args.reports / "index.html", page)
    print(f"{args.reports / 'index.html'}: {len(page.encode()) / 1e6:.1f} MB")


def charts(facts: Record) -> dict[str, str]:
    """Each chart as SVG, drawn from the tables and not from pictures, so that it suits light and dark."""
    from seamline.charts import results as draw
    from seamline.report.page import figure_to_svg

    validation, losses = (rows_to_columns(facts[name]) for name in ("validation", "losses"))
    test = facts["per_class"]["test"]["mask"]
    mistakes = {kind: count for kind, count in facts["mistakes"]["all"].items() if kind != "right"}
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
            "Masks of each class on test", "mAP50-95",
        ),
        "slices": draw.slices_figure([row for row in facts["slice_rows"] if row["split"] == "test"]),
        "precision_recall": draw.precision_recall_figure(rows_to_columns(facts["precision_recall"])),
        "confidence": draw.confidence_figure(
            rows_to_columns(facts["confidence"]), facts["operating_point"]["threshold"]
        ),
        "reliability": draw.reliability_figure(
            facts["reliability"], facts["operating_point"]["test_calibration_error"]
        ),
        "mistakes": draw.mistakes_figure(mistakes, "Mistakes on test"),
        "benchmark": draw.benchmark_figure(facts["benchmark"]),
    }  # fmt: skip
    return {name: figure_to_svg(figure) for name, figure in figures.items()}


def overlays(facts: Record, folder: Path, room: int) -> tuple[dict[str, list[Record]], int]:
    """The worst and the sampled images with their pictures, as fit into so many bytes, and how many do not."""
    from seamline.report.page import picture_to_data

    found: dict[str, list[Record]] = {"worst": [], "sample": []}
    left_out = 0
    for place in range(max(len(facts["worst"]), len(facts["sample"]))):
        for kind in found:
            for record in facts[kind][place : place + 1]:
                data = picture_to_data(folder / kind / f"{record['image_id']}.jpg")
                if len(data) + CAPTION_BYTES > room:
                    left_out += 1
                    continue
                room -= len(data) + CAPTION_BYTES
                found[kind].append({**record, "picture": data})
    return found, left_out


if __name__ == "__main__":
    run(main)
