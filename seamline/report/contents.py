"""What the reports say, gathered: every figure of the HTML report and of the model card comes from here.

Facts are read from files in reports/ and from params.yaml alone; nothing is measured again.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import read_json
from seamline.evaluation.bootstrap import FEWEST
from seamline.evaluation.mistakes import background_label
from seamline.params.benchmark import Benchmark
from seamline.params.convert import Convert
from seamline.params.evaluate import Evaluate
from seamline.params.export import Export
from seamline.params.loader import Params
from seamline.params.pull import Pull
from seamline.params.report import Report
from seamline.params.split import Split
from seamline.params.subset import Subset
from seamline.params.train import Train
from seamline.params.types import Section

# The pipeline's own sections of params.yaml, but for the report's.
SECTIONS: dict[str, type[Section]] = {
    "pull": Pull, "subset": Subset, "convert": Convert, "split": Split,
    "train": Train, "evaluate": Evaluate, "export": Export, "benchmark": Benchmark,
}  # fmt: skip
TEXT_COLUMNS = {"actual", "predicted", "split", "field", "value"}
SAMPLE = "samples/garments.zip"
FEW_INSTANCES = 30  # of a class on test, below which its figure is hardly one
WIDE = 0.05  # of an interval of mask mAP50-95
NOISY = 0.1  # spread of throughput between rounds of the benchmark
OFF = 0.1  # of scores from what they should be
SMALL_INPUT_PX = 320
LISTED = 10  # names in a sentence
RESAMPLES = 2000
USELESS = 0.2  # mask mAP50


def read_facts(reports: Path) -> Record:
    """Everything in reports/ that the report shows.

    Raises:
        SeamlineError: naming the file that is missing or is none; dvc repro makes it.
    """
    if not reports.is_dir():
        raise SeamlineError(f"{reports}: is no folder; give the one with the stages' reports, such as reports.")
    evaluate, train = reports / "evaluate", reports / "train"
    names = (
        "pull",
        "subset",
        "fidelity",
        "split",
        "metrics",
        "export",
        "benchmark",
        "environment",
        "conditions",
        "formats",
    )
    facts: Record = {name: read_json(reports / f"{name}.json") for name in names}
    for name in ("settings", "intervals", "per_class", "operating_point", "mistakes", "slices", "worst", "sample"):
        facts[name] = read_json(evaluate / f"{name}.json")
    facts["training"] = read_json(train / "summary.json")
    facts["seed_spread"] = spread_of_this_model(train / "seed_spread.json", facts["metrics"])
    tables = {
        "losses": train / "losses.csv",
        "validation": train / "validation.csv",
        "precision_recall": evaluate / "precision_recall.csv",
        "confidence": evaluate / "confidence.csv",
        "reliability": evaluate / "reliability.csv",
        "slice_rows": evaluate / "slices.csv",
        "confusion": evaluate / "confusion.csv",
    }
    return facts | {name: read_csv(path) for name, path in tables.items()}


def read_csv(path: Path) -> list[Record]:
    """Rows of a table; see text_to_rows."""
    try:
        return text_to_rows(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file; run the stage that makes it (dvc repro).") from None


def text_to_rows(text: str, title: str) -> list[Record]:
    """Rows of a CSV table: text in columns of names, numbers in all others, None where a number is missing.

    Raises:
        SeamlineError: with the table's title, when a cell is no number, as git's marks of a conflict are none.
    """
    try:
        return [
            {key: cell if key in TEXT_COLUMNS else None if cell == "" else to_number(cell) for key, cell in row.items()}
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise SeamlineError(
            f"{title}: is not the table that a stage wrote ({error}); dvc repro makes it anew."
        ) from None


def to_number(cell: str) -> int | float:
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


def rows_to_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}


def confusion_table(rows: list[Record], names: list[str]) -> Record:
    """Counts by actual and predicted name, the background last, each with its share of the row for the shade."""
    labels = [*names, background_label(names)]
    counts = Counter((str(row["actual"]), str(row["predicted"])) for row in rows)
    totals = {actual: max(sum(counts[actual, predicted] for predicted in labels), 1) for actual in labels}
    cells = [
        [(counts[actual, predicted], counts[actual, predicted] / totals[actual]) for predicted in labels]
        for actual in labels
    ]
    return {"names": names, "cells": cells}


def spread_of_this_model(path: Path, metrics: Record) -> Record | None:
    """reports/train/seed_spread.json where one of its trainings is this very model; else it is of another one."""
    if not path.exists():
        return None
    found: Record = read_json(path)
    own = metrics["test"]["mask"]["mAP50_95"] or 0.0
    same = any(abs(run["test_mask_mAP50_95"] - own) < 1e-9 for run in found["seeds"].values())
    return found if same else None


def params_to_rows(params: Params) -> list[tuple[str, str]]:
    """Every parameter of the pipeline as section.key and its value."""
    rows = []
    for section, kind in SECTIONS.items():
        values = msgspec.to_builtins(params[kind])
        values |= values.pop("(others)", {})
        rows += [(f"{section}.{key}", plain(value)) for key, value in values.items()]
    return rows


def plain(value: Any) -> str:
    """A value as params.yaml would have it, short."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def purpose_of(facts: Record, params: Params) -> str:
    """report.purpose, or what the classes say."""
    purpose = params[Report].purpose
    if purpose is not None:
        return purpose
    return f"Finds {listed(list(facts['subset']['classes']))} in photos and outlines each one with a mask."


def listed(names: Sequence[str]) -> str:
    """a, b and c; of many the first LISTED."""
    if len(names) > LISTED + 1:
        names = [*names[:LISTED], f"{len(names) - LISTED} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def recommended(facts: Record, max_drop: float) -> str:
    """The fastest format on the CPU whose mask mAP50-95 on test is no more than max_drop below PyTorch's."""
    rows: dict[str, Record] = facts["benchmark"]
    good = [name for name, row in rows.items() if row["device"] == "cpu" and row["mask_mAP50_95_delta"] >= -max_drop]
    return max(good, key=lambda name: float(rows[name]["throughput_img_s"]))


def as_fast(facts: Record, name: str) -> list[str]:
    """The other formats on that device that may be as fast, as far as rounds in which all took turns can tell.

    Round by round the ratio to the named one is taken, which leaves out what slowed both, and the 95% interval of its
    median holds 1 or more.
    """
    rows: dict[str, Record] = facts["benchmark"]
    best = np.array(rows[name]["throughput_rounds_img_s"])
    found = []
    for other, row in rows.items():
        if other != name and row["device"] == rows[name]["device"]:
            ratios = np.array(row["throughput_rounds_img_s"]) / best
            drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
            if np.percentile(np.median(drawn, axis=1), 97.5) >= 1:
                found.append(other)
    return found


def how_to_run(name: str) -> str:
    """The command that predicts with a row of the benchmark."""
    models = {
        "pytorch": "models/train/best.pt",
        "onnx": "models/export/onnx/model.onnx",
        "openvino": "models/export/openvino",
        "openvino_bf16": "models/export/openvino",
        "openvino_int8": "models/export/openvino_int8",
    }
    return f"seamline predict {models[name]} photos" + (" --precision bf16" if name.endswith("_bf16") else "")


def losses_of_data(facts: Record) -> list[tuple[str, str, int]]:
    """What was repaired, left out or dropped on the way, as (stage, reason, count); only what happened."""
    pull, subset, fidelity = facts["pull"], facts["subset"], facts["fidelity"]
    found = [("pull", f"repaired: {reason}", count) for reason, count in pull["repaired"].items()]
    found += [("pull", f"dropped: {reason}", count) for reason, count in pull["dropped"].items()]
    found += [("subset", f"left out: {reason}", count) for reason, count in subset["instances_left_out"].items()]
    found += [("convert", f"dropped: {reason}", count) for reason, count in fidelity["dropped"].items()]
    return [row for row in found if row[2]]


def cautions(facts: Record, params: Params) -> list[str]:
    """What a reader has to be careful about, from the figures; the gravest first."""
    found = []
    test, benchmark = facts["intervals"]["test"]["mask"]["mAP50_95"], facts["benchmark"]
    settings = facts["settings"]
    if params[Pull].source == SAMPLE:
        found.append("It was trained on the drawn pictures that come with Seamline, and is of no use on photos.")
    found_at_all = facts["metrics"]["test"]["mask"]["mAP50"]
    if found_at_all is None:
        found.append("The test split shows no instance, so that nothing could be measured on it.")
    elif found_at_all < USELESS:
        found.append(
            f"It is not fit for use: mask mAP50 on test is {found_at_all:.3f}. Train longer (train.epochs), on "
            "more or larger images (subset.images, train.imgsz), or from pretrained weights (train.model). Until then "
            "speed, what INT8 costs and how well the formats agree say nothing either."
        )
    span = test["interval"]
    groups = settings["test"]["groups_showing_an_instance"]
    if span is None and groups < FEWEST:
        found.append(
            f"How sure the figures are is not known: garments on test are from {counted(groups, 'group')} of photos "
            f"that do not belong together, and an interval needs {FEWEST}."
        )
    elif span is None:
        found.append("How sure the figures are is not known: every draw of test images gives the same, or higher ones.")
    elif span[1] - span[0] > WIDE:
        found.append(
            f"The test split is small ({counted(settings['test']['images'], 'image')}): a mask mAP50-95 of "
            f"{test['value']:.3f} means something between {span[0]:.3f} and {span[1]:.3f}. Models that differ by less "
            "may be equally good; `seamline compare` says whether two of them are."
        )
    spread = facts["seed_spread"]
    if spread is not None:
        found.append(
            f"Another seed alone moves mask mAP50-95 on test by up to {spread['spread']['test_mask_mAP50_95']:.3f} "
            f"({len(spread['seeds'])} trainings, reports/train/seed_spread.json)."
        )
    rare = [name for name, record in facts["per_class"]["test"]["mask"].items() if record["instances"] < FEW_INSTANCES]
    if rare:
        found.append(f"Fewer than {FEW_INSTANCES} test instances, so that little is known, of {listed(rare)}.")
    weak = [
        row
        for row in facts["slice_rows"]
        if row["split"] == "test" and span is not None and row["mask_mAP50_95_high"] is not None
        and row["mask_mAP50_95_high"] < test["value"]
    ]  # fmt: skip
    for row in sorted(weak, key=lambda row: float(row["mask_mAP50_95"]))[:3]:
        found.append(
            f"Probably worse where {row['field']} is {row['value']}: mask mAP50-95 {row['mask_mAP50_95']:.3f} "
            f"({row['mask_mAP50_95_low']:.3f} to {row['mask_mAP50_95_high']:.3f}, "
            f"{counted(row['instances'], 'instance')})."
        )
    error = facts["operating_point"]["test_calibration_error"]
    if error is not None and error > OFF:
        found.append(
            f"Scores are no probabilities: they are {error:.2f} off on average (reports/evaluate/reliability.csv). "
            f"Choose a threshold by what it does; {facts['operating_point']['threshold']:.2f} had the best F1 on val."
        )
    if facts["export"]["int8_refused"] is not None:
        found.append(f"There is no INT8 model: {facts['export']['int8_refused']}")
    if params[Train].imgsz < SMALL_INPUT_PX:
        found.append(
            f"Images are shrunk to {params[Train].imgsz} px before the model sees them; small garments are lost."
        )
    if params[Split].near_duplicate_bits is None:
        found.append("Near-duplicates across splits were not looked for (split.near_duplicate_bits: null).")
    lost = sum(count for _, reason, count in losses_of_data(facts) if reason.startswith("dropped"))
    if lost:
        found.append(f"{counted(lost, 'record')} of the source could not be used; the reasons are counted under Data.")
    found += [f"While speed was measured: {told[0].lower()}{told[1:]}" for told in facts["conditions"]["disturbances"]]
    noisy = [name for name, row in benchmark.items() if row["throughput_spread"] > NOISY]
    if noisy:
        found.append(
            f"Speed is uncertain: the throughput of {listed(noisy)} varied by up to "
            f"{max(row['throughput_spread'] for row in benchmark.values()):.0%} between rounds."
        )
    found.append(
        f"Speed belongs to the machine it was measured on ({facts['environment']['processor']}, "
        f"{counted(facts['environment']['cores_used'], 'core')}); measure on yours with "
        "dvc repro --single-item --force benchmark."
    )
    found.append(
        "best.pt and what is exported from it come from ultralytics, which is AGPL-3.0; mind that before you "
        "distribute them or offer them as a service."
    )
    return found
