"""What a reader of the report has to be careful about, in sentences made of the figures."""

from __future__ import annotations

from seamline.base.coco import Record
from seamline.base.errors import counted
from seamline.benchmark.layers import records_to_reason
from seamline.benchmark.recommendation import faster_but_not_known, recommended
from seamline.evaluation.bootstrap import FEWEST
from seamline.evaluation.seed_limits import limit_between
from seamline.export.drops import cost_to_text, why_no_interval
from seamline.models.model_facts import YOLO
from seamline.params.export import Export
from seamline.params.loading.loader import Params
from seamline.params.pull import Pull
from seamline.params.split import Split
from seamline.params.train import Train
from seamline.report.contents import kind_of, listed, losses_of_data, threshold_is

SAMPLE = "samples/garments.zip"
FEW_INSTANCES = 30  # of a class on test; a figure from fewer says little
WIDE = 0.05  # of an interval of mAP50-95
NOISY = 0.1  # spread of throughput between rounds of the benchmark
SMALL_INPUT_PX = 320
USELESS = 0.2  # mAP50


def cautions(reports: Record, params: Params) -> list[str]:
    """The gravest first."""
    found = []
    if params[Pull].source == SAMPLE:
        found.append("It was trained on the drawn pictures that come with Seamline and is useless on photos.")
    if reports["training"].get("taken_over"):
        found.append(
            "Its weights were trained by an earlier version of Seamline with these data and parameters, and taken over "
            "(seamline trainings --take); the code that this report names did not train them."
        )
    found += [
        *accuracy_cautions(reports),
        *certainty_cautions(reports),
        *weak_spots(reports),
        *data_cautions(reports, params),
        *cost_cautions(reports, params),
        *speed_cautions(reports),
    ]
    if reports["model"]["family"] == YOLO:
        found.append(
            "best.pt and the models exported from it are made with ultralytics, which is licensed under AGPL-3.0; "
            "consider that before you distribute them or offer them as a service."
        )
    return found


def accuracy_cautions(reports: Record) -> list[str]:
    """Whether the model is fit for use at all."""
    kind = kind_of(reports)
    value = reports["metrics"]["test"][kind]["mAP50"]
    if value is None:
        return ["The test split shows no instance, so nothing could be measured on it."]
    if value < USELESS:
        return [
            f"It is not fit for use: {kind} mAP50 on test is {value:.3f}. Train longer (train.epochs), on more or "
            "larger images (subset.images, train.imgsz), or from pretrained weights (train.model). Until then speed, "
            "the cost of INT8 and the agreement of the formats mean nothing either."
        ]
    return []


def certainty_cautions(reports: Record) -> list[str]:
    """How far the figures can be trusted."""
    kind, settings, spread = kind_of(reports), reports["settings"]["test"], reports["seed_spread"]
    test = reports["intervals"]["test"][kind]["mAP50_95"]
    span, groups = test["interval"], settings["groups_showing_an_instance"]
    found = []
    if span is None and groups < FEWEST:
        found.append(
            f"It is unknown how certain the figures are: the garments on test come from "
            f"{counted(groups, 'independent group')} of photos, and an interval needs {FEWEST}."
        )
    elif span is None:
        found.append(
            "It is unknown how certain the figures are: they are the same whichever part of the test set is left out."
        )
    elif span[1] - span[0] > WIDE:
        found.append(
            f"The test split is small ({counted(settings['images'], 'image')}): a {kind} mAP50-95 of "
            f"{test['value']:.3f} means something between {span[0]:.3f} and {span[1]:.3f}. Models that differ by less "
            "may be equally good; seamline compare says whether two of them are."
        )
    if spread is not None:
        values = [run[f"test_{kind}_mAP50_95"] for run in spread["seeds"].values()]
        found.append(
            f"Another seed alone changes {kind} mAP50-95 on test: {len(values)} seeds gave {min(values):.3f} to "
            f"{max(values):.3f} (reports/train/seed_spread.json). A training that differs from their mean by less than "
            f"{limit_between(values, values[:1]):.3f} may differ by chance alone."
        )
    else:
        found.append(
            f"It is one training: how far another seed or another kind of processor would change {kind} mAP50-95 is "
            "not known. make seeds trains more."
        )
    return found


def weak_spots(reports: Record) -> list[str]:
    """Classes, slices and scores to distrust."""
    kind = kind_of(reports)
    measure, test = f"{kind}_mAP50_95", reports["intervals"]["test"][kind]["mAP50_95"]
    classes = reports["per_class"]["test"][kind]
    rare = [name for name, record in classes.items() if record["instances"] < FEW_INSTANCES]
    found = [f"Little is known of {listed(rare)}: fewer than {FEW_INSTANCES} test instances."] if rare else []
    weak = [
        row
        for row in reports["slice_rows"]
        if row["split"] == "test"
        and test["interval"] is not None
        and row[f"{measure}_high"] is not None
        and row[f"{measure}_high"] < test["value"]
    ]
    for row in sorted(weak, key=lambda row: float(row[measure]))[:3]:
        found.append(
            f"Probably worse where {row['field']} is {row['value']}: {kind} mAP50-95 {row[measure]:.3f} "
            f"({row[f'{measure}_low']:.3f} to {row[f'{measure}_high']:.3f}, {counted(row['instances'], 'instance')})."
        )
    point = reports["operating_point"]
    error, by_chance = point["test_calibration_error"], point["test_calibration_error_by_chance"]
    if error is not None and error > by_chance["limit"]:
        found.append(
            f"Scores are not probabilities: they are off by {error:.3f} on average, where chance alone would give "
            f"{by_chance['mean']:.3f}, and at most {by_chance['limit']:.3f} in 95 of 100 cases "
            f"(reports/evaluate/operating_point.json). Choose a threshold by its effect; {point['threshold']:.2f} is "
            f"{threshold_is(reports)}."
        )
    return found


def data_cautions(reports: Record, params: Params) -> list[str]:
    """What the data or the parameters leave out."""
    found = []
    if "f16_refused" in reports["export"]:
        found.append(f"There is no OpenVINO model with f16 weights: {reports['export']['f16_refused']}")
    if reports["export"]["int8_refused"] is not None:
        found.append(f"There is no INT8 model: {reports['export']['int8_refused']}")
    if reports["export"]["int8_not_known"] is not None:
        found.append(f"{reports['export']['int8_not_known']} Until then INT8 is not recommended.")
    if params[Train].imgsz < SMALL_INPUT_PX:
        found.append(f"The model sees images at only {params[Train].imgsz} px; small garments are lost.")
    if params[Split].group_by is None:
        found.append(
            "No field says which photos belong together (split.group_by: null), so that only near-duplicates and "
            "versions of a photo were kept in one split. If several photos show one item, it may be in train and test, "
            "and the accuracy looks better than it is."
        )
    if params[Split].near_duplicate_bits is None:
        found.append("Near-duplicates across splits were not looked for (split.near_duplicate_bits: null).")
    lost = sum(count for _, reason, count in losses_of_data(reports) if reason.startswith("dropped"))
    if lost:
        found.append(
            f"{counted(lost, 'record')} of the source could not be used; the section Data counts them by reason."
        )
    return found


def speed_cautions(reports: Record) -> list[str]:
    """How far the benchmark's figures reach; the templates list what disturbed it."""
    benchmark, environment = reports["benchmark"], reports["environment"]
    found = []
    noisy = [name for name, row in benchmark.items() if row["throughput_spread"] > NOISY]
    if noisy:
        found.append(
            f"Speed is uncertain: the throughput of {listed(noisy)} varied by up to "
            f"{max(row['throughput_spread'] for row in benchmark.values()):.0%} between rounds."
        )
    if reason := records_to_reason(reports["benchmark_layers"]):
        found.append(reason)
    found.append(
        f"Speed depends on the machine: this was measured on {environment['processor']}, "
        f"{counted(environment['cores_used'], 'core')}. To measure on yours: dvc repro --single-item --force benchmark."
    )
    return found


def cost_cautions(reports: Record, params: Params) -> list[str]:
    """Formats that would be recommended for their speed if it were known what they cost; INT8 has its own sentence."""
    from seamline.charts.benchmark import FORMAT_LABELS

    rows, max_drop, kind = reports["benchmark"], params[Export].int8.max_drop, kind_of(reports)
    found = []
    for name in faster_but_not_known(rows, recommended(rows, max_drop), max_drop):
        row, key = rows[name], f"{kind}_mAP50_95_delta"
        if row["int8_gate"] is not None:
            continue
        interval = row[f"{key}_interval"]
        cost = cost_to_text(-row[key], None if interval is None else [-interval[1], -interval[0]])
        groups = reports["settings"]["test"]["groups_showing_an_instance"]
        few = "" if interval else f", but {why_no_interval(groups)}"
        found.append(
            f"{FORMAT_LABELS.get(name, name)} is faster than the recommended format ({row['throughput_img_s']:.0f} "
            f"images/s), and whether it costs more {kind} mAP50-95 than export.int8.max_drop ({max_drop:g}) allows is "
            f"not known: on test it {cost}{few}. Give test more photos (split.ratios)."
        )
    return found
