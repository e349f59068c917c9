"""The trainings of a comparison of families: a small search for each model, then the chosen setting with every seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import copy
from seamline.base.processors import note_processor, processor_of_training, times_written
from seamline.base.splits import MEASURED_SPLITS
from seamline.evaluation.average_precision import average_precision, read_ground_truth
from seamline.evaluation.kinds import kinds_of
from seamline.evaluation.measure import Measured, groups_beside, measure
from seamline.experiments.compute import compute_of
from seamline.experiments.fairness import Entrant, Fair, rates_to_try, with_setting
from seamline.experiments.training_alone import train_alone
from seamline.inference.detector import Detector
from seamline.inference.predictions import predict_split
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import Params
from seamline.params.train import Train
from seamline.training.devices import find_device, is_cpu, processes_of
from seamline.training.finished import FINISHED, MAX_FINISHED, Training, holding, stored_training, trainings_folder
from seamline.training.run import identity_of_params
from seamline.training.trial import DIVERGED


class Data(NamedTuple):
    """Where the project's data lie."""

    split: Path
    labelled: Path  # images and labels, for the trainers
    images: Path


class Trial(NamedTuple):
    """A training of the search."""

    lr0: float
    value: float | None  # mAP50-95 on val, of the comparison's kind of shapes; None: it diverged
    training: Record | None


class Seeded(NamedTuple):
    """The chosen setting trained with one seed, and what it finds on test."""

    seed: int
    training: Record
    kinds: tuple[str, ...]  # of shapes that it finds
    test: dict[str, Measured]  # of each kind


class Contest(NamedTuple):
    """All trainings of one model."""

    entrant: Entrant
    trials: list[Trial]
    lr0: float  # the best one on val
    seeds: list[Seeded]
    weights: Path  # a copy of the first seed's


class Trainings:
    """Makes them one after the other, says how far that is, and stores them all."""

    def __init__(self, fair: Fair, data: Data, trials: int, seeds: Sequence[int]) -> None:
        self.fair, self.data, self.seeds = fair, data, seeds
        self.rates = {
            one.model: rates_to_try(one.params[Train].lr0, trials) for one in fair.entrants
        }  # before hours are spent
        # The best trial is the training of the first seed as well.
        self.count = len(fair.entrants) * (trials + len(seeds) - 1)
        self.scratch = trainings_folder()
        self.before = times_written(self.scratch / FINISHED)
        self.done: set[str] = set()

    def check(self) -> None:
        """Raises SeamlineError, before the first training, where one cannot begin or there is nothing to measure."""
        for name in MEASURED_SPLITS:
            if not read_ground_truth(self.data.split / f"{name}.json").anns:
                raise SeamlineError(f"families: {name} has no instances; give it a larger share in split.ratios.")
        for one in self.fair.entrants:
            identity_of_params(one.params, self.data.split, self.data.labelled)

    def contest(self, entrant: Entrant, folder: Path) -> Contest:
        """All trainings of a model; a copy of the first seed's weights lies in the folder then."""
        trials = [self.trial(entrant, lr0) for lr0 in self.rates[entrant.model]]
        best = max(trials, key=lambda trial: -1.0 if trial.value is None else trial.value)  # the first of several
        if best.value is None:
            raise SeamlineError(
                f"families: {entrant.model} diverged with every train.lr0 that was tried "
                f"({', '.join(f'{trial.lr0:g}' for trial in trials)}); lower train.lr0, or raise --trials."
            )
        seeded = []
        for seed in self.seeds:
            with self.training(entrant, best.lr0, seed) as (training, record):
                if seed == self.seeds[0]:
                    copy(training.weights, folder / "best.pt")
                seeded.append(self.seeded(entrant, training, record, seed))
        return Contest(entrant, trials, best.lr0, seeded, folder / "best.pt")

    def trial(self, entrant: Entrant, lr0: float) -> Trial:
        """A training of the search, measured on val; one that diverges is a trial as well."""
        limits, kind, split_file = entrant.params[Evaluate], self.fair.kind, self.data.split / "val.json"
        try:
            with self.training(entrant, lr0, self.seeds[0]) as (training, record):
                with opened(training.weights, limits) as detector:
                    records = predict_split(detector, split_file, self.data.images, "val")
                truth = read_ground_truth(split_file)
                value = average_precision(truth, records, kind, limits.iou_thresholds).summary["mAP50_95"]
        except SeamlineError as error:
            if DIVERGED not in str(error):
                raise
            print(f"{entrant.model}, lr0 {lr0:g}: {DIVERGED}", flush=True)
            return Trial(lr0, None, None)
        if value is None:
            raise SeamlineError(f"{split_file}: shows no instance, so that no training can be chosen by it.")
        print(f"{entrant.model}, lr0 {lr0:g}: {kind} mAP50-95 on val {value:.3f}", flush=True)
        return Trial(lr0, value, record)

    def seeded(self, entrant: Entrant, training: Training, record: Record, seed: int) -> Seeded:
        limits, test = entrant.params[Evaluate], self.data.split / "test.json"
        with opened(training.weights, limits) as detector:
            found, kinds = predict_split(detector, test, self.data.images, "test"), kinds_of(detector.has_masks)
        truth, groups = read_ground_truth(test), groups_beside(test)
        measured = {kind: measure(truth, found, kind, groups, limits) for kind in kinds}
        value = measured[self.fair.kind].summary["mAP50_95"]
        said = "-" if value is None else f"{value:.3f}"
        print(f"{entrant.model}, seed {seed}: {self.fair.kind} mAP50-95 on test {said}", flush=True)
        return Seeded(seed, record, kinds, measured)

    @contextmanager
    def training(self, entrant: Entrant, lr0: float, seed: int) -> Iterator[tuple[Training, Record]]:
        """A finished training, and what the report says of it."""
        params, data = with_setting(entrant.params, lr0, seed), self.data
        identity = identity_of_params(params, data.split, data.labelled)
        if identity.key not in self.done:
            self.done.add(identity.key)
            number = f"training {len(self.done)} of {self.count}"
            stored = "" if stored_training(self.scratch, identity.key) is None else ", trained before"
            print(f"{number}: {entrant.model}, lr0 {lr0:g}, seed {seed}{stored}", flush=True)
        if stored_training(self.scratch, identity.key) is None:
            # No training of anybody else is thrown away for these.
            train_alone(params, data.split, data.labelled, self.scratch, MAX_FINISHED + self.count)
        with holding(self.scratch, identity.key):
            training = stored_training(self.scratch, identity.key)
            if training is None:
                raise SeamlineError("families: a training was deleted while it was needed; run the same command again.")
            note_processor(training.weights.parent, self.before)
            yield training, training_to_record(training, identity.key, compute_of(self.scratch, identity.key), params)


def opened(weights: Path, limits: Evaluate) -> Detector:
    """As the evaluate stage opens it."""
    return Detector(weights, limits.confidence, limits.nms_iou, limits.max_detections, device=limits.device)


def training_to_record(training: Training, key: str, compute: Record | None, params: Params) -> Record:
    """What made it, what it took, and how far it came."""
    facts = training.facts
    device = find_device(params[Train].device, params[Train].batch)
    gpus = 0 if is_cpu(device) else processes_of(device)
    processor = processor_of_training(training.weights.parent, facts)
    return {
        "key": key,
        "training_revision": facts["training_revision"],
        "device": facts["device"],
        "threads": facts["threads"],
        "processor": None if processor is None else processor["name"],
        "epochs": len(training.history),
        "best_epoch": facts["best_epoch"],
        "resumed_after": facts["resumed_after"],
        "processor_s": None if compute is None else compute["processor_s"],
        "wall_s": None if compute is None else compute["wall_s"],
        "gpu_hours": None if compute is None or not gpus else round(gpus * compute["wall_s"] / 3600, 4),
        **{name: facts[name] for name in ("weights_sha256",) if name in facts},
    }
