"""Models side by side, and whether a difference means anything.

There are two kinds of noise. The test images could have been others: a paired bootstrap, which the evaluate stage draws
for every model from the same images, says how much the difference varies then. And the same training with another
seed gives another model: reports/train/seed_spread.json has those of several seeds. A model is better when neither
explains the difference, nor both together; with one seed of each experiment the second one is not known, and said so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError, some
from seamline.benchmark.figures import FEWEST_ROUNDS
from seamline.evaluation.average_precision import Floats
from seamline.evaluation.bootstrap import FEWEST, interval_of_difference
from seamline.evaluation.kinds import KINDS, primary_kind
from seamline.evaluation.seed_limits import OverSeeds, is_beyond, over_seeds
from seamline.experiments.revisions import WORKSPACE, Revision, read_at, revision
from seamline.report.contents import plain, text_to_rows
from seamline.report.records import named

SAME = "equal"
IN_NOISE = "within noise"
IN_SEEDS = "within the spread of seeds"
ONE_SEED = "with these seeds, not known with others"
OTHER_DATA = "not comparable"
NOTHING = "nothing to measure"
ONE_RUN = "not measured again"
OTHER_TIME = "the machine was busier in one of them"  # the rounds of one run say nothing about another day
# Two models' draws are pairs when these are equal.
PAIRED_BY = ("interval", "bootstrap_samples", "seed")
MEASURED_BY = ("confidence", "nms_iou", "max_detections", "iou_thresholds")


class Model(NamedTuple):
    """A revision's reports on its model."""

    revision: Revision
    params: Record
    settings: Record
    metrics: Record
    samples: dict[str, Floats]  # columns of bootstrap.csv
    per_class: Record
    benchmark: Record
    environment: Record
    validation: list[Record]
    seed_spread: Record
    sample: list[Record]

    @property
    def name(self) -> str:
        return self.revision.name

    @property
    def kind(self) -> str:
        """What its primary metric is about: "mask", or "box" for a model that finds boxes only."""
        return primary_kind(self.metrics["test"])


class Difference(NamedTuple):
    """One measure of the first model and of another."""

    measure: str
    first: float | None
    other: float | None
    difference: float | None
    interval: list[float] | None  # of the difference
    seeds: OverSeeds | None  # None: one training of each, or nothing to compare
    verdict: str


class Comparison(NamedTuple):
    """Models, the differences of each other one from the first, and the parameters whose values differ."""

    models: list[Model]
    tables: list[tuple[Model, list[Difference]]]
    changed: list[tuple[str, list[str]]]


def read_comparison(names: Sequence[str], reports: Path) -> Comparison:
    """Revisions by name compared; a single one is compared with the workspace.

    Raises:
        SeamlineError: when a revision does not exist, or lacks a report.
    """
    names = list(dict.fromkeys(names))
    if len(names) == 1:
        names = [*names, WORKSPACE] if names != [WORKSPACE] else ["HEAD", WORKSPACE]
    first, *others = (read_model(revision(name), reports) for name in names)
    tables = [(other, accuracy_differences(first, other) + speed_differences(first, other)) for other in others]
    return Comparison([first, *others], tables, parameters_that_differ([first, *others]))


def comparison_to_lines(comparison: Comparison) -> list[str]:
    """Every table and the changed parameters, for a terminal."""
    lines = []
    for other, differences in comparison.tables:
        lines += [*differences_to_lines(comparison.models[0], other, differences), ""]
    for key, values in comparison.changed:
        pairs = zip(values, comparison.models, strict=True)
        lines.append(f"{key}: {', '.join(f'{value} ({model.name})' for value, model in pairs)}")
    return lines


def read_model(revision: Revision, reports: Path) -> Model:
    """The reports of a revision.

    Raises:
        SeamlineError: naming the revision and the missing file.
    """
    evaluate = reports / "evaluate"
    if not Path("params.yaml").is_file():
        raise SeamlineError("params.yaml: there is no such file; run stages from the project's top folder.")

    def read(path: Path) -> Any:
        try:
            return named(json.loads(read_at(revision, path)), f"{revision.name}: {path}")
        except ValueError as error:
            raise SeamlineError(f"{revision.name}: its {path} is not JSON ({error}).") from None

    def rows(path: Path) -> list[Record]:
        return text_to_rows(read_at(revision, path).decode(), f"{revision.name}: {path}")

    samples = rows(evaluate / "bootstrap.csv")
    settings = read(evaluate / "settings.json")
    if not {"groups_sha256", "groups_showing_an_instance"} <= settings.get("test", {}).keys():
        raise SeamlineError(f"{revision.name}: its reports are of another version of Seamline; run dvc repro there.")
    columns = samples[0] if samples else {}
    return Model(
        revision=revision,
        params=yaml.safe_load(read_at(revision, Path("params.yaml"))),
        settings=settings,
        metrics=read(reports / "metrics.json"),
        samples={key: np.array([row[key] for row in samples], dtype=np.float64) for key in columns},
        per_class=read(evaluate / "per_class.json"),
        benchmark=read(reports / "benchmark.json"),
        environment=read(reports / "environment.json"),
        validation=rows(reports / "train" / "validation.csv"),
        seed_spread=read(reports / "train" / "seed_spread.json"),
        sample=read(evaluate / "sample.json"),
    )


def accuracy_differences(first: Model, other: Model) -> list[Difference]:
    """Each measure of test and val that both have, masks before boxes."""
    found = []
    for split in ("test", "val"):
        why_not = why_not_comparable(first, other, split)
        for kind in (kind for kind in reversed(KINDS) if all(kind in model.metrics[split] for model in (first, other))):
            for measure in ("mAP50_95", "mAP50"):
                found.append(difference_of(first, other, f"{split}_{kind}_{measure}", why_not))
    return found


def why_not_comparable(first: Model, other: Model, split: str) -> str:
    """What differs in how two models were measured; "" when annotations and settings are equal."""
    if first.settings[split]["sha256"] != other.settings[split]["sha256"]:
        return f"different {split} photos or annotations"
    differing = [f"evaluate.{key}" for key in MEASURED_BY if first.settings[key] != other.settings[key]]
    return f"{', '.join(differing)} differ{'s' if len(differing) == 1 else ''}" if differing else ""


def difference_of(first: Model, other: Model, measure: str, why_not: str) -> Difference:
    split, kind, key = measure.split("_", 2)
    ours, theirs = (model.metrics[split][kind][key] for model in (first, other))
    if ours is None or theirs is None:
        return Difference(measure, ours, theirs, None, None, None, NOTHING)
    difference = theirs - ours
    if why_not:
        return Difference(measure, ours, theirs, difference, None, None, f"{OTHER_DATA}: {why_not}")
    paired = all(first.settings[key] == other.settings[key] for key in PAIRED_BY) and all(
        first.settings[split][key] == other.settings[split][key] for key in ("groups", "groups_sha256")
    )
    groups = first.settings[split]["groups_showing_an_instance"]
    draws = other.samples[measure] - first.samples[measure] if paired else None
    span = None if draws is None else interval_of_difference(draws, groups, difference)
    if draws is None:
        why_unknown = "the bootstraps drew different test sets"
    elif groups < FEWEST:
        why_unknown = f"{groups} groups of {split} photos, an interval needs {FEWEST}"
    else:
        why_unknown = "every drawn test set gives the same difference"
    seeds = over_seeds(figures_of_seeds(first, measure, ours), figures_of_seeds(other, measure, theirs))
    return Difference(measure, ours, theirs, difference, span, seeds, verdict(difference, span, seeds, why_unknown))


def verdict(difference: float, span: Sequence[float] | None, seeds: OverSeeds | None, why_unknown: str) -> str:
    """What a difference means; without an interval that is unknown.

    "better" and "worse" have at most 5% false alarms, seeds and photos together (tests/experiments/test_comparing.py).
    """
    if difference == 0:
        return SAME
    if span is None:
        return f"unknown: {why_unknown}"
    if span[0] <= 0 <= span[1]:
        return IN_NOISE
    direction = "better" if difference > 0 else "worse"
    if seeds is None:
        return f"{direction} {ONE_SEED}"
    return direction if is_beyond(seeds, difference, span) else f"{direction}, but {IN_SEEDS}"


def figures_of_seeds(model: Model, measure: str, own: float) -> list[float]:
    """The figure of each training of a model's seeds; its own alone unless it is among them."""
    runs = [run[measure] for run in model.seed_spread["seeds"].values() if measure in run]
    return runs if any(abs(value - own) < 1e-9 for value in runs) else [own]


def speed_differences(first: Model, other: Model) -> list[Difference]:
    """Images a second of each format that both have; without interval, since they ran at different times.

    One is faster where each median lies outside of the range in which the other run expects that of another run.
    """
    found = []
    for name, row in first.benchmark.items():
        if name not in other.benchmark:
            continue
        measure, theirs = f"{name} images/s", other.benchmark[name]
        ours = row["throughput_img_s"]
        if row == theirs:  # two runs never take the same time to the last digit
            found.append(Difference(measure, ours, ours, None, None, None, ONE_RUN))
            continue
        difference = theirs["throughput_img_s"] - ours
        ranges = [one["throughput_interval_img_s"] for one in (row, theirs)]
        if first.environment != other.environment:
            said = f"{OTHER_DATA}: different machines or versions ({some(what_differs(first, other))})"
        elif None in ranges:
            said = f"unknown: a range needs {FEWEST_ROUNDS} rounds"
        elif lies_in(theirs["throughput_img_s"], ranges[0]) or lies_in(ours, ranges[1]):
            said = f"{IN_NOISE}: another run may differ as much"
        else:
            said = f"{'faster' if difference > 0 else 'slower'}, or {OTHER_TIME}"
        found.append(Difference(measure, ours, theirs["throughput_img_s"], difference, None, None, said))
    return found


def lies_in(value: float, interval: Sequence[float]) -> bool:
    return interval[0] <= value <= interval[1]


def what_differs(first: Model, other: Model) -> list[str]:
    """Which entries of reports/environment.json are not the same in both."""
    ours, theirs = (dict(flattened(model.environment)) for model in (first, other))
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))


def parameters_that_differ(models: Sequence[Model]) -> list[tuple[str, list[str]]]:
    """Each parameter whose value is not the same everywhere, with its values."""
    flat = [dict(flattened(model.params)) for model in models]
    keys = sorted({key for one in flat for key in one})
    rows = [(key, [one.get(key, "-") for one in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def flattened(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    if not isinstance(values, dict):
        return [(prefix, plain(values))]
    return [pair for key, one in values.items() for pair in flattened(one, f"{prefix}.{key}" if prefix else str(key))]


def differences_to_lines(first: Model, other: Model, differences: Sequence[Difference]) -> list[str]:
    """A table for the terminal."""
    width = max(len(row.measure) for row in differences)
    names = [shortened(model.name) for model in (first, other)]
    lines = [f"{'':<{width}}  {names[0]:>12}  {names[1]:>12}  {'difference':>10}  {'95% interval':>18}  verdict"]
    for row in differences:
        figures = [
            "-" if value is None else f"{value:.1f}" if "images/s" in row.measure else f"{value:.4f}"
            for value in (row.first, row.other)
        ]
        digits = 1 if "images/s" in row.measure else 4
        difference = "-" if row.difference is None else f"{row.difference:+.{digits}f}"
        span = "" if row.interval is None else " to ".join(f"{value:+.{digits}f}" for value in row.interval)
        lines.append(
            f"{row.measure:<{width}}  {figures[0]:>12}  {figures[1]:>12}  {difference:>10}  {span:>18}  {row.verdict}"
        )
    return lines


def shortened(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}~"
