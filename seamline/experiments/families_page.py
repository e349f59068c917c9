"""The page of a comparison of families, made of reports/families.json alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seamline.base.coco import Record
from seamline.base.errors import counted
from seamline.charts.families import families_figure
from seamline.evaluation.kinds import PLURALS
from seamline.experiments.fairness import FAMILY_NAMES
from seamline.experiments.family_speed import TIMED
from seamline.report.contents import plain
from seamline.report.page import figure_to_svg, render


def record_to_page(record: Record) -> str:
    """HTML with nothing to load: the chart, the table, what was the same, and what may be said."""
    kind, models = record["kind"], record["models"]
    return render(
        "families.html",
        title="Families compared",
        kind=kind,
        shapes=PLURALS[kind],
        chart=figure_to_svg(families_figure(models, kind, TIMED)),
        models=models,
        work={name: work_to_text(model) for name, model in models.items()},
        timed=TIMED,
        same=same_to_rows(record["same"]),
        not_the_same=record["not_the_same"],
        differences=record["differences"],
        speed=record["speed"],
        machine=record["machine"],
        cores=counted(record["machine"]["cores_used"], "core"),
        families=FAMILY_NAMES,
    )


def same_to_rows(same: Record) -> list[tuple[str, str]]:
    """What was the same, for people."""
    share = f"{same['share_of_default']:.0%} of what params.yaml has a training see"
    images = counted(same["train_images"], "train image")
    return [
        ("classes", ", ".join(same["classes"])),
        ("split", ", ".join(f"{name} {value[:12]}" for name, value in same["split_sha256"].items())),
        ("images seen in a training", f"{same['images_seen']}: {same['epochs']} epochs of {images}, {share}"),
        ("start", same["start"] or "not the same: see below"),
        *((f"train.{name}", plain(value)) for name, value in same["training"].items()),
        *((f"train.{name} (augmentation)", plain(value)) for name, value in same["augmentation"].items()),
        ("search", f"{same['trials']} values of train.lr0 for each model, the best one on val is taken"),
        ("seeds", ", ".join(map(str, same["seeds"]))),
        *((f"evaluate.{name}", plain(value)) for name, value in same["evaluation"].items()),
    ]


def work_to_text(model: Record) -> str:
    """What one training took, as the mean of all whose work is known: GPU hours, or seconds of a processor core."""
    finished = [one["training"] for one in (*model["trials"], *model["seeds"].values()) if one["training"] is not None]
    trainings = {one["key"]: one for one in finished}  # the best trial is the first seed's training too
    hours = known(one["gpu_hours"] for one in trainings.values())
    if hours:
        return f"{sum(hours) / len(hours):.2f} GPU hours"
    seconds = known(one["processor_s"] for one in trainings.values())
    return f"{sum(seconds) / len(seconds):,.0f} processor seconds" if seconds else "not known"


def known(values: Any) -> Sequence[float]:
    return [value for value in values if value is not None]
