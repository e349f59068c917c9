"""The page of a comparison: differences, changed parameters, curves, and photos as each model sees them."""

from __future__ import annotations

from pathlib import Path

from seamline.charts.evaluation import curve_figure
from seamline.experiments.comparing import Comparison, Model
from seamline.experiments.revisions import read_at
from seamline.report.page import bytes_to_data, figure_to_svg, render

PICTURE_BYTES = 3_500_000


def comparison_to_page(comparison: Comparison, reports: Path) -> str:
    """The HTML of a comparison; the photos are read from the reports of each revision."""
    models = comparison.models
    kind = "mask" if all(model.kind == "mask" for model in models) else "box"  # all models have boxes
    return render(
        "compare.html",
        title=f"{' and '.join(model.name for model in models)} compared",
        models=models,
        classes=list(dict.fromkeys(name for model in models for name in model.per_class["test"][kind])),
        tables=comparison.tables,
        changed=comparison.changed,
        kind=kind,
        curves=validation_curves(models, kind),
        pictures=shared_pictures(models, reports),
    )


def validation_curves(models: list[Model], kind: str) -> str:
    """The trainer's own validation of each model, as SVG."""
    by_model = {model.name: {row["epoch"]: row[f"val_{kind}_mAP50_95"] for row in model.validation} for model in models}
    epochs = sorted({epoch for values in by_model.values() for epoch in values})
    curves = {name: [values.get(epoch) for epoch in epochs] for name, values in by_model.items()}
    figure = curve_figure(epochs, curves, "The trainer's own validation", xlabel="epoch", ylabel=f"{kind} mAP50-95")
    return figure_to_svg(figure)


def shared_pictures(models: list[Model], reports: Path) -> list[tuple[str, list[str]]]:
    """Names of the photos that all models have drawn, each with every model's picture, until the page is full."""
    found, room = [], PICTURE_BYTES
    first, *others = models
    for record in first.sample:
        if not all(any(record["file_name"] == one["file_name"] for one in model.sample) for model in others):
            continue
        path = reports / "evaluate" / "sample" / f"{record['image_id']}.jpg"
        row = [bytes_to_data(read_at(model.revision, path), "jpeg") for model in models]
        room -= sum(map(len, row))
        if room < 0:
            break
        found.append((record["file_name"], row))
    return found
