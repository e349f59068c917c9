"""The evaluate stage's figures: pycocotools over saved predictions, and how far each one can be trusted."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from pycocotools.coco import COCO
from tqdm import tqdm

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import read_json
from seamline.base.splits import MEASURED_SPLITS
from seamline.evaluation.average_precision import (
    Curve,
    Floats,
    Ints,
    Matches,
    Summary,
    average_precision,
    read_ground_truth,
)
from seamline.evaluation.bootstrap import (
    draw_weights,
    sample_precisions,
    weights_without,
)
from seamline.evaluation.kinds import COCO_KEYS, kinds_of_predictions
from seamline.params.evaluate import Evaluate

MEASURES = ("mAP50_95", "mAP50")  # that intervals are given for


class Job(NamedTuple):
    """One of pycocotools' runs."""

    truth: Path
    results: Path
    kind: str
    params: Evaluate


class Line(msgspec.Struct, gc=False):
    """A COCO result whose shapes are still text, a tenth of the memory."""

    image_id: int
    category_id: int
    score: float
    bbox: msgspec.Raw = msgspec.Raw()
    segmentation: msgspec.Raw = msgspec.Raw()


class Measured(NamedTuple):
    """What one of pycocotools' runs found, and its average precision over test sets drawn again."""

    summary: Summary
    per_class: dict[str, dict[str, float | None]]
    curves: list[Curve]
    matches: Matches
    groups: Ints  # (images,): what was drawn together
    samples: Floats  # (samples, classes, IoU thresholds): average precision of test sets drawn again
    weights: Ints  # (parts, images), of weights_without
    left_out: Floats  # (parts, classes, IoU thresholds): average precision without each part


def of_measure(precisions: Floats, measure: str) -> Floats:
    """(..., classes, thresholds that the measure means over) of (..., classes, thresholds)."""
    return precisions if measure == "mAP50_95" else precisions[..., :1]


@contextlib.contextmanager
def without_cycle_search() -> Iterator[None]:
    """No search for objects that refer to each other in circles, for work on many records, which never do.

    With hundreds of thousands of records alive, the search takes longer than reading or making them.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def evaluate_files(split: Path, predictions: Path, params: Evaluate) -> dict[tuple[str, str], Measured]:
    """pycocotools over saved predictions of val and test.

    Args:
        split: folder with val.json, test.json and groups.json.
        predictions: folder with val_box.json and test_box.json, and where the model finds masks with val_mask.json and
            test_mask.json.
        params: the section evaluate.

    Returns:
        What was measured of each split and kind.
    """
    wanted = [(name, kind) for name in MEASURED_SPLITS for kind in reversed(kinds_of_predictions(predictions))]
    jobs = [Job(split / f"{name}.json", predictions / f"{name}_{kind}.json", kind, params) for name, kind in wanted]
    with without_cycle_search():
        done = evaluate_in_turn(jobs)
        found = dict(zip(wanted, tqdm(done, "pycocotools", len(jobs), unit="run", disable=None), strict=True))
    give_memory_back()
    return found


def give_memory_back() -> None:
    """What was freed, to the system: glibc keeps hundreds of MB after a large split. Other systems need no asking."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def evaluate_in_turn(jobs: list[Job]) -> Iterator[Measured]:
    for path, same in groupby(jobs, key=lambda job: job.truth):
        truth = read_ground_truth(path)
        for job in same:
            yield measure(truth, read_results(job.results), job.kind, groups_beside(path), job.params)


def read_results(path: Path) -> list[Record]:
    """COCO results; msgspec reads the hundreds of MB of a large split in a third of json's time."""
    try:
        found: list[Record] = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file; the evaluate stage makes it.") from None
    except msgspec.DecodeError as error:
        raise SeamlineError(f"{path}: is not JSON ({error}).") from None
    return found


def read_results_above(path: Path, confidence: float, kind: str) -> list[Record]:
    """COCO results of that kind as read_results has them; those with a lower score have nothing but the score."""
    key = COCO_KEYS[kind]
    return [
        {
            "image_id": one.image_id,
            "category_id": one.category_id,
            "score": one.score,
            key: msgspec.json.decode(getattr(one, key)),
        }
        if one.score >= confidence
        else {"score": one.score}
        for one in msgspec.json.decode(path.read_bytes(), type=list[Line])
    ]


def groups_beside(split_file: Path) -> dict[str, int]:
    """The split stage's groups.json: image id, as text, -> number of its group."""
    path = split_file.with_name("groups.json")
    found = read_json(path)
    if not isinstance(found, dict):
        raise SeamlineError(f"{path}: is not a list of groups; the split stage makes it.")
    return found


def groups_of_images(matches: Matches, group_of: dict[str, int]) -> Ints:
    """(images,) numbers of their groups, of groups_beside.

    Raises:
        SeamlineError: when an image is in no group.
    """
    try:
        return np.array([group_of[str(number)] for number in matches.image_ids.tolist()], dtype=np.int64)
    except KeyError as error:
        raise SeamlineError(f"groups.json: lacks image {error}; the split stage makes it.") from None


def measure(truth: COCO, results: list[Record], kind: str, group_of: dict[str, int], settings: Evaluate) -> Measured:
    """One of pycocotools' runs, and its figures over the test sets that every model measured on these images gets.

    Raises:
        SeamlineError: when an image is in no group.
    """
    found = average_precision(truth, results, kind, settings.iou_thresholds)
    groups = groups_of_images(found.matches, group_of)
    drawn = draw_weights(groups, settings.bootstrap_samples, settings.seed)
    without = weights_without(groups, settings.seed)
    samples, left_out = np.split(sample_precisions(found.matches, np.concatenate([drawn, without])), [len(drawn)])
    return Measured(*found, groups, samples, without, left_out)
