"""Report: reports/index.html, one file to open with a double click, and the model card with the same figures.

The page needs neither a network nor other files. Every figure comes from a file in reports/, which is named beside it.

Example: python -m stages.report reports
"""

import argparse
from pathlib import Path
from typing import Any

from seamline.base.coco import Record
from seamline.base.errors import counted
from seamline.base.files import write_text
from seamline.base.process import run
from seamline.benchmark.recommendation import may_be_as_fast, outcomes_of_rows, recommended
from seamline.evaluation.kinds import KINDS, PLURALS
from seamline.export.drops import FEWEST
from seamline.params.export import Export
from seamline.params.loading.loader import load_params
from seamline.params.report import Report
from seamline.report.cautions import cautions
from seamline.report.code import code_identity
from seamline.report.contents import (
    SECTIONS,
    confusion_table,
    how_to_run,
    kind_of,
    losses_of_data,
    params_to_rows,
    purpose_of,
    read_reports,
    recall_to_sentence,
    seeds_to_sentence,
    similar_asked,
    speeds_beside,
    threshold_is,
    trained_on,
)

PAGE_BYTES = 4_700_000  # overlays that do not fit stay in their folder
CAPTION_BYTES = 1000
SHEET_PX = 1600
SIMILAR = {"right": "The first answer is right", "wrong": "The first answer is wrong"}  # pictures of catalogue
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

    from seamline.charts.benchmark import FORMAT_LABELS
    from seamline.report.attributes import attribute_pictures
    from seamline.report.charts import charts
    from seamline.report.page import picture_to_data, render

    reports = read_reports(args.reports)
    rows, max_drop, kind = reports["benchmark"], params[Export].int8.max_drop, kind_of(reports)
    best = recommended(rows, max_drop)
    values: dict[str, Any] = {
        "reports": reports,
        "params": {name: params[kind] for name, kind in SECTIONS.items()},
        "kind": kind,
        "kinds": [one for one in reversed(KINDS) if one in reports["metrics"]["test"]],
        "shapes": PLURALS[kind],
        "title": params[Report].title,
        "purpose": purpose_of(reports, params),
        "cautions": cautions(reports, params),
        "threshold_is": threshold_is(reports),
        "code": code_identity(),
        "losses_of_data": losses_of_data(reports),
        "parameters": params_to_rows(params),
        "recommended": best,
        "as_fast": speeds_beside(may_be_as_fast(rows, best), FORMAT_LABELS),
        "outcomes": outcomes_of_rows(rows, max_drop),
        "fewest_groups": FEWEST,
        "labels": FORMAT_LABELS,
        "how_to_run": how_to_run(best),
        "epochs": counted(reports["training"]["epochs"], "epoch"),
        "trained_on": trained_on(reports["training"]),
        "recall_sentence": recall_to_sentence(reports),
        "similar_asked": similar_asked(reports),
        "seeds": seeds_to_sentence(reports["seed_spread"], kind),
    }
    write_text(args.reports / "MODEL_CARD.md", render("model_card.md", **values))

    values |= {
        "charts": charts(reports, kind),
        "formats_picture": picture_to_data(args.reports / "formats.jpg"),
        "confusion": confusion_table(reports["confusion"], list(reports["per_class"]["test"][kind])),
        "similar_pictures": similar_pictures(args.reports / "catalogue"),
        "contact_sheet": picture_to_data(args.reports / "data" / "contact_sheet.png", SHEET_PX),
        "attribute_pictures": attribute_pictures(reports["attributes"], args.reports / "attributes" / "data"),
        "data_charts": [
            (title, name, picture_to_data(args.reports / "data" / f"{name}.png")) for name, title in DATA_CHARTS.items()
        ],
    }
    without_overlays = render("report.html", **values, pictures={"worst": [], "sample": []}, pictures_left_out=0)
    pictures, left_out = overlays(reports, args.reports / "evaluate", PAGE_BYTES - len(without_overlays.encode()))
    page = render("report.html", **values, pictures=pictures, pictures_left_out=left_out)
    write_text(args.reports / "index.html", page)
    print(f"{args.reports / 'index.html'}: {len(page.encode()) / 1e6:.1f} MB")


def similar_pictures(folder: Path) -> list[tuple[str, str]]:
    """Questions with their answers, where there is a catalogue: titles and pictures."""
    from seamline.report.page import picture_to_data

    paths = [(title, folder / f"{name}.jpg") for name, title in SIMILAR.items()]
    return [(title, picture_to_data(path)) for title, path in paths if path.exists()]


def overlays(reports: Record, folder: Path, room: int) -> tuple[dict[str, list[Record]], int]:
    """The worst and the random images with their pictures, as many as fit into `room` bytes, and how many do not."""
    from seamline.report.page import picture_to_data

    found: dict[str, list[Record]] = {"worst": [], "sample": []}
    left_out = 0
    for index in range(max(len(reports["worst"]), len(reports["sample"]))):
        for name in found:
            for record in reports[name][index : index + 1]:
                data = picture_to_data(folder / name / f"{record['image_id']}.jpg")
                if len(data) + CAPTION_BYTES > room:
                    left_out += 1
                    continue
                room -= len(data) + CAPTION_BYTES
                found[name].append({**record, "picture": data})
    return found, left_out


if __name__ == "__main__":
    run(main)
