"""The contents of reports/, read for the page and the model card, and what follows from them.

Every figure comes from a file in reports/ or from params.yaml; nothing is measured again.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError, counted
from seamline.base.files import read_json
from seamline.benchmark.recommendation import FASTER
from seamline.evaluation.kinds import primary_kind
from seamline.evaluation.mistakes import background_label
from seamline.evaluation.seed_limits import limit_between
from seamline.params.attributes import Attributes
from seamline.params.benchmark import Benchmark
from seamline.params.catalogue import Catalogue
from seamline.params.classify import Classify
from seamline.params.convert import Convert
from seamline.params.embed import Embed
from seamline.params.evaluate import Evaluate
from seamline.params.export import Export
from seamline.params.loading.loader import Params
from seamline.params.loading.types import Section
from seamline.params.people import People
from seamline.params.pull import Pull
from seamline.params.report import Report
from seamline.params.search import Search
from seamline.params.split import Split
from seamline.params.subset import Subset
from seamline.params.train import Train
from seamline.report.records import read_record

# The pipeline's own sections of params.yaml, but for the report's.
SECTIONS: dict[str, type[Section]] = {
    "pull": Pull, "subset": Subset, "convert": Convert, "split": Split,
    "train": Train, "evaluate": Evaluate, "people": People, "export": Export, "benchmark": Benchmark,
    "attributes": Attributes, "classify": Classify, "embed": Embed, "catalogue": Catalogue, "search": Search,
}  # fmt: skip
TEXT_COLUMNS = {"actual", "predicted", "split", "field", "value", "layer", "int8", "bf16"}
LISTED = 10  # names in a sentence


def read_reports(folder: Path) -> Record:
    """Everything in reports/ that the report shows.

    Raises:
        SeamlineError: naming the file that is missing or cannot be read; dvc repro makes it.
    """
    if not folder.is_dir():
        raise SeamlineError(f"{folder}: is not a folder; give the one with the stages' reports, such as reports.")
    evaluate, train = folder / "evaluate", folder / "train"
    names = (
        "pull",
        "subset",
        "fidelity",
        "split",
        "metrics",
        "people",
        "catalogue",
        "export",
        "benchmark",
        "environment",
        "conditions",
        "formats",
    )
    reports: Record = {name: read_record(folder / f"{name}.json") for name in names}
    for name in ("model", "settings", "intervals", "per_class", "operating_point", "mistakes", "slices"):
        reports[name] = read_record(evaluate / f"{name}.json")
    for name in ("worst", "sample"):
        reports[name] = read_json(evaluate / f"{name}.json")
    reports["attributes"] = read_record(folder / "attributes" / "data" / "data.json")
    for name in ("metrics", "export", "speed"):
        reports[f"attribute_{name}"] = read_record(folder / "attributes" / f"{name}.json")
    reports["training"] = read_record(train / "summary.json")
    reports["trained_labels"] = read_record(train / "labels.json")
    reports["seed_spread"] = spread_of_this_model(train / "seed_spread.json", reports["metrics"])
    tables = {
        "losses": train / "losses.csv",
        "validation": train / "validation.csv",
        "precision_recall": evaluate / "precision_recall.csv",
        "confidence": evaluate / "confidence.csv",
        "reliability": evaluate / "reliability.csv",
        "slice_rows": evaluate / "slices.csv",
        "confusion": evaluate / "confusion.csv",
        "benchmark_layers": folder / "benchmark_layers.csv",
    }
    return reports | {name: read_csv(path) for name, path in tables.items()}


def read_csv(path: Path) -> list[Record]:
    """Rows of a table; see text_to_rows."""
    try:
        return text_to_rows(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file; run the stage that makes it (dvc repro).") from None


def text_to_rows(text: str, title: str) -> list[Record]:
    """Rows of a CSV table: text in columns of names, numbers in all others, None where a number is missing.

    Raises:
        SeamlineError: with the table's title, when a cell is not a number, such as git's marks of a conflict.
    """
    try:
        return [
            {key: cell if key in TEXT_COLUMNS else None if cell == "" else to_number(cell) for key, cell in row.items()}
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise SeamlineError(
            f"{title}: is not the table that a stage wrote ({error}); dvc repro makes it again."
        ) from None


def to_number(cell: str) -> int | float:
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


def rows_to_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}


def confusion_table(rows: list[Record], names: list[str]) -> Record:
    """Counts by actual and predicted name, the background last, each with its share of the row, which is its shade."""
    labels = [*names, background_label(names)]
    counts = Counter((str(row["actual"]), str(row["predicted"])) for row in rows)
    totals = {actual: max(sum(counts[actual, predicted] for predicted in labels), 1) for actual in labels}
    cells = [
        [(counts[actual, predicted], counts[actual, predicted] / totals[actual]) for predicted in labels]
        for actual in labels
    ]
    return {"names": names, "cells": cells}


def spread_of_this_model(path: Path, metrics: Record) -> Record | None:
    """reports/train/seed_spread.json where one of its trainings is this model; None where it is another."""
    if not path.exists():
        return None
    found = read_record(path)
    kind = primary_kind(metrics["test"])
    own, measure = metrics["test"][kind]["mAP50_95"] or 0.0, f"test_{kind}_mAP50_95"
    same = any(abs(run[measure] - own) < 1e-9 for run in found["seeds"].values() if measure in run)
    return found if same else None


def kind_of(reports: Record) -> str:
    """The kind of shapes that the model's primary metric is about, "box" or "mask"."""
    return primary_kind(reports["metrics"]["test"])


def params_to_rows(params: Params) -> list[tuple[str, str]]:
    """Every parameter of the pipeline as section.key, with its value."""
    rows = []
    for section, kind in SECTIONS.items():
        values = msgspec.to_builtins(params[kind])
        values |= values.pop("(others)", {})
        rows += [(f"{section}.{key}", plain(value)) for key, value in values.items()]
    return rows


def plain(value: Any) -> str:
    """A value as params.yaml has it, on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def purpose_of(reports: Record, params: Params) -> str:
    """report.purpose, or a sentence made of the classes."""
    purpose = params[Report].purpose
    if purpose is not None:
        return purpose
    done = "outlines each one with a mask" if kind_of(reports) == "mask" else "draws a box around each one"
    return f"Finds {listed(list(reports['subset']['classes']))} in photos and {done}."


def listed(names: Sequence[str]) -> str:
    """The names as "a, b and c"; of many names the first LISTED and a count."""
    if len(names) > LISTED + 1:
        names = [*names[:LISTED], f"{len(names) - LISTED} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"


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


def speeds_beside(speeds: Mapping[str, str], labels: Mapping[str, str]) -> list[str]:
    """What is said of the formats that may be as fast as the recommended one, by their verdicts of may_be_as_fast."""
    said = {verdict: verdict for verdict in speeds.values()} | {FASTER: "faster, but not known to be as accurate"}
    found = []
    for verdict, words in said.items():
        if names := [labels.get(name, name) for name, own in speeds.items() if own == verdict]:
            found.append(f"{listed(names)}: {words}")
    return found


def threshold_is(reports: Record) -> str:
    """How the score threshold was chosen: without a right prediction on val every threshold is as good."""
    if reports["operating_point"]["val"]["right"]:
        return "the best F1 on val"
    return "only the default, as no prediction on val is right"


def trained_on(training: Record) -> str:
    """The kind of processor or GPU that trained, of train's summary; another kind gives other weights.

    Summaries of earlier versions, which `dvc commit` keeps, name less.
    """
    device, processor = training.get("device", "a device that is not known"), training.get("processor")
    threads = f", {counted(training['threads'], 'thread')}" if "threads" in training else ""
    if not device.startswith("CPU"):
        return str(device)
    if processor is None:
        return f"{device}{threads}; which processor it was is not known"
    return f"{processor['name']} ({', '.join(processor['instructions'] or ['instructions unknown'])}){threads}"


def seeds_to_sentence(spread: Record | None, kind: str) -> str:
    """What other seeds gave, and from where on another experiment is better; "" without seeds of this model."""
    if spread is None:
        return ""
    parts = []
    for split in ("test", "val"):
        values = [run[f"{split}_{kind}_mAP50_95"] for run in spread["seeds"].values()]
        parts.append((min(values), max(values), split, limit_between(values, values[:1])))
    ranges = " and ".join(f"{low:.3f} to {high:.3f} on {split}" for low, high, split, _ in parts)
    limits = " and ".join(f"{limit:.3f} on {split}" for _, _, split, limit in parts)
    return (
        f"{len(spread['seeds'])} seeds gave {kind} mAP50-95 of {ranges}. A training of another experiment has to "
        f"differ from their mean by more than {limits}; seeds alone give that in one of twenty cases"
    )


def losses_of_data(reports: Record) -> list[tuple[str, str, int]]:
    """What was repaired, left out or dropped from source to labels, as (stage, reason, count) with count above 0."""
    pull, subset, fidelity = reports["pull"], reports["subset"], reports["fidelity"]
    found = [("pull", f"repaired: {reason}", count) for reason, count in pull["repaired"].items()]
    found += [("pull", f"dropped: {reason}", count) for reason, count in pull["dropped"].items()]
    found += [("subset", f"left out: {reason}", count) for reason, count in subset["instances_left_out"].items()]
    found += [("convert", f"dropped: {reason}", count) for reason, count in fidelity["dropped"].items()]
    return [row for row in found if row[2]]


def similar_asked(reports: Record) -> str:
    """With what photos a search's recall was asked, and where the answers were."""
    chosen = reports["catalogue"].get("chosen")
    if chosen is None:
        return ""

    def named(where: Mapping[str, str] | None) -> str:
        return ", ".join(f"{name} {value}" for name, value in where.items()) if where else "all"

    return f"{named(chosen['questions_from'])} against {named(chosen['answers_from'])}"


def recall_to_sentence(reports: Record) -> str:
    """What a search finds, in a sentence; "" where that was not measured."""
    catalogue = reports["catalogue"]
    if not catalogue["recall"]:
        return ""
    found = catalogue[catalogue["recall"]]
    first, ten, missed = found["recall@1"]["value"], found["recall@10"]["value"], found["missed"]
    said = (
        f"Of {counted(found['questions'], 'question')} in {counted(found['groups'], 'group')} {first:.1%} have a right "
        f"answer first and {ten:.1%} among the first ten, by chance {found['recall@1']['by_chance']:.1%} and "
        f"{found['recall@10']['by_chance']:.1%}."
    )
    if not catalogue["missed_are_known"]:
        return f"{said} Garments that the detector does not find are in no question, as there are no annotations."
    return (
        f"{said} {counted(missed, 'question')} failed because the detector did not find the garment."
        if missed
        else said
    )
