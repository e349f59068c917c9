"""What explains reports/metrics.json: tables, charts and pictures of an evaluation, written into one folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from tqdm import tqdm

from seamline.base.coco import Record
from seamline.base.files import sha256_of, write_csv, write_json
from seamline.base.splits import MEASURED_SPLITS
from seamline.charts.evaluation import (
    confidence_figure,
    confusion_figure,
    interval_figure,
    mistakes_figure,
    precision_recall_figure,
    reliability_figure,
    slices_figure,
)
from seamline.charts.style import save
from seamline.evaluation.average_precision import MAX_DETECTIONS, read_ground_truth
from seamline.evaluation.bootstrap import LEVEL, groups_showing, interval, mean_of_classes
from seamline.evaluation.calibration import RELIABILITY_HEADER, calibration
from seamline.evaluation.curves import (
    Operating,
    best_f1_threshold,
    curves_to_table,
    matches_to_operating,
    operating_to_point,
    operating_to_table,
)
from seamline.evaluation.kinds import KINDS, PLURALS, primary_kind
from seamline.evaluation.measure import MEASURES, Measured, of_measure, read_results_above, without_cycle_search
from seamline.evaluation.mistakes import (
    FOUND_IOU,
    RIGHT,
    Judged,
    confusion_matrix,
    confusion_to_rows,
    judge,
    judged_to_record,
    mistakes_by_class,
    mistakes_of,
    random_images,
    worst_images,
)
from seamline.evaluation.pictures import write_pictures
from seamline.evaluation.slices import field_of, header_of, job_to_rows
from seamline.params.evaluate import Evaluate


@without_cycle_search()
def write_evaluation(
    evaluations: dict[tuple[str, str], Measured],
    model: Path,
    split: Path,
    predictions: Path,
    images: Path,
    params: Evaluate,
    out: Path,
) -> None:
    """Everything that explains reports/metrics.json, into the folder `out`.

    Args:
        evaluations: of evaluate_files; masks are explained where they were evaluated, else boxes.
        model: what was evaluated.
        split: folder with val.json and test.json.
        predictions: folder with test_mask.json or test_box.json.
        images: folder of the image files.
        params: the section evaluate.
        out: an empty folder.
    """
    truth = {name: read_ground_truth(split / f"{name}.json") for name in MEASURED_SPLITS}
    kind = primary_kind(kind for _, kind in evaluations)
    primary = {name: evaluations[name, kind] for name in MEASURED_SPLITS}
    operating = {name: matches_to_operating(found.matches) for name, found in primary.items()}
    # The threshold is chosen on val, so that the confusion matrix and mistakes on test are not tuned on test.
    threshold = best_f1_threshold(operating["val"])
    write_json(out / "settings.json", settings(model, split, primary, params))
    write_intervals(evaluations, out)
    write_slices(primary, truth, params, kind, out)

    write_curves(primary["test"], operating, threshold, kind, params.seed, out)

    results = read_results_above(predictions / f"test_{kind}.json", threshold, kind)
    judged = judge(truth["test"], results, primary["test"].matches, threshold, kind)
    names = {number: record["name"] for number, record in truth["test"].cats.items()}
    write_mistakes(judged, names, threshold, kind, out)
    for folder, chosen in (
        ("worst", worst_images(judged, params.overlays)),
        ("sample", random_images(judged, params.overlays, params.seed)),
    ):
        write_json(out / f"{folder}.json", [judged_to_record(image, truth["test"], kind) for image in chosen])
        write_pictures(chosen, truth["test"], kind, images, out / folder)


def settings(model: Path, split: Path, primary: dict[str, Measured], section: Evaluate) -> Record:
    """What every figure was measured with and on."""
    return {
        "model": str(model),
        "model_sha256": {file.name: sha256_of(file) for file in sorted(model.iterdir())}
        if model.is_dir()
        else sha256_of(model),
        "confidence": section.confidence,
        "nms_iou": section.nms_iou,
        "max_detections": section.max_detections,
        "iou_thresholds": [round(float(value), 9) for value in section.iou_thresholds.values()],
        "detections_counted_of_a_class": list(MAX_DETECTIONS),
        "pycocotools": version("pycocotools"),
        "interval": LEVEL,
        "bootstrap_samples": section.bootstrap_samples,
        "seed": section.seed,
        **{
            name: {
                "images": len(found.matches.image_ids),
                "instances": int((~found.matches.crowd).sum()),
                "crowd_regions": int(found.matches.crowd.sum()),
                "groups": len(np.unique(found.groups)),
                "groups_sha256": hashlib.sha256(np.unique(found.groups, return_inverse=True)[1].tobytes()).hexdigest(),
                "groups_showing_an_instance": groups_showing(found.matches, found.groups),
                "sha256": sha256_of(split / f"{name}.json"),
            }
            for name, found in primary.items()
        },
    }


def write_intervals(evaluations: dict[tuple[str, str], Measured], out: Path) -> None:
    """intervals.json and per_class.json; bootstrap.csv, whose rows pair up with those of other models."""
    kinds = [kind for kind in KINDS if ("test", kind) in evaluations]
    primary = primary_kind(kinds)
    samples = {
        f"{split}_{kind}_{measure}": mean_of_classes(of_measure(evaluations[split, kind].samples, measure))
        for split in MEASURED_SPLITS
        for kind in kinds
        for measure in MEASURES
    }
    groups = {
        split: groups_showing(evaluations[split, primary].matches, evaluations[split, primary].groups)
        for split in MEASURED_SPLITS
    }
    write_csv(
        out / "bootstrap.csv",
        list(samples),
        zip(*(values.round(6).tolist() for values in samples.values()), strict=True),
    )
    write_json(
        out / "intervals.json",
        {
            split: {
                kind: {
                    measure: {
                        "value": evaluations[split, kind].summary[measure],
                        "interval": interval(
                            mean_of_classes(of_measure(evaluations[split, kind].left_out, measure)),
                            groups[split],
                            evaluations[split, kind].summary[measure],
                        ),
                    }
                    for measure in MEASURES
                }
                for kind in kinds
            }
            for split in MEASURED_SPLITS
        },
    )
    classes = {split: {kind: class_records(evaluations[split, kind]) for kind in kinds} for split in MEASURED_SPLITS}
    write_json(out / "per_class.json", classes)
    rows = [(name, found["mAP50_95"], found["mAP50_95_interval"]) for name, found in classes["test"][primary].items()]
    title = f"{PLURALS[primary].capitalize()} of each class on test, with 95% intervals"
    save(interval_figure(rows, title, "mAP50-95"), out / "per_class.png")


def class_records(measured: Measured) -> dict[str, Record]:
    """For each class: instances, images that show it, and each measure with its interval."""
    matches = measured.matches
    found = {}
    for index, (name, values) in enumerate(measured.per_class.items()):
        own = (matches.instance_class == index) & ~matches.crowd
        record: Record = {
            "instances": int(own.sum()),
            "images": len(np.unique(matches.instance_image[own])),
        }
        for measure in MEASURES:
            record[measure] = values[measure]
            record[f"{measure}_interval"] = interval(
                of_measure(measured.left_out, measure)[:, index].mean(axis=-1),
                groups_showing(matches, measured.groups, own),
                values[measure],
            )
        found[name] = record
    return found


def write_slices(primary: dict[str, Measured], truth: dict[str, COCO], params: Evaluate, kind: str, out: Path) -> None:
    """slices.csv and its chart, and slices.json, which counts the instances that no slice of a field shows."""
    fields = {
        split: [field_of(truth[split], primary[split].matches, *item) for item in params.slices.items()]
        for split in MEASURED_SPLITS
    }
    write_json(
        out / "slices.json",
        {
            split: {
                field.field: {"without_value": field.without_value, "in_smaller_slices": field.in_smaller_slices}
                for field in found
            }
            for split, found in fields.items()
        },
    )
    jobs = [
        (split, field, primary[split].matches, primary[split].groups, primary[split].weights)
        for split in MEASURED_SPLITS
        for field in fields[split]
    ]
    done = map(job_to_rows, jobs)
    rows = [row for part in tqdm(done, "slices", len(jobs), unit="field", disable=None) for row in part]
    header = header_of(kind)
    write_csv(out / "slices.csv", header, rows)
    shown = [dict(zip(header, row, strict=True)) for row in rows if row[0] == "test"]
    save(slices_figure(shown, kind), out / "slices.png")


def write_curves(
    test: Measured, operating: dict[str, Operating], threshold: float, kind: str, seed: int, out: Path
) -> None:
    """The curves of precision, recall and F1, the threshold chosen on val, and whether scores are probabilities."""
    header, rows = curves_to_table(test.curves)
    write_csv(out / "precision_recall.csv", header, rows)
    save(precision_recall_figure(table_to_columns(header, rows), kind), out / "precision_recall.png")
    header, rows = operating_to_table(operating["test"])
    write_csv(out / "confidence.csv", header, rows)
    save(confidence_figure(table_to_columns(header, rows), threshold, kind), out / "confidence.png")
    scores = calibration(test.matches, seed)
    by_chance = None if scores.by_chance is None else scores.by_chance._asdict()
    write_csv(out / "reliability.csv", RELIABILITY_HEADER, scores.rows)
    bins = [dict(zip(RELIABILITY_HEADER, row, strict=True)) for row in scores.rows]
    save(reliability_figure(bins, scores.error, by_chance), out / "reliability.png")
    write_json(
        out / "operating_point.json",
        {
            "threshold": threshold,
            "chosen_by": f"best F1 of {PLURALS[kind]} on val, mean of the classes, IoU 0.5",
            **{name: operating_to_point(found, threshold) for name, found in operating.items()},
            "test_calibration_error": scores.error,
            "test_calibration_error_by_chance": by_chance,
        },
    )


def write_mistakes(judged: list[Judged], names: dict[int, str], threshold: float, kind: str, out: Path) -> None:
    """mistakes.json by class, mistakes.csv over all classes, confusion.csv, and their charts."""
    classes = mistakes_by_class(judged, names, kind)
    totals = {mistake: sum(counts[mistake] for counts in classes.values()) for mistake in mistakes_of(kind)}
    right = sum(counts[RIGHT] for counts in classes.values())
    write_json(
        out / "mistakes.json",
        {"threshold": threshold, "iou": FOUND_IOU, "all": {RIGHT: right, **totals}, "classes": classes},
    )
    write_csv(out / "mistakes.csv", ("mistake", "count"), totals.items())
    save(mistakes_figure(totals, f"Mistakes on test, score at least {threshold:.2f}"), out / "mistakes.png")
    labels, matrix = confusion_matrix(judged, names)
    write_csv(out / "confusion.csv", ("actual", "predicted"), confusion_to_rows(labels, matrix))
    save(confusion_figure(labels, matrix, threshold, kind), out / "confusion.png")


def table_to_columns(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {key: [row[at] for row in rows] for at, key in enumerate(header)}
