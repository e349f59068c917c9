"""What the reports say, gathered: every figure of the HTML report and of the model card comes from here.

Facts are read from files in reports/ and from params.yaml alone; nothing is measured again.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.files import read_json
from seamline.params import Params
from seamline.revisions import git

CODE = ("architectures", "dvc.yaml", "seamline", "stages")
SAMPLE = "samples/garments.zip"
FEW_INSTANCES = 30  # of a class on test, below which its figure is hardly one
WIDE = 0.05  # of an interval of mask mAP50-95
NOISY = 0.1  # spread of throughput between rounds of the benchmark
OFF = 0.1  # of scores from what they should be
SMALL_INPUT_PX = 320


def read_facts(reports: Path) -> Record:
    """Everything in reports/ that the report shows.

    Raises:
        SeamlineError: naming the file that is missing or is none; dvc repro makes it.
    """
    evaluate, train = reports / "evaluate", reports / "train"
    names = ("pull", "subset", "fidelity", "split", "metrics", "export", "benchmark", "environment")
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
    """Rows of a table; what reads as a number is one, an empty cell is None."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [{key: cell_to_value(cell) for key, cell in row.items()} for row in csv.DictReader(stream)]
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file; run the stage that makes it (dvc repro).") from None


def cell_to_value(cell: str | None) -> Any:
    if not cell:
        return None
    try:
        return int(cell) if cell.lstrip("-").isdigit() else float(cell)
    except ValueError:
        return cell


def rows_to_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}


def spread_of_this_model(path: Path, metrics: Record) -> Record | None:
    """reports/train/seed_spread.json where one of its trainings is this very model; else it is of another one."""
    if not path.exists():
        return None
    found: Record = read_json(path)
    own = metrics["test"]["mask"]["mAP50_95"] or 0.0
    same = any(abs(run["test_mask_mAP50_95"] - own) < 1e-9 for run in found["seeds"].values())
    return found if same else None


def code_revision() -> Record | None:
    """The commit that last changed the code, and which of its files were changed since; None where there is no git.

    Not HEAD: a commit that changes a text or only records results leaves the model what it is.
    """
    try:
        last = git("log", "-1", "--format=%H", "--", *CODE).strip()
        changed = git("status", "--porcelain", "--", *CODE)
    except SeamlineError:
        return None
    return {"commit": last[:12], "changed_since": sorted(line[3:] for line in changed.splitlines())} if last else None


def params_to_rows(params: Params) -> list[tuple[str, str]]:
    """Every parameter of the pipeline as section.key and its value."""
    rows = []
    for section, values in msgspec.to_builtins(params).items():
        if section in ("sweep", "report"):
            continue
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
    if params.report.purpose is not None:
        return params.report.purpose
    return f"Finds {listed(list(facts['subset']['classes']))} in photos and outlines each one with a mask."


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def recommended(facts: Record, max_drop: float) -> str:
    """The fastest format whose mask mAP50-95 on test is no more than max_drop below PyTorch's."""
    rows: dict[str, Record] = facts["benchmark"]
    good = [name for name, row in rows.items() if row["mask_mAP50_95_delta"] >= -max_drop]
    return max(good, key=lambda name: float(rows[name]["throughput_img_s"]))


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
    if params.pull.source == SAMPLE:
        found.append("It was trained on the drawn pictures that come with Seamline, and is of no use on photos.")
    span = test["interval"]
    if span is None:
        found.append(
            f"The test split shows {counted(settings['test']['instances'], 'instance')}: too few for any figure."
        )
    elif span[1] - span[0] > WIDE:
        found.append(
            f"The test split is small ({counted(settings['test']['images'], 'image')}): a mask mAP50-95 of "
            f"{test['value']:.3f} means something between {span[0]:.3f} and {span[1]:.3f}. Models that differ by less "
            "may be equally good; stages/compare.py says whether two of them are."
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
            f"Clearly worse where {row['field']} is {row['value']}: mask mAP50-95 {row['mask_mAP50_95']:.3f} "
            f"({row['mask_mAP50_95_low']:.3f} to {row['mask_mAP50_95_high']:.3f}, "
            f"{counted(row['instances'], 'instance')})."
        )
    error = facts["operating_point"]["test_calibration_error"]
    if error is not None and error > OFF:
        found.append(
            f"Scores are no probabilities: they are {error:.2f} off on average (reports/evaluate/reliability.csv). "
            f"Choose a threshold by what it does; {facts['operating_point']['threshold']:.2f} had the best F1 on val."
        )
    if params.train.imgsz < SMALL_INPUT_PX:
        found.append(
            f"Images are shrunk to {params.train.imgsz} px before the model sees them; small garments are lost."
        )
    if params.split.near_duplicate_bits is None:
        found.append("Near-duplicates across splits were not looked for (split.near_duplicate_bits: null).")
    lost = sum(count for _, reason, count in losses_of_data(facts) if reason.startswith("dropped"))
    if lost:
        found.append(f"{counted(lost, 'record')} of the source could not be used; the reasons are counted under Data.")
    noisy = [name for name, row in benchmark.items() if row["throughput_spread"] > NOISY]
    if noisy:
        found.append(
            f"The machine was busy with other things while {listed(noisy)} ran: throughput varied by up to "
            f"{to_percent(max(row['throughput_spread'] for row in benchmark.values()))} between rounds."
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


def to_percent(share: float) -> str:
    return f"{100 * share:.0f}%"
