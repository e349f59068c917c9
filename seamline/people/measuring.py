"""Whether it helps to look for people first: the test split both ways, and what is to be said of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seamline.base.coco import Record, read_coco
from seamline.evaluation.average_precision import Ints, Matches, average_precision, read_ground_truth
from seamline.evaluation.bootstrap import (
    draw_weights,
    groups_showing,
    interval_of_difference,
    mean_of_classes,
    sample_precisions,
)
from seamline.evaluation.kinds import kinds_of, primary_kind
from seamline.evaluation.measure import groups_beside, groups_of_images
from seamline.inference.detector import Detector
from seamline.models.detections import Detections
from seamline.params.evaluate import Evaluate
from seamline.params.people import People
from seamline.people.detector import AnyDetector, PeopleDetector, open_people

WAYS = ("without", "with")
FIGURES = ("mAP50_95", "mAP50", "mAP_small", "mAP_medium", "mAP_large")
MANY = 3  # people in a photo from which on photos are one row
OFF: Record = {"model": None}


def measure_people(garments: Detector, people: People, split_file: Path, images: Path, params: Evaluate) -> Record:
    """Average precision and time of a split with and without people first, and which is recommended.

    Args:
        garments: with the limits of evaluate. It stays open.
        split_file: the split's COCO file, with groups.json beside it.

    Returns:
        For reports/people.json: OFF where no model is named.

    Raises:
        SeamlineError: when the people's model cannot be opened, or has no class that is people.
    """
    if people.model is None:
        return OFF
    detector = open_people(garments, Path(people.model), people, garments.device)
    kind = primary_kind(kinds_of(garments.has_masks))
    truth = read_ground_truth(split_file)
    records, milliseconds, counts = both_ways(garments, detector, split_file, images)
    detector.people.close()
    found = {way: average_precision(truth, records[way], kind, params.iou_thresholds) for way in WAYS}
    matches = {way: found[way].matches for way in WAYS}
    groups = groups_of_images(matches["with"], groups_beside(split_file))
    people_in = np.array([counts[number] for number in matches["with"].image_ids.tolist()], np.int64)
    value, span = difference(matches, groups, params)
    median = {way: float(np.median(milliseconds[way])) for way in WAYS}
    return {
        "model": people.model,
        "split": split_file.stem,
        "kind": kind,
        "images": len(people_in),
        "people": int(people_in.sum()),
        **{way: {name: found[way].summary[name] for name in FIGURES} for way in WAYS},
        "difference": value,
        "difference_interval": span,
        "by_people": by_people(matches, people_in),
        "latency_p50_ms": {way: round(median[way], 3) for way in WAYS},
        "times_as_long": round(median["with"] / median["without"], 3),
        "recommended": recommended(value, span),
        "said": sentence(kind, value, span, median["with"] / median["without"]),
    }


def both_ways(
    garments: Detector, detector: PeopleDetector, split_file: Path, images: Path
) -> tuple[dict[str, list[Record]], dict[str, list[float]], dict[int, int]]:
    """COCO results and milliseconds of each image both ways, one after the other; and how many people each shows."""
    coco = read_coco(split_file)
    category_ids = [category.id for category in coco.category_refs()]
    records: dict[str, list[Record]] = {way: [] for way in WAYS}
    milliseconds: dict[str, list[float]] = {way: [] for way in WAYS}
    counts: dict[int, int] = {}
    refs = sorted(coco.image_refs(), key=lambda ref: ref.id)
    detectors: tuple[AnyDetector, ...] = (garments, detector)
    for one in detectors:  # what is done once is not a photo's time
        one.detect(images / refs[0].file_name)
    for ref in tqdm(refs, "people first", unit="image", disable=None):
        for way, one in zip(WAYS, detectors, strict=True):
            start = time.perf_counter()
            found: Detections = one.detect(images / ref.file_name)
            milliseconds[way].append(1000 * (time.perf_counter() - start))
            records[way] += found.to_coco(ref.id, category_ids)
            if found.persons is not None:
                counts[ref.id] = len(found.persons.boxes)
    return records, milliseconds, counts


def difference(matches: dict[str, Matches], groups: Ints, params: Evaluate) -> tuple[float | None, list[float] | None]:
    """How much mAP50-95 people first gains, and the paired interval of that, over the same test sets drawn again."""
    once = np.ones((1, len(groups)), np.int64)
    weights = np.concatenate([once, draw_weights(groups, params.bootstrap_samples, params.seed)])
    values = {way: mean_of_classes(sample_precisions(matches[way], weights)) for way in WAYS}
    gained, *draws = values["with"] - values["without"]
    if np.isnan(gained):
        return None, None
    return round(float(gained), 6), interval_of_difference(
        np.array(draws), groups_showing(matches["with"], groups), float(gained)
    )


def by_people(matches: dict[str, Matches], people_in: Ints) -> list[Record]:
    """mAP50-95 on the photos that show nobody, one person, and so on."""
    rows = []
    names = ["0", *map(str, range(1, MANY)), f"{MANY} or more"]
    for number, name in enumerate(names):
        chosen = np.minimum(people_in, MANY) == number
        row: Record = {"people": name, "images": int(chosen.sum())}
        for way in WAYS:
            counted = chosen[matches[way].instance_image]
            weights = np.ones((1, len(people_in)), np.int64)
            [value] = mean_of_classes(sample_precisions(matches[way], weights, counted))
            row["instances"] = int(counted.sum())
            row[way] = None if np.isnan(value) else round(float(value), 6)
        rows.append(row)
    return rows


def recommended(value: float | None, span: Sequence[float] | None) -> bool | None:
    """Whether it is known to help; None where that is not known either way."""
    if value is None or span is None:
        return None
    return True if span[0] > 0 else False if span[1] <= 0 else None


def sentence(kind: str, value: float | None, span: Sequence[float] | None, times: float) -> str:
    cost = f"A photo takes {times:.1f} times as long."
    if value is None:
        return f"The split shows no instance, so nothing could be measured on it. {cost}"
    interval = "" if span is None else f" ({span[0]:+.3f} to {span[1]:+.3f})"
    changed = f"Looking for people first changes the {kind} mAP50-95 by {value:+.3f}{interval}."
    verdict = {
        True: "It helps here, and is recommended where the time matters less.",
        False: "It does not help here, and is not recommended.",
        None: "That is not known to be a gain, so it is not recommended.",
    }[recommended(value, span)]
    return f"{changed} {verdict} {cost}"
